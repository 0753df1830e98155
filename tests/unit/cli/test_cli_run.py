"""One signal drains, the second does not wait; the addresses are what a script reads."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import trio
from rich.console import Console

from cdp.cli.run import _announce, _watch_signals
from cdp.cli.shell import Shell
from cdp.config import Config, Gateway
from cdp.system import SystemClock
from cdp.telemetry import Journal


def quiet_shell():
    return Shell(out=Console(file=io.StringIO(), width=200), err=Console(file=io.StringIO()))


class Ports:
    data = 8080
    control = 40_123


async def test_the_first_signal_drains_and_the_second_stops_at_once():
    stopping, at_once = trio.Event(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, stopping, at_once, quiet_shell())
        signal.raise_signal(signal.SIGTERM)
        await stopping.wait()
        assert not at_once.cancel_called
        signal.raise_signal(signal.SIGINT)
    assert at_once.cancel_called


def test_the_addresses_are_those_that_were_bound():
    shell = quiet_shell()
    lines = []
    journal = Journal(SystemClock(), lines.append)
    _announce(Config(gateway=Gateway(host="::", port=0)), shell, journal, Ports())
    assert '"event":"started","port":8080,"control_port":40123' in lines[0]
    assert shell.out.file.getvalue() == (
        "data plane     http://[::]:8080\ncontrol plane  http://127.0.0.1:40123\n"
    )


def test_a_configuration_that_cannot_run_is_exit_code_2(tmp_path):
    (tmp_path / "cdp.toml").write_text("[gateway]\nprot = 1")
    done = subprocess.run(
        [sys.executable, "-m", "cdp", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "gateway.prot: unknown key; did you mean port?" in done.stderr
    assert "Traceback" not in done.stderr
