"""`cdp backup`: a consistent copy of the store, without the keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cdp.cli.control import open_control
from cdp.cli.shell import EXIT_OK, Arguments, Shell
from cdp.config import load
from cdp.errors import StoreInUse

if TYPE_CHECKING:
    import argparse

BACKUP_S_MAX: Final = 3_600.0
NAME: Final = "backup"
SUMMARY: Final = "copy the store into a new directory, without the keys"
EXAMPLES: Final = """\
examples:
  cdp backup /mnt/backups/monday
  cp data/keys/slots /mnt/keys/monday       afterwards, to another place

The copy holds sealed records only, so whoever is erased later is erased in it too. It is of no use
without the key file: copy that too, after the store, to another medium, and keep no copy of it for
longer than 30 days. To restore, start with the copy as data_dir, beside keys/slots as it is now or
as it was copied last. A daemon that runs makes the copy itself, and goes on meanwhile.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("directory", type=_absolute, help="where to; it must not exist yet")
    parser.set_defaults(verb=main)


def _absolute(text: str) -> Path:
    """The daemon may have another working directory."""
    return Path(text).absolute()


async def main(arguments: Arguments, shell: Shell) -> int:
    """Makes the copy."""
    from cdp.storage.backup import back_up
    from cdp.system import real_environment

    config = load(shell.config_path, shell.environ)
    environment = real_environment(config)
    try:
        store = environment.open_store(config.data_dir)
    except StoreInUse:
        return await _ask_the_daemon(arguments.directory, shell)
    try:
        made = await back_up(store, arguments.directory, environment.run_in_thread)
    finally:
        store.close()
    return _told(shell, str(made.path), made.files, made.size_bytes)


async def _ask_the_daemon(directory: Path, shell: Shell) -> int:
    """Copying takes as long as it takes: minutes, where it is another disk."""
    async with open_control(shell, timeout_s=BACKUP_S_MAX) as control:
        made = await control.post("/v1/backup", {"directory": str(directory)})
    return _told(shell, made["directory"], made["files"], made["bytes"])


def _told(shell: Shell, path: str, files: int, size_bytes: int) -> int:
    shell.line(f"{path}: {files} files, {size_bytes:,} bytes; the keys are not in it")
    return EXIT_OK
