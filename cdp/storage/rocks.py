"""The store on RocksDB: one database, one column family each, the only module that opens it.

How it stays off the event loop's way. `Rdict.write` holds the interpreter for the whole call, so a
write is never synced there: it goes to the write-ahead log's page cache and returns. `sync` runs
`flush_wal(True)`, which lets go of the interpreter, in a worker thread, and callers that wait at
the same time share one flush. Write stalls would hold the loop too: memtables, level-0 limits and
background jobs are sized so that the load benchmark shows none.

Measured on two cores that others kept busy, random 16-byte keys and 150-byte values: a put into
a batch 0.2 to 0.6 us and its writing 0.5 us; a get of a new key 0.25 us (bloom filters, also on the
memtables), of a stored one 4 to 6 us, in `get_many` a little less; a scan 2 to 7 us and 1 to 2 us a
row; `items` 0.4 us a row; a block of 256 records 80 us to encode and 200 us to write; a flush of
the log 0.6 ms at best, 14 to 35 ms at the 99th percentile.

What is deliberately absent: `manual_wal_flush` and `wal_bytes_per_sync` (a write must reach the
page cache before it returns, and the log must not be written in pieces), writes without the log,
merge operators, and `Rdict.repair`, which loses column families.

Iterators of rocksdict end in silence at a damaged block, so every scan asks for the status.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import trio
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from cdp.errors import StorageError, StoreDamaged, StoreFull, StoreInUse
from cdp.storage.directory import DATABASE, MARK, write_format
from cdp.storage.mark import FORCE_INTERVAL_S, create_mark
from cdp.storage.store import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cdp.environment import RunInThread
    from cdp.storage.mark import AckedMark
    from cdp.storage.store import Batch

MIB: Final = 2**20
LOG_FAMILIES: Final = frozenset({"events", "changes", "activations"})
_POINT_FAMILIES: Final = frozenset({"seen", "identity", "identifiers", "fragments", "subjects"})
# Rows of many events that lie anywhere. A small memtable stays in the processor's cache: inserting
# takes 1.5 us and not 2.1. They are flushed together, so files are no smaller.
_SCATTERED_FAMILIES: Final = _POINT_FAMILIES | {"timeline"}
_MEMTABLE_PART_BYTES: Final = 4 * MIB
_MEMTABLES_MAX: Final = 8  # of one family, before writes have to wait
_BLOOM_BITS: Final = 10
_FILES_OPEN_MAX: Final = 500  # beside the gateway's sockets, under a limit of 1,024


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """What the database may take. The defaults suit the load benchmark on two cores."""

    block_cache_bytes: int = 256 * MIB
    memtables_bytes: int = 256 * MIB  # all families together
    memtable_bytes: int = 32 * MIB  # one of them
    wal_bytes_max: int = 256 * MIB  # bounds recovery: about 1 s per 100 MiB
    background_jobs: int = 2


def open_database(
    path: Path,
    sizes: StoreSizes,
    *,
    create: bool = False,
    read_only: bool = False,
) -> Rdict:
    """Opens the database files, or raises StoreDamaged with the reason that RocksDB gives."""
    options = _database_options(sizes, create)
    cache = Cache(sizes.block_cache_bytes)
    # An older format has fewer families. Opening to write adds them, opening to look cannot.
    names = families_of(path) if read_only else FAMILIES
    families = {name: _family_options(name, sizes, cache) for name in names}
    access = AccessType.read_only(False) if read_only else AccessType.read_write()
    try:
        return Rdict(str(path), options, column_families=families, access_type=access)
    except Exception as error:
        raise _opening_error(path, error) from error


def families_of(path: Path) -> list[str]:
    """Our families that the database has. Raises StoreDamaged."""
    try:
        present = set(Rdict.list_cf(str(path), Options(raw_mode=True)))
    except Exception as error:
        raise _opening_error(path, error) from error
    return [name for name in FAMILIES if name in present]


def create_database(path: Path, sizes: StoreSizes) -> None:
    """Makes an empty database and forces it to disk. Raises StorageError."""
    database = open_database(path, sizes, create=True)
    try:
        database.flush_wal(True)
        database.close()
    except Exception as error:
        raise StorageError(f"making a database in {path}: {error}") from error


@final
class RocksBatch:
    """Writes that happen together or not at all. Not to be used after it was written."""

    __slots__ = ("_handles", "writes")

    def __init__(self, handles: dict[str, Any]) -> None:
        self._handles = handles
        self.writes = WriteBatch(raw_mode=True)

    def put(self, family: str, key: bytes, value: bytes) -> None:
        self.writes.put(key, value, self._handles[family])

    def delete(self, family: str, key: bytes) -> None:
        self.writes.delete(key, self._handles[family])

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self.writes.delete_range(start, end, self._handles[family])

    def __len__(self) -> int:
        return self.writes.len()


@final
class RocksStore:
    """An open database. Made by `cdp.storage.opening.open_store`; closed once, by its owner.

    Once a write or a flush failed for any reason but a full disk, every later write and sync
    raises: what the disk holds is unknown, and only the opening protocol can tell.
    """

    def __init__(
        self,
        database: Rdict,
        path: Path,
        run_in_thread: RunInThread,
        mark: AckedMark | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._database = database
        self._path = path
        names = families_of(path)
        self._families = {name: database.get_column_family(name) for name in names}
        self._handles = {name: database.get_column_family_handle(name) for name in names}
        self._run_in_thread = run_in_thread
        self._mark = mark
        self._on_close = on_close
        self._dead: str | None = None
        self._written_count = 0
        self._synced_count = 0
        self._forced_at_s = float("-inf")
        self._flush_lock = trio.Lock()
        self._next_flush: _Flush | None = None

    @property
    def sequence(self) -> int:
        """Grows with every write. What was durable at a number is there at any later opening."""
        return self._database.latest_sequence_number()

    def get(self, family: str, key: bytes) -> bytes | None:
        try:
            return self._families[family].get(key)
        except Exception as error:
            raise self._reading_error(family, error) from error

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        try:
            values: Any = self._families[family].get(list(keys))
        except Exception as error:
            raise self._reading_error(family, error) from error
        return list(values)

    def scan(
        self,
        family: str,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        try:
            rows = self._families[family].iter(_before(end))
            take = _backward if reverse else _forward
            return take(rows, start, -1 if limit is None else limit)
        except Exception as error:
            raise self._reading_error(family, error) from error

    def items(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        try:
            last, following = b"", b""
            while True:
                # A call a row, and not four. But this iterator ends at damage as at the end.
                column: Any = self._families[family]
                for row in column.items(from_key=following, read_opt=_streaming()):
                    last = row[0]
                    yield row
                found = self._key_after(family, last)
                if found is None:
                    return
                following = found
        except Exception as error:
            raise self._reading_error(family, error) from error

    def _key_after(self, family: str, last: bytes) -> bytes | None:
        """The next key; None at the end. Raises where damage comes next."""
        rows = self._families[family].iter(_streaming())
        rows.seek(last)
        if rows.valid() and rows.key() == last:
            rows.next()
        if rows.valid():
            return bytes(rows.key())
        rows.status()
        return None

    def batch(self) -> RocksBatch:
        return RocksBatch(self._handles)

    def write(self, batch: Batch) -> None:
        assert isinstance(batch, RocksBatch), "a batch belongs to the store that made it"
        self._check_alive()
        try:
            self._database.write(batch.writes)
        except Exception as error:
            raise self._writing_error("writing a batch", error) from error
        self._written_count += 1

    async def sync(self) -> None:
        self._check_alive()
        if self._synced_count == self._written_count:
            await trio.lowlevel.checkpoint()
            return
        flush = self._next_flush
        if flush is None:
            flush = self._next_flush = _Flush()
            # Shielded: the others that joined this flush must not be left without one who runs it.
            with trio.CancelScope(shield=True):
                await self._run_flush(flush)
        else:
            await flush.done.wait()
        if flush.error is not None:
            raise type(flush.error)(str(flush.error)) from flush.error

    async def reclaim(self, family: str, start: bytes, end: bytes) -> None:
        self._check_alive()
        try:
            await self._run_in_thread(self._families[family].compact_range, start, end)
        except Exception as error:
            raise self._writing_error(f"compacting {family}", error) from error

    async def checkpoint(self, path: Path) -> None:
        self._check_alive()
        sequence = self.sequence
        try:
            # Making the checkpoint holds the interpreter, flushing does not: so the memtables are
            # written first, and what is left to do takes some 10 ms.
            await self._run_in_thread(self._flush_memtables)
            await self._run_in_thread(self._make_checkpoint, path, sequence)
        except Exception as error:  # of the copy; should the store itself fail, a write will tell
            raise StorageError(f"making a checkpoint in {path}: {error}") from error

    def _flush_memtables(self) -> None:
        for family in self._families.values():
            family.flush(True)

    def _make_checkpoint(self, path: Path, sequence: int) -> None:
        path.mkdir(parents=True)
        Checkpoint(self._database).create_checkpoint(str(path / DATABASE))
        create_mark(path / MARK, sequence)
        write_format(path)

    def size_bytes(self) -> int:
        with os.scandir(self._path) as entries:
            return sum(_file_bytes(entry) for entry in entries)

    def property_value(self, family: str, name: str) -> int:
        """A number that RocksDB keeps, for metrics; 0 where it does not know."""
        return self._families[family].property_int_value(name) or 0

    def close(self) -> None:
        """Makes everything durable, notes it, and lets go of the files."""
        try:
            if self._dead is None:
                self._flush_and_note(self.sequence, force=True)
        except Exception as error:
            raise self._writing_error("closing the store", error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Lets go of the files as they are. For a store that failed, or was opened to look."""
        if not self._handles:
            return
        self._dead = self._dead or "the store is closed"
        # The files stay locked while any handle lives, so all of them go before the database.
        self._handles.clear()
        # What could fail here is the writing of tables, which the write-ahead log makes up for.
        while self._families:
            with suppress(Exception):
                self._families.popitem()[1].close()
        with suppress(Exception):
            self._database.close()
        del self._database  # its last reference lets go of the lock
        gc.collect()
        if self._mark is not None:
            self._mark.close()
        if self._on_close is not None:
            self._on_close()

    async def _run_flush(self, flush: _Flush) -> None:
        async with self._flush_lock:
            self._next_flush = None  # who writes from now on needs the flush after this one
            written_count, sequence = self._written_count, self.sequence
            force = trio.current_time() - self._forced_at_s >= FORCE_INTERVAL_S
            try:
                await self._run_in_thread(self._flush_and_note, sequence, force)
            except Exception as error:
                flush.error = self._writing_error("flushing the write-ahead log", error)
            else:
                self._synced_count = max(self._synced_count, written_count)
                if force:
                    self._forced_at_s = trio.current_time()
            finally:
                flush.done.set()

    def _flush_and_note(self, sequence: int, force: bool) -> None:
        self._database.flush_wal(True)
        if self._mark is not None:
            self._mark.note(sequence, force=force)

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise StorageError(self._dead)

    def _reading_error(self, family: str, error: Exception) -> StorageError:
        text = f"reading {family} in {self._path}: {error}"
        if "Corruption" in text:
            return StoreDamaged(f"{text}; run `cdp verify`, then restore the last checkpoint")
        return StorageError(text)

    def _writing_error(self, doing: str, error: Exception) -> StorageError:
        text = f"{doing} in {self._path}: {error}"
        if "No space left" in text or "NoSpace" in text:
            return StoreFull(f"{text}; make room, writing resumes by itself")
        self._dead = f"{text}; the store takes no more writes, restart the daemon"
        return StorageError(self._dead)


class _Flush:
    """One flush that several callers wait for."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: StorageError | None = None


def _forward(rows: Any, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    valid, key, value, step = rows.valid, rows.key, rows.value, rows.next
    found: list[tuple[bytes, bytes]] = []
    rows.seek(start)
    while valid():
        if len(found) == limit:
            return found
        found.append((key(), value()))
        step()
    rows.status()  # raises where a damaged block ended the scan
    return found


def _backward(rows: Any, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
    valid, key, value, step = rows.valid, rows.key, rows.value, rows.prev
    found: list[tuple[bytes, bytes]] = []
    rows.seek_to_last()
    while valid():
        if len(found) == limit or (at := key()) < start:
            return found
        found.append((at, value()))
        step()
    rows.status()
    return found


def _before(end: bytes | None) -> ReadOptions | None:
    """Bounds the iterator from above. `set_iterate_lower_bound` sets the upper one: unused here."""
    if end is None:
        return None
    options = ReadOptions()
    options.set_iterate_upper_bound(end)
    return options


def _streaming() -> ReadOptions:
    options = ReadOptions()
    options.set_readahead_size(2 * MIB)
    return options


def _database_options(sizes: StoreSizes, create: bool) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(True)
    options.set_error_if_exists(create)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    options.set_max_open_files(_FILES_OPEN_MAX)
    options.set_max_background_jobs(sizes.background_jobs)
    options.set_db_write_buffer_size(sizes.memtables_bytes)
    # Of the unused default family: after a full disk RocksDB resumes, within 5 s, once the largest
    # memtable of any family would fit.
    options.set_write_buffer_size(sizes.memtable_bytes)
    options.set_max_total_wal_size(sizes.wal_bytes_max)
    options.set_bytes_per_sync(MIB)  # tables only: spreads the writing of a flush
    options.set_avoid_unnecessary_blocking_io(True)
    options.set_max_manifest_file_size(8 * MIB)  # every opening computes its checksums
    options.set_keep_log_file_num(5)
    options.set_max_log_file_size(10 * MIB)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def _family_options(name: str, sizes: StoreSizes, cache: Cache) -> Options:
    options = Options(raw_mode=True)
    parts = 1
    if name in _SCATTERED_FAMILIES:
        parts = max(1, sizes.memtable_bytes // _MEMTABLE_PART_BYTES)
    options.set_write_buffer_size(sizes.memtable_bytes // parts)
    options.set_max_write_buffer_number(_MEMTABLES_MAX * parts)
    options.set_min_write_buffer_number_to_merge(parts)
    options.set_level_zero_slowdown_writes_trigger(60)
    options.set_level_zero_stop_writes_trigger(120)
    options.set_soft_pending_compaction_bytes_limit(0)  # no limit: slow reads before a stalled loop
    options.set_hard_pending_compaction_bytes_limit(0)
    # One compression on all levels, so that the ordered files of a log move down unread.
    is_log = name in LOG_FAMILIES
    if name in _POINT_FAMILIES:  # most lookups are for keys that are new, and memtables are many
        options.set_memtable_prefix_bloom_ratio(0.05)
        options.set_memtable_whole_key_filtering(True)
    options.set_compression_type(DBCompressionType.zstd() if is_log else DBCompressionType.lz4())
    options.set_block_based_table_factory(_table_options(name, cache))
    return options


def _table_options(name: str, cache: Cache) -> BlockBasedOptions:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size((64 if name in LOG_FAMILIES else 8) * 1024)
    table.set_cache_index_and_filter_blocks(True)  # bounded memory
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    if name in _POINT_FAMILIES:
        table.set_bloom_filter(_BLOOM_BITS, False)
    return table


def _file_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size if entry.is_file() else 0
    except FileNotFoundError:  # a compaction removed it meanwhile
        return 0


def _opening_error(path: Path, error: Exception) -> StorageError:
    text = str(error)
    if "lock" in text.lower() and ("hold by" in text or "unavailable" in text):
        return StoreInUse(f"opening {path}: another process has it open; stop that one first")
    if "No space left" in text:
        return StoreFull(f"opening {path}: {text}; make room, then start again")
    if text.startswith("IO error") and "No such file" not in text:
        return StorageError(f"opening {path}: {text}")
    return StoreDamaged(f"opening {path}: {text}; restore the last checkpoint")
