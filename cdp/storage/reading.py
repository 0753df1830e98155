"""Opens a store only to look: a checkpoint, a copy, or the directory of a daemon that runs.

Nothing is locked and nothing of the store is written. What a running daemon writes after the
opening is not seen; files that it throws away meanwhile make the opening fail, and it is tried
again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from cdp.errors import StorageError
from cdp.storage.directory import DATABASE, read_format
from cdp.storage.rocks import RocksStore, StoreSizes, open_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdp.environment import RunInThread
    from cdp.storage.store import Store

MIB: Final = 2**20
OPENINGS_MAX: Final = 3
_SIZES: Final = StoreSizes(block_cache_bytes=32 * MIB)


@contextmanager
def open_to_read(path: Path, run_in_thread: RunInThread) -> Iterator[Store]:
    """The store in a data directory or checkpoint, as it is now. Writing to it fails.

    Raises:
        StorageError: there is none, it has a newer format, or it cannot be read.
    """
    if read_format(path) is None:
        raise StorageError(f"{path}: there is no store here; give the data directory or a copy")
    store = _open(path / DATABASE, run_in_thread)
    try:
        yield store
    finally:
        store.abandon()


def _open(database: Path, run_in_thread: RunInThread) -> RocksStore:
    failures: list[StorageError] = []
    while len(failures) < OPENINGS_MAX:
        try:
            opened = open_database(database, _SIZES, read_only=True)
        except StorageError as error:
            failures.append(error)
        else:
            return RocksStore(opened, database, run_in_thread)
    raise failures[-1]
