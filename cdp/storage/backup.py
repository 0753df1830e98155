"""Backups: a consistent copy of the store without the keys.

A copy holds sealed records and hashes, and cannot be read without the key file. So it may be kept
for as long as one likes: what is erased later is dark in it too. The key file is backed up by
itself, and its copies are kept for 30 days at most, since each keeps alive whom it still has keys
for. Copy it after the store, so that it has every key that the copy of the store needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cdp.errors import StorageError
from cdp.storage.directory import KEYS, read_format

if TYPE_CHECKING:
    from pathlib import Path

    from cdp.environment import RunInThread
    from cdp.storage.store import Store

KEY_COPY_DAYS_MAX: Final = 30


class Backup(NamedTuple):
    """What a backup came to."""

    path: Path
    files: int
    size_bytes: int


async def back_up(store: Store, path: Path, run_in_thread: RunInThread) -> Backup:
    """Copies an open store, which goes on meanwhile, into a directory that must not exist yet.

    Raises:
        StorageError: the directory exists, or the copy could not be made.
    """
    await run_in_thread(_refuse_what_exists, path)
    await store.checkpoint(path)
    return await run_in_thread(_examine, path)


def _refuse_what_exists(path: Path) -> None:
    if path.exists():
        raise StorageError(f"{path}: exists already; name a directory that does not")


def _examine(path: Path) -> Backup:
    assert not (path / KEYS).exists(), "a copy never has the keys"
    files = [file for file in path.rglob("*") if file.is_file()]
    if read_format(path) is None:
        raise StorageError(f"{path}: the copy is not whole; remove it and make another")
    return Backup(path, len(files), sum(file.stat().st_size for file in files))
