"""The real daemon as a child process, for tests and benches: start, ask, kill, stop.

It runs `python -m cdp` on free loopback ports with a configuration of its own in a directory of
its own, and keeps its ports over restarts, so that clients may go on where they were. Ends only
what it started, by process id.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WRITE_KEY = "bench-key"
WEBHOOK_SECRET = "a webhook secret of the tests, long enough"
IDENTITY_KEY = "0123456789abcdef" * 4
ENVIRON = {"CDP_IDENTITY_KEY": IDENTITY_KEY, "CDP_WEBHOOK_SECRET": WEBHOOK_SECRET}
READY_TIMEOUT_S = 60.0
Json = dict[str, Any]


@dataclass
class Settings:
    """What of the configuration tests vary. `tables` is more TOML, as it stands."""

    webhook_url: str | None = None
    limits: dict[str, float] = field(default_factory=dict)
    tables: str = ""


class Daemon:
    """One daemon in one directory. `start` and `kill` may alternate as often as one likes."""

    def __init__(self, directory: Path, settings: Settings, *, wrapper: list[str] | None = None):
        self.directory = directory
        self.port, self.control_port = _free_ports(2)
        self.config = directory / "cdp.toml"
        self.journal = directory / "journal.ndjson"
        self._wrapper = wrapper or [sys.executable, "-m", "cdp"]
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(_configuration(self.port, self.control_port, settings))

    @property
    def url(self) -> str:
        """The data plane."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon is not running"
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Starts it and, unless told otherwise, waits until both planes answer."""
        assert self._process is None, "one daemon at a time"
        environment = {
            **os.environ,
            "CDP_IDENTITY_KEY": IDENTITY_KEY,
            "CDP_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "PYTHONPATH": str(ROOT),
        }
        with self.journal.open("ab") as journal:
            self._process = subprocess.Popen(
                [*self._wrapper, "--config", str(self.config), "run"],
                cwd=self.directory,
                env=environment,
                stdout=journal,
                stderr=journal,
            )
        if wait:
            self.wait_until(self.takes_events, "to take events", READY_TIMEOUT_S)
            self.wait_until(lambda: self.ask("/healthz"), "to answer", READY_TIMEOUT_S)

    def kill(self) -> None:
        """`kill -9`: no handler runs, nothing is flushed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM: drains, and returns the exit code."""
        assert self._process is not None, "the daemon is not running"
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        finally:
            self.kill()

    def takes_events(self) -> bool:
        """Whether the data plane accepts connections."""
        try:
            socket.create_connection(self.address, timeout=1).close()
        except OSError:
            return False
        return True

    def ask(self, path: str) -> Json:
        """The control plane's JSON answer. Raises HTTPError where it is no success."""
        url = f"http://127.0.0.1:{self.control_port}{path}"
        with urllib.request.urlopen(url, timeout=30) as response:
            answer: Json = json.load(response)
            return answer

    def status(self) -> Json:
        """Lags, and the conservation law of every source and destination."""
        return self.ask("/v1/status")

    def wait_until(self, holds: Any, what: str, timeout_s: float) -> None:
        """Asks until `holds()` is true. A failure shows the end of the journal."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                if holds():
                    return
            except (OSError, http.client.HTTPException):
                pass  # it is not there yet, or just gone
            exited = self._process is not None and self._process.poll() is not None
            if exited or time.monotonic() > until:
                reason = "it exited" if exited else f"waited {timeout_s:.0f} s"
                raise AssertionError(f"the daemon was expected {what}; {reason}:\n{self.tail()}")
            time.sleep(0.02)

    def tail(self, lines: int = 30) -> str:
        """The end of the journal."""
        if not self.journal.exists():
            return ""
        return "\n".join(self.journal.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _configuration(port: int, control_port: int, settings: Settings) -> str:
    limits = "\n".join(f"{name} = {value}" for name, value in settings.limits.items())
    webhook = _WEBHOOK.format(url=settings.webhook_url) if settings.webhook_url else ""
    return _TEMPLATE.format(
        port=port,
        control_port=control_port,
        write_key=WRITE_KEY,
        limits=limits,
        webhook=webhook,
        tables=settings.tables,
    )


_TEMPLATE = """\
data_dir = "data"

[gateway]
host = "127.0.0.1"
port = {port}

[control]
host = "127.0.0.1"
port = {control_port}

[sources.shop]
kind = "server"
write_key = "{write_key}"

[consent.defaults]
analytics = "granted"

[identity]
key = "env:CDP_IDENTITY_KEY"

[limits]
{limits}
{webhook}
{tables}
"""

_WEBHOOK = """
[destinations.hook]
type = "webhook"
purposes = ["analytics"]

[destinations.hook.settings]
url = "{url}"
secrets = ["env:CDP_WEBHOOK_SECRET"]
allow_http = true
allow_private = true
"""
