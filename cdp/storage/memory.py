"""A store in memory, with a disk that can be slow, refuse, and lose power.

For tests and for simulation: it keeps the contract of the real store, and it knows which batches
are durable. `power_cut` gives the store that a restart after a power cut would find: everything
synced, and a random prefix of what was not. `killed` gives what a killed process leaves: all that
was written. Either way the old object refuses every call, as a dead process would.

Faults are functions that are asked at each sync or write and answer with an errno, 0 for none:
EIO kills the store for good, ENOSPC fails that one call, and the next may succeed.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec
import trio

from cdp.errors import StorageError, StoreFull
from cdp.storage.store import FAMILIES, Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from random import Random

Row: TypeAlias = tuple[bytes, bytes]


class _Put(NamedTuple):
    family: str
    key: bytes
    value: bytes | None  # None deletes


class _DeleteRange(NamedTuple):
    family: str
    start: bytes
    end: bytes


class MemoryBatch:
    """Writes in the order they were asked for."""

    def __init__(self) -> None:
        self.writes: list[_Put | _DeleteRange] = []

    def put(self, family: str, key: bytes, value: bytes) -> None:
        assert isinstance(value, bytes), "values are bytes"
        self.writes.append(_Put(family, key, value))

    def delete(self, family: str, key: bytes) -> None:
        self.writes.append(_Put(family, key, None))

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        self.writes.append(_DeleteRange(family, start, end))

    def __len__(self) -> int:
        return len(self.writes)


def _no_latency() -> float:
    return 0.0


def _no_fault() -> int:
    return 0


class MemoryStore:
    """An in-memory `Store`. Every family is a dict with its keys in order beside it."""

    def __init__(
        self,
        *,
        sync_latency_s: Callable[[], float] = _no_latency,
        sync_fault: Callable[[], int] = _no_fault,
        write_fault: Callable[[], int] = _no_fault,
    ) -> None:
        self._families = {family: _Family() for family in FAMILIES}
        self._sync_latency_s = sync_latency_s
        self._sync_fault = sync_fault
        self._write_fault = write_fault
        self._unsynced: list[list[_Put]] = []  # what undoes each batch that is not durable yet
        self._written_count = 0
        self._dead: str | None = None
        self.sync_count = 0

    @property
    def unsynced_count(self) -> int:
        """How many written batches a power cut may still take."""
        return len(self._unsynced)

    def get(self, family: str, key: bytes) -> bytes | None:
        self._check_alive()
        return self._families[family].values.get(key)

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        self._check_alive()
        get = self._families[family].values.get
        return [get(key) for key in keys]

    def scan(
        self,
        family: str,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[Row]:
        self._check_alive()
        rows = self._families[family]
        keys = rows.keys_between(start, end, limit=limit, reverse=reverse)
        return [(key, rows.values[key]) for key in keys]

    def items(self, family: str) -> Iterator[Row]:
        self._check_alive()
        rows = self._families[family]
        return ((key, rows.values[key]) for key in rows.keys)

    def batch(self) -> MemoryBatch:
        return MemoryBatch()

    def write(self, batch: Batch) -> None:
        self._check_alive()
        assert isinstance(batch, MemoryBatch), "a batch belongs to the store that made it"
        self._raise_fault(self._write_fault(), "writing")
        undo: list[_Put] = []
        for write in batch.writes:
            self._apply(write, undo)
        undo.reverse()
        self._unsynced.append(undo)
        self._written_count += 1

    async def sync(self) -> None:
        self._check_alive()
        written_count = self._written_count
        await trio.sleep(self._sync_latency_s())
        self._check_alive()
        self._raise_fault(self._sync_fault(), "syncing")
        durable_count = self._written_count - len(self._unsynced)
        del self._unsynced[: max(0, written_count - durable_count)]
        self.sync_count += 1

    async def reclaim(self, family: str, start: bytes, end: bytes) -> None:
        self._check_alive()
        await trio.lowlevel.checkpoint()

    async def checkpoint(self, path: Path) -> None:
        self._check_alive()
        await trio.lowlevel.checkpoint()
        self._save(path)

    def _save(self, path: Path) -> None:
        path.mkdir()
        rows = {family: list(self.items(family)) for family in FAMILIES}
        (path / "memory.msgpack").write_bytes(msgspec.msgpack.encode(rows))

    def size_bytes(self) -> int:
        self._check_alive()
        return sum(
            len(key) + len(value)
            for rows in self._families.values()
            for key, value in rows.values.items()
        )

    def close(self) -> None:
        self._dead = "the store is closed"

    def power_cut(self, rng: Random) -> MemoryStore:
        """The store after a power cut: all that was synced, and a random prefix of the rest."""
        lost_count = rng.randint(0, len(self._unsynced))
        for undo in reversed(self._unsynced[len(self._unsynced) - lost_count :]):
            for write in undo:
                self._families[write.family].set(write.key, write.value)
        return self._survivor("the power is cut")

    def killed(self) -> MemoryStore:
        """The store after the process was killed: all that was written."""
        return self._survivor("the process was killed")

    def _survivor(self, dead: str) -> MemoryStore:
        survivor = MemoryStore(
            sync_latency_s=self._sync_latency_s,
            sync_fault=self._sync_fault,
            write_fault=self._write_fault,
        )
        survivor._families = self._families
        self._families = {}
        self._unsynced = []
        self._dead = dead
        return survivor

    def _apply(self, write: _Put | _DeleteRange, undo: list[_Put]) -> None:
        rows = self._families[write.family]
        for family, key, value in _puts(write, rows):
            undo.append(_Put(family, key, rows.values.get(key)))
            rows.set(key, value)

    def _raise_fault(self, error_number: int, doing: str) -> None:
        if error_number == 0:
            return
        text = f"{doing}: {os.strerror(error_number)}"
        if error_number == errno.ENOSPC:
            raise StoreFull(text)
        self._dead = text
        raise StorageError(text)

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise StorageError(self._dead)


class _Family:
    """Rows of one family: values by key, and the keys in order."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []

    def set(self, key: bytes, value: bytes | None) -> None:
        if value is not None:
            if key not in self.values:
                insort(self.keys, key)
            self.values[key] = value
        elif self.values.pop(key, None) is not None:
            del self.keys[bisect_left(self.keys, key)]

    def keys_between(
        self,
        start: bytes,
        end: bytes | None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[bytes]:
        first = bisect_left(self.keys, start)
        last = len(self.keys) if end is None else bisect_left(self.keys, end)
        if reverse:
            lowest = first if limit is None else max(first, last - limit)
            return self.keys[lowest:last][::-1]
        return self.keys[first : last if limit is None else min(last, first + limit)]


def _puts(write: _Put | _DeleteRange, rows: _Family) -> Iterable[_Put]:
    if isinstance(write, _Put):
        return (write,)
    return [_Put(write.family, key, None) for key in rows.keys_between(write.start, write.end)]
