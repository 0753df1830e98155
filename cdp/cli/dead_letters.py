"""`cdp dead-letters`: the deliveries that were given up, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cdp.cli.control import ControlPlane, open_control, pages
from cdp.cli.shell import EXIT_OK, Arguments, CommandFailed, Shell, plain_table

if TYPE_CHECKING:
    import argparse

NAME: Final = "dead-letters"
SUMMARY: Final = "deliveries that were given up, and why"
EXAMPLES: Final = """\
examples:
  cdp dead-letters list
  cdp dead-letters list --destination crm --reason "answered 400"
  cdp dead-letters show ID

`cdp redrive` sends them again.
"""

PATH: Final = "/v1/dead-letters"
_SEARCHED_MAX: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what was given up, and why")
    add_filter(listing)
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most (default: 50)")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(verb=show_list)
    one = actions.add_parser("show", help="one of them in full")
    one.add_argument("id")
    one.set_defaults(verb=show_one)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which dead letters are meant."""
    parser.add_argument("--destination", metavar="NAME", help="only of this destination")
    parser.add_argument("--reason", metavar="TEXT", help="only with this text in the reason")


async def show_list(arguments: Arguments, shell: Shell) -> int:
    """Lists dead letters."""
    async with open_control(shell) as control:
        found = await dead_letters(
            control, arguments.destination, arguments.reason, arguments.limit
        )
    if arguments.json:
        shell.json(found)
        return EXIT_OK
    table = plain_table("id", "died", "destination", "attempts", "reason", right=("attempts",))
    for one in found:
        table.add_row(
            Text(str(one["id"])),
            str(one.get("died_at", "")),
            Text(str(one.get("destination", ""))),
            str(one.get("attempts", "")),
            Text(str(one.get("reason", ""))),
        )
    shell.out.print(table)
    shell.hint("cdp redrive sends them again" if found else "no delivery was given up")
    return EXIT_OK


async def show_one(arguments: Arguments, shell: Shell) -> int:
    """Shows one dead letter in full."""
    async with open_control(shell) as control:
        async for one in pages(control, PATH, limit=_SEARCHED_MAX):
            if one["id"] == arguments.id:
                shell.json(one)
                return EXIT_OK
    raise CommandFailed(f"no dead letter has the id {arguments.id}; look: cdp dead-letters list")


async def dead_letters(
    control: ControlPlane, destination: str | None, reason: str | None, limit: int
) -> list[dict[str, Any]]:
    """The dead letters that are meant, `limit` at most."""
    searched = limit if reason is None else _SEARCHED_MAX
    found: list[dict[str, Any]] = []
    async for one in pages(control, PATH, limit=searched, destination=destination):
        if reason is None or reason in str(one.get("reason", "")):
            found.append(one)
        if len(found) >= limit:
            break
    return found
