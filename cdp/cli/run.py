"""`cdp run`: the daemon, until it is told to stop.

SIGTERM and SIGINT drain: nothing new is taken, what was taken is finished and stored, and the
process exits 0. A second signal does not wait.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from cdp.cli.control import address
from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, Shell
from cdp.config import load
from cdp.system import real_environment, spare_collections, write_no_core_files
from cdp.telemetry import Journal

if TYPE_CHECKING:
    import argparse

    from cdp.app import Ports
    from cdp.config import Config

NAME: Final = "run"
SUMMARY: Final = "start the daemon; Ctrl-C or SIGTERM drains it and stops"
EXAMPLES: Final = """\
examples:
  cdp run
  cdp --config /etc/cdp/cdp.toml run

The journal goes to standard error, one JSON object a line. Exit codes: 0 drained, 1 gave up,
2 configuration, 3 damaged store, 4 the data directory is in use.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Runs the daemon to its end."""
    config = load(shell.config_path, shell.environ)
    environment = real_environment(config)
    # Imported here: `cdp --help` and the verbs that only ask need neither the database nor Rust.
    from cdp.app import run

    spare_collections()
    write_no_core_files()
    stopping = trio.Event()
    with trio.CancelScope() as at_once:
        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, stopping, at_once, shell)
            await run(
                config,
                environment,
                stopping=stopping,
                started=partial(_announce, config, shell, Journal(environment.clock)),
            )
            nursery.cancel_scope.cancel()
    return EXIT_FAILED if at_once.cancelled_caught else EXIT_OK


def _announce(config: Config, shell: Shell, journal: Journal, ports: Ports) -> None:
    """The addresses, on standard output: what a script waits for and a person copies."""
    journal.info("started", port=ports.data, control_port=ports.control)
    gateway, control = config.gateway, config.control
    secure = gateway.tls_certificate is not None
    shell.line(f"data plane     {address(gateway.host, ports.data, secure=secure)}")
    shell.line(f"control plane  {address(control.host, ports.control)}")
    shell.out.file.flush()
    shell.hint(f"ready; try: cdp --config {config.path} status")


async def _watch_signals(
    stopping: trio.Event,
    at_once: trio.CancelScope,
    shell: Shell,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stopping.is_set():
                shell.hint("stopping at once; the store stays consistent")
                at_once.cancel()
                return
            shell.hint(f"{signal.Signals(number).name}: draining; once more stops at once")
            stopping.set()
