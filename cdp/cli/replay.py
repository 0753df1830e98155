"""`cdp replay`: a destination is offered a stretch of the log again, beside what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cdp.cli.control import open_control
from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, Shell

if TYPE_CHECKING:
    import argparse

NAME: Final = "replay"
SUMMARY: Final = "offer a destination what it was offered since some time again"
EXAMPLES: Final = """\
examples:
  cdp replay warehouse --from 2026-03-01T00:00:00Z
  cdp replay warehouse --from 0              from an offset of the log: 0 is all that is kept

Delivery ids are those of the first time, so a service that knows them takes nothing twice.
Consent is asked again before each attempt.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("destination", help="the destination's name")
    parser.add_argument(
        "--from", dest="start", required=True, metavar="TIME|OFFSET", help="where to begin"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Asks, and orders the replay."""
    question = f"offer {arguments.destination} everything since {arguments.start} again?"
    if not arguments.yes and not shell.asks(question):
        shell.hint("nothing was replayed")
        return EXIT_FAILED
    body = {"destination": arguments.destination, **_start(arguments.start)}
    async with open_control(shell) as control:
        answer = await control.post("/v1/replay", body)
    shell.line(f"replaying {_stretch(answer)}to {arguments.destination}; see: cdp status")
    return EXIT_OK


def _start(text: str) -> dict[str, Any]:
    return {"from_offset": int(text)} if text.isdecimal() else {"from_time": text}


def _stretch(answer: dict[str, Any]) -> str:
    start, until = answer.get("start"), answer.get("until")
    return "" if start is None or until is None else f"activations {start} to {until} "
