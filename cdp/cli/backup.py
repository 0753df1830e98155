"""`cdp backup`: a consistent copy of the store, without the keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cdp.cli.shell import EXIT_OK, Arguments, Shell
from cdp.config import load

if TYPE_CHECKING:
    import argparse

NAME: Final = "backup"
SUMMARY: Final = "copy the store into a new directory, without the keys"
EXAMPLES: Final = """\
examples:
  cdp backup /mnt/backups/monday
  cp data/keys/slots /mnt/keys/monday       afterwards, to another place

The copy holds sealed records only, so whoever is erased later is erased in it too. It is of no use
without the key file: copy that too, after the store, to another medium, and keep no copy of it for
longer than 30 days. To restore, start with the copy as data_dir, beside keys/slots as it is now or
as it was copied last. `cdp backup` wants the daemon stopped.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("directory", type=Path, help="where to; it must not exist yet")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Makes the copy."""
    from cdp.storage.backup import back_up
    from cdp.system import real_environment

    config = load(shell.config_path, shell.environ)
    environment = real_environment(config)
    store = environment.open_store(config.data_dir)
    try:
        made = await back_up(store, arguments.directory, environment.run_in_thread)
    finally:
        store.close()
    shell.line(
        f"{made.path}: {made.files} files, {made.size_bytes:,} bytes; the keys are not in it"
    )
    return EXIT_OK
