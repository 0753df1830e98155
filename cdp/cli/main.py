"""`cdp`: reads the arguments, runs one verb, and says in one sentence what went wrong.

Exit codes: 0 it worked, 1 it did not, 2 the arguments or the configuration are wrong, 3 the store
is damaged, 4 the data directory is in use.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from cdp.cli import (
    audit,
    backup,
    check,
    consent,
    dead_letters,
    destinations,
    events,
    init,
    keys,
    privacy,
    profile,
    redrive,
    replay,
    run,
    send,
    status,
    tracking_plan,
    why,
)
from cdp.cli.shell import (
    EXIT_DAMAGED,
    EXIT_FAILED,
    EXIT_IN_USE,
    EXIT_USAGE,
    CommandFailed,
    Shell,
)
from cdp.errors import CdpError, ConfigError, PluginError, StoreDamaged, StoreInUse

if TYPE_CHECKING:
    from collections.abc import Sequence

_GROUPS: Final = {
    "begin": (init, check, run),
    "feed and look": (send, status, profile, why),
    "repair": (events, dead_letters, redrive, replay),
    "extend": (destinations,),
    "keep": (backup, keys),
    "govern": (consent, privacy, tracking_plan, audit),
}

_DESCRIPTION: Final = """\
A customer data platform in one process: events come in from any Segment SDK, are resolved to
people, and go to the tools that may have them. Start here:

  cdp init                      write a cdp.toml with comments, and its secrets
  cdp check                     is the configuration right? sends nothing
  cdp run                       start the daemon; Ctrl-C drains it and stops
  cdp send events.ndjson        send events from a file
  cdp profile email:ada@example.com
  cdp why 5f1d…                 what became of an event, and why
"""

_EPILOG: Final = """\
Each verb has its own help with examples: cdp VERB --help
Exit codes: 0 it worked, 1 it did not, 2 wrong arguments or configuration, 3 the store is damaged,
4 the data directory is in use.
"""


def main(argv: Sequence[str] | None = None, shell: Shell | None = None) -> int:
    """Runs one command and returns its exit code."""
    shell = shell or Shell()
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed what it had to say
        return EXIT_USAGE if stop.code else 0
    shell.config_path = Path(arguments.config or shell.environ("CDP_CONFIG") or "cdp.toml")
    shell.control_url = arguments.control_url
    try:
        return int(trio.run(arguments.verb, arguments, shell))
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        return EXIT_FAILED
    except BaseException as error:
        return _report(error, shell)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every verb."""
    parser = argparse.ArgumentParser(
        prog="cdp",
        description=_DESCRIPTION + _group_help(),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="cdp [--config PATH] VERB …",
    )
    everywhere = _options(argparse.SUPPRESS)
    _options(None, parser)
    verbs = parser.add_subparsers(prog="cdp", metavar="VERB", required=True, help=argparse.SUPPRESS)
    for modules in _GROUPS.values():
        for module in modules:
            verb = verbs.add_parser(
                module.NAME,
                parents=[everywhere],
                help=module.SUMMARY,
                description=f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.",
                epilog=module.EXAMPLES,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            module.add_arguments(verb)
    return parser


def _options(default: Any, parser: argparse.ArgumentParser | None = None) -> Any:
    """The options that may stand before or after the verb."""
    parser = parser or argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "-c",
        "--config",
        metavar="PATH",
        default=default,
        help="the configuration file (default: $CDP_CONFIG, or cdp.toml)",
    )
    parser.add_argument(
        "--control-url",
        metavar="URL",
        default=default,
        help="where the daemon's control plane is, if not where the configuration says",
    )
    return parser


def _group_help() -> str:
    lines = []
    for group, modules in _GROUPS.items():
        lines.append(f"\n{group}:\n")
        lines += [f"  {module.NAME:<14}{module.SUMMARY}\n" for module in modules]
    return "".join(lines)


def _report(error: BaseException, shell: Shell) -> int:
    """Says what went wrong, and chooses the exit code. A bug keeps its traceback."""
    cause = _first(error)
    if not isinstance(cause, CdpError | OSError):
        raise error
    for line in str(cause).splitlines() or [type(cause).__name__]:
        shell.err.print("cdp: ", style="bold red", end="", soft_wrap=True)
        shell.err.print(line, markup=False, soft_wrap=True)
    return exit_code(cause)


def _first(error: BaseException) -> BaseException:
    """The error that an operator can act on, from within groups and causes."""
    if isinstance(error, BaseExceptionGroup):
        inner = [_first(one) for one in error.exceptions]
        return next((one for one in inner if isinstance(one, CdpError)), inner[0])
    while not isinstance(error, CdpError | OSError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def exit_code(error: BaseException) -> int:
    """The exit code that tells a service manager whether to try again."""
    if isinstance(error, CommandFailed):
        return error.exit_code
    if isinstance(error, ConfigError | PluginError):
        return EXIT_USAGE
    if isinstance(error, StoreDamaged):
        return EXIT_DAMAGED
    return EXIT_IN_USE if isinstance(error, StoreInUse) else EXIT_FAILED
