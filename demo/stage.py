"""The processes of the demo: the daemon, the receiver, and commands as a person types them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
_MARK = ".cdp-demo"
READY_TIMEOUT_S = 60.0

CONFIG = """\
# The demo's configuration. `cdp init` writes one with every comment.
data_dir = "data"

[gateway]
port = {gateway_port}

[control]
port = {control_port}
token = "file:secrets/control.token"

[sources.website]                 # played from Python here; a browser's key would be public, and
kind = "server"                   # what it grants would count only with `grants` and its origins
write_key = "wk_website"

[sources.backend]
kind = "server"
write_key = "wk_backend"

[consent.defaults]                # for events that say nothing about consent
analytics = "granted"
marketing = "denied"

[destinations.crm]                # in a process of its own, which is down for a while
type = "webhook"
purposes = ["marketing"]
{crm_settings}

[destinations.archive]
type = "file"
purposes = ["analytics"]
{archive_settings}

[identity]
key = "file:secrets/identity.key"

[limits]
backoff_s_min = 0.2               # a demo has no time for real ones
backoff_s_max = 1.0
"""


class Stage:
    """One directory, one daemon, one receiver. `close` ends what was started, and nothing else."""

    def __init__(self, directory: Path) -> None:
        self.directory = _emptied(directory)
        self.config = self.directory / "cdp.toml"
        self.received = self.directory / "crm-received.ndjson"
        self.journal = self.directory / "journal.ndjson"
        self.gateway_port, self.control_port, self.crm_port = _free_ports(3)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._crm: subprocess.Popen[bytes] | None = None

    @property
    def gateway(self) -> str:
        """Where SDKs send."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def control(self) -> str:
        """Where the command line asks."""
        return f"http://127.0.0.1:{self.control_port}"

    def set_up(self, crm_settings: str, archive_settings: str) -> None:
        """Writes the secrets as an operator would, and the demo's own configuration."""
        self.cdp("init", str(self.directory))
        text = CONFIG.format(
            gateway_port=self.gateway_port,
            control_port=self.control_port,
            crm_settings=crm_settings,
            archive_settings=archive_settings,
        )
        self.config.write_text(text, encoding="utf-8")

    def start_daemon(self) -> None:
        """Starts `cdp run` and waits until it takes events."""
        with self.journal.open("ab") as journal:
            self._daemon = subprocess.Popen(
                [*self._command(), "run"],
                stdout=journal,
                stderr=journal,
                cwd=self.directory,
                start_new_session=True,  # Ctrl-C is for the demo, which then drains the daemon
            )
        wait_until(self._ready, "the daemon to start", self.tail)

    def _ready(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            raise SystemExit(f"the daemon exited with {self._daemon.returncode}:\n{self.tail()}")
        return _answers(f"{self.control}/readyz") and _listens(self.gateway_port)

    def start_crm(self) -> None:
        """Starts the receiver, which appends to what it received before."""
        command = [sys.executable, str(HERE / "receiver.py"), str(self.crm_port)]
        self._crm = subprocess.Popen([*command, str(self.received)], start_new_session=True)
        wait_until(lambda: _listens(self.crm_port), "the receiver to start", lambda: "")

    def stop_crm(self) -> None:
        """Ends the receiver, as an outage would."""
        if self._crm is not None:
            self._crm.kill()
            self._crm.wait()
            self._crm = None

    def cdp(self, *arguments: str) -> str:
        """Runs one command to its end and returns what it printed. Exits where it failed."""
        done = subprocess.run(
            [*self._command(), *arguments],
            env={**os.environ, "COLUMNS": str(shutil.get_terminal_size((110, 40)).columns)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"cdp {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """The JSON answer of a command."""
        return json.loads(self.cdp(*arguments, "--json"))

    def crm_deliveries(self) -> dict[str, str]:
        """What the CRM received: the kind of each delivery by its id."""
        if not self.received.exists():
            return {}
        bodies = map(json.loads, self.received.read_text(encoding="utf-8").splitlines())
        return {item["deliveryId"]: item["kind"] for body in bodies for item in body["batch"]}

    def archived(self) -> list[str]:
        """The kind of each delivery in the archive, in finished files and the open one.

        Looked at twice and counted by delivery: a file may be given its final name meanwhile.
        """
        kinds: dict[str, str] = {}
        for pattern in ("*.jsonl", ".part-*") * 2:
            for file in self.directory.glob(f"archive/{pattern}"):
                with suppress(FileNotFoundError):
                    lines = file.read_text(encoding="utf-8").splitlines()
                    kinds |= {one["deliveryId"]: one["kind"] for one in map(json.loads, lines)}
        return list(kinds.values())

    def tail(self) -> str:
        """The end of the daemon's journal."""
        if not self.journal.exists():
            return ""
        return "\n".join(self.journal.read_text(errors="replace").splitlines()[-15:])

    def stop_daemon(self) -> int:
        """SIGTERM, and its exit code."""
        if self._daemon is None:
            return 0
        self._daemon.send_signal(signal.SIGTERM)
        try:
            code = self._daemon.wait(30)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            code = self._daemon.wait()
        self._daemon = None
        return code

    def close(self) -> None:
        """Ends what runs."""
        self.stop_daemon()
        self.stop_crm()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "cdp", "--config", str(self.config)]


def wait_until(holds: Callable[[], bool], what: str, explain: Callable[[], str]) -> None:
    """Asks every 50 ms until it holds. Exits with an explanation where it takes too long."""
    until = time.monotonic() + READY_TIMEOUT_S
    while not holds():
        if time.monotonic() > until:
            raise SystemExit(f"waited {READY_TIMEOUT_S:.0f} s for {what}\n{explain()}")
        time.sleep(0.05)


def _emptied(directory: Path) -> Path:
    """A fresh directory. One that the demo did not make itself is never touched."""
    if directory.exists() and not (directory / _MARK).exists() and any(directory.iterdir()):
        raise SystemExit(f"{directory} is there already, and is not the demo's; say another one")
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / _MARK).touch()
    return directory


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(one.getsockname()[1]) for one in held]
    for one in held:
        one.close()
    return ports
