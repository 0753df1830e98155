"""`cdp destinations`: which destination types are installed, and a scaffold for a new one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cdp.cli.scaffold import files_of
from cdp.cli.shell import EXIT_OK, EXIT_USAGE, Arguments, CommandFailed, Shell, plain_table

if TYPE_CHECKING:
    import argparse

NAME: Final = "destinations"
SUMMARY: Final = "list the installed destination types, or begin a new one"
EXAMPLES: Final = """\
examples:
  cdp destinations list
  cdp destinations new example_crm     a plugin that passes its contract test, ready to change
"""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="the destination types that are installed")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(verb=show)
    new = actions.add_parser("new", help="write a new plugin with its contract test")
    new.add_argument("name", help="the type's name, as cdp.toml will write it: a-z 0-9 _")
    new.add_argument("--into", default=".", metavar="DIR", help="where to (default: here)")
    new.set_defaults(verb=write)


async def show(arguments: Arguments, shell: Shell) -> int:
    """Lists what is installed, without importing any of it."""
    from cdp.delivery.registry import installed

    types = installed()
    if arguments.json:
        shell.json(types)
        return EXIT_OK
    table = plain_table("type", "package", "version", "class")
    for one in types:
        table.add_row(one.name, one.distribution, one.version, one.target)
    shell.out.print(table)
    if not types:
        shell.hint("none is installed: pip install cdp-destination-webhook cdp-destination-file")
    return EXIT_OK


async def write(arguments: Arguments, shell: Shell) -> int:
    """Writes the scaffold, never over anything."""
    name = arguments.name
    if not _NAME.fullmatch(name):
        raise CommandFailed(
            f"{name!r} cannot be a type's name; use a-z 0-9 _, beginning with a letter", EXIT_USAGE
        )
    directory = Path(arguments.into) / f"cdp-destination-{name}"
    if directory.exists():
        raise CommandFailed(f"{directory} is there already; choose another name", EXIT_USAGE)
    for path, content in files_of(name).items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
        shell.line(f"wrote {target}")
    shell.hint(f"next: cd {directory}; pip install -e '.[dev]'; pytest")
    return EXIT_OK
