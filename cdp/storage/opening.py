"""The opening protocol: a store opens with everything that was acknowledged, or not at all.

RocksDB's own recovery is not enough: after one flipped bit its default mode opens without an
error and without half of the synced writes. So, in this order:

1. Take the directory for this process, and refuse a format that is newer than this code.
2. Examine the manifest and walk the write-ahead logs. Where the logs are not whole, or RocksDB
   refuses them, compute every checksum: valid records after a bad spot mean rot, and the store
   stays shut; nothing after it means a write that a power cut tore, which nobody was told about,
   and it is cut off.
3. Open read-only, which changes nothing on disk, and compare with the acked high-water mark and
   with the checksums of the last blocks of each log. A store that holds less stays shut, as found.
4. Only then open for writing, and bring an older format up to date.

A refusal names the file and what to do. What to do is to restore a checkpoint: `Rdict.repair` is
never used, it loses column families.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from cdp.errors import StorageError, StoreDamaged, StoreFull, StoreInUse
from cdp.storage.directory import (
    ASIDE,
    DATABASE,
    FORMAT,
    MARK,
    lock_directory,
    read_format,
    sync_directory,
    write_format,
)
from cdp.storage.mark import AckedMark, create_mark
from cdp.storage.rocks import RocksStore, StoreSizes, create_database, open_database
from cdp.storage.store import FORMAT_VERSION
from cdp.storage.verify import verify_tails
from cdp.storage.wal import BadSpot, examine, examine_manifest, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from cdp.environment import RunInThread
    from cdp.storage.store import Batch, Store

_FORMAT_KEY: Final = b"format"

_BEFORE_SEALING: Final = 1
_SEALED_FAMILIES: Final = ("events", "rejected", "identifiers", "fragments")


def _begin_sealing(store: Store, batch: Batch) -> None:
    """Format 2 seals what is about people. No release wrote format 1 with anything in it."""
    for family in _SEALED_FAMILIES:
        if store.scan(family, limit=1):
            raise StorageError(
                f"the store has format {_BEFORE_SEALING}, which kept {family} unsealed; this "
                "version reads only sealed ones and does not convert them: move the data directory "
                "away, start with a new one, and send the events again"
            )


# From a format to the one after it. A step adds to the batch; the new number goes in with it.
MIGRATIONS: Final[Mapping[int, Callable[[Store, Batch], None]]] = {_BEFORE_SEALING: _begin_sealing}


def open_store(
    path: Path, run_in_thread: RunInThread, sizes: StoreSizes | None = None
) -> RocksStore:
    """Opens the store in a data directory, or makes a new one there.

    Raises:
        StoreInUse: another process has the directory.
        StoreDamaged: it holds less, or other, than was acknowledged. Nothing was changed.
        StoreFull: there is no room to open it.
        StorageError: it has a newer format, or the files cannot be used.
    """
    try:
        return _open(path, run_in_thread, sizes or StoreSizes())
    except OSError as error:
        full = error.errno == errno.ENOSPC
        raise (StoreFull if full else StorageError)(f"opening {path}: {error}") from error


def _open(path: Path, run_in_thread: RunInThread, sizes: StoreSizes) -> RocksStore:
    path.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:
        lock = lock_directory(path)
        undo.callback(os.close, lock)
        version = read_format(path)
        if version is None:
            _create(path, sizes)
        else:
            _settle(path, run_in_thread, sizes)
        mark = AckedMark(path / MARK)
        undo.callback(mark.close)
        database = open_database(path / DATABASE, sizes)
        undo.pop_all()
    store = RocksStore(
        database, path / DATABASE, run_in_thread, mark, on_close=lambda: os.close(lock)
    )
    try:
        _migrate(store, path)
    except BaseException:
        store.abandon()
        raise
    return store


def _create(path: Path, sizes: StoreSizes) -> None:
    """A new store. The format file comes last: without it the directory holds no store yet."""
    _remove_half_made(path)
    create_mark(path / MARK)
    create_database(path / DATABASE, sizes)
    sync_directory(path)
    write_format(path)


def _remove_half_made(path: Path) -> None:
    """What an interrupted creation left. Nothing was acknowledged before the format was there."""
    database = path / DATABASE
    if not database.exists():
        return
    if not (path / MARK).exists() or _acked(path) > 0:
        raise StoreDamaged(f"{path / FORMAT}: missing beside a store; restore the last checkpoint")
    for file in database.iterdir():
        file.unlink()


def _acked(path: Path) -> int:
    mark = AckedMark(path / MARK)
    mark.close()
    return mark.sequence


def _settle(path: Path, run_in_thread: RunInThread, sizes: StoreSizes) -> None:
    """Makes sure that the store may be opened, or refuses and leaves it as it was found."""
    if not (path / MARK).exists():
        raise StoreDamaged(f"{path / MARK}: missing; restore the last checkpoint")
    database, acked = path / DATABASE, _acked(path)
    bad_manifest = examine_manifest(database)
    if bad_manifest is not None:
        raise _damage(bad_manifest)
    if not walk(database):
        _cut_torn_end(path, run_in_thread, sizes, acked)
        return
    try:
        _look(database, run_in_thread, sizes, acked)
    except StoreDamaged as refusal:
        if examine(database) is None:
            raise  # the logs are well: the refusal names what is not
        try:
            _cut_torn_end(path, run_in_thread, sizes, acked)
        except StoreDamaged as damage:
            raise damage from refusal


def _cut_torn_end(path: Path, run_in_thread: RunInThread, sizes: StoreSizes, acked: int) -> None:
    """Takes a write that nobody was told about out of the logs, or refuses what is not that.

    What is cut is kept aside. RocksDB never sees a torn end: it may stumble over one, or replay
    what outlived it in a later log. Those later writes were not acknowledged either, since a sync
    covers all logs.
    """
    bad = examine(path / DATABASE)
    assert bad is not None, "the walk only finds what an examination finds"
    is_hole = bad.offset == 0 and bad.reason.endswith("are missing")
    if bad.valid_after and not is_hole:
        raise _damage(bad)
    (path / ASIDE).mkdir(exist_ok=True)
    with ExitStack() as undo:
        for file in (bad.file, *bad.later_files) if is_hole else bad.later_files:
            file.rename(path / ASIDE / file.name)
            undo.callback(os.rename, path / ASIDE / file.name, file)
        if not is_hole:
            kept = path / ASIDE / bad.file.name
            shutil.copy2(bad.file, kept)
            os.truncate(bad.file, bad.offset)
            undo.callback(os.replace, kept, bad.file)
        sync_directory(path / ASIDE)
        sync_directory(path / DATABASE)
        _look(path / DATABASE, run_in_thread, sizes, acked, bad)
        undo.pop_all()


def _look(
    database: Path,
    run_in_thread: RunInThread,
    sizes: StoreSizes,
    acked: int,
    bad: BadSpot | None = None,
) -> None:
    """Opens read-only and compares with what was acknowledged."""
    store = RocksStore(open_database(database, sizes, read_only=True), database, run_in_thread)
    try:
        if store.sequence < acked:
            raise _holds_less(database, store.sequence, acked, bad)
        verify_tails(store)
    finally:
        store.abandon()


def _holds_less(database: Path, recovered: int, acked: int, bad: BadSpot | None) -> StoreDamaged:
    where = f"{bad.file} from byte {bad.offset} ({bad.reason})" if bad else f"files in {database}"
    return StoreDamaged(
        f"{where}: the store recovers to write {recovered}, but {acked} was acknowledged; "
        "restore the last checkpoint"
    )


def _damage(bad: BadSpot) -> StoreDamaged:
    after = "with valid records after it" if bad.valid_after else "at its end"
    return StoreDamaged(
        f"{bad.file}: damaged at byte {bad.offset} ({bad.reason}), {after}; "
        "this is not a torn write: check the disk, then restore the last checkpoint"
    )


def _migrate(store: RocksStore, path: Path) -> None:
    value = store.get("meta", _FORMAT_KEY)
    version = int.from_bytes(value, "big") if value else FORMAT_VERSION
    while version < FORMAT_VERSION:
        batch = store.batch()
        MIGRATIONS[version](store, batch)
        version += 1
        batch.put("meta", _FORMAT_KEY, version.to_bytes(8, "big"))
        store.write(batch)
    if value is None:
        batch = store.batch()
        batch.put("meta", _FORMAT_KEY, FORMAT_VERSION.to_bytes(8, "big"))
        store.write(batch)
    if read_format(path) != FORMAT_VERSION:
        write_format(path)


__all__ = ["MIGRATIONS", "StorageError", "StoreFull", "StoreInUse", "StoreSizes", "open_store"]
