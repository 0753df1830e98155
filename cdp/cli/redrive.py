"""`cdp redrive`: dead letters go to their destination again, with the same delivery ids."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cdp.cli.control import open_control
from cdp.cli.dead_letters import dead_letters
from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, Shell, plain_table

if TYPE_CHECKING:
    import argparse

NAME: Final = "redrive"
SUMMARY: Final = "send dead letters again"
EXAMPLES: Final = """\
examples:
  cdp redrive crm                            shows how many, and asks
  cdp redrive crm --reason "answered 503"
  cdp redrive crm --dry-run                  only shows how many
  cdp redrive crm --yes

Consent is asked again before each attempt: what may no longer be sent is filtered, not sent.
"""

_MAX: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("destination", help="the destination's name")
    parser.add_argument("--reason", metavar="TEXT", help="only with this text in the reason")
    parser.add_argument("--dry-run", action="store_true", help="show how many, and stop")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Shows what is meant, asks, and sends it again."""
    async with open_control(shell) as control:
        meant = await dead_letters(control, arguments.destination, arguments.reason, _MAX)
        if not meant:
            shell.line(f"no dead letter of {arguments.destination} is meant")
            return EXIT_OK
        _preview(meant, shell)
        if arguments.dry_run:
            return EXIT_OK
        if not arguments.yes and not shell.asks(f"send {len(meant)} again?"):
            shell.hint("nothing was sent")
            return EXIT_FAILED
        order = {"destination": arguments.destination}
        if arguments.reason is not None:
            order["reason"] = arguments.reason
        redriven = int((await control.post("/v1/redrive", order))["count"])
    shell.line(f"{redriven} on their way again; see: cdp status")
    return EXIT_OK


def _preview(meant: list[dict[str, Any]], shell: Shell) -> None:
    table = plain_table("dead letters", "reason", right=("dead letters",))
    for reason, count in Counter(str(one.get("reason", "")) for one in meant).most_common():
        table.add_row(str(count), Text(reason))
    shell.out.print(table)
