"""An append-only log of records with offsets, kept in blocks.

One key per block, not per record: a block is what was appended together (up to `BLOCK_RECORDS`
records), under the big-endian offset of its first record. So a log costs one put and one get a
batch. Offsets rise and are never used twice; a reader must expect gaps, and keeps its own place.

A log has one writer: `append` into a batch, write the batch, `publish`. What was appended stays at
hand, decoded, for the readers at the head; older blocks are read from the store, and the last few
are kept, so that several readers at one place decode a block once.

A log may have a codec, which seals records for those whom they are about. A record that is erased
keeps its offset and is empty. Blocks and their chain cover what the codec made of the records, so
whether a log is whole can be told without any key.

A distributed log can take this one's place behind the same four verbs.
"""

from __future__ import annotations

import struct
from bisect import bisect_right, insort
from collections import OrderedDict
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from cdp.storage.block import (
    Link,
    bytes_before,
    decode_records,
    encode_block,
    header_of,
    key_of,
)
from cdp.storage.cursors import Cursors

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdp.storage.codec import Codec
    from cdp.storage.store import Batch, Store

__all__ = ["BLOCK_RECORDS", "CACHED_BLOCKS_MAX", "Cursors", "Entry", "Log"]

BLOCK_RECORDS: Final = 256
CACHED_BLOCKS_MAX: Final = 128  # about 20 MB at 600 bytes a record, where blocks are full
_READ_BLOCKS_MIN: Final = 4
_READ_BLOCKS_MAX: Final = 64
_PLACE: Final = struct.Struct(">QQIQ")  # start, head, link: what truncation leaves in `meta`


class Entry(NamedTuple):
    """A record and its place. The record is empty where it was erased."""

    offset: int
    record: bytes


class Log:
    """A log in one column family of a store.

    `head` is the offset that the next record gets. `append` only adds to a batch: the records
    are readable once the batch is written, and readers that wait are woken by `publish`.
    A batch that could not be written leaves a gap in the offsets and no trace in the log.
    """

    def __init__(
        self,
        store: Store,
        family: str,
        codec: Codec | None = None,
        *,
        cached_blocks_max: int = CACHED_BLOCKS_MAX,
    ) -> None:
        self.family = family
        self._store = store
        self._codec = codec
        self._cache = _BlockCache(cached_blocks_max)
        self._start, self._head, self._link = _recover(store, family)
        self._published = self._head
        self._published_link = self._link
        self._batch: Batch | None = None  # the one that was appended to last
        self._fresh: list[list[Entry]] = []  # blocks in it: whether it was written shows later
        self._written: list[
            list[Entry]
        ] = []  # blocks of batches before it, stored but not published
        self._written_link = self._link
        self._forgotten_before = 0  # blocks before it are not to be kept decoded
        self._woken = trio.Event()

    @property
    def head(self) -> int:
        """The offset that the next record gets."""
        return self._head

    @property
    def start(self) -> int:
        """The oldest offset that may still be read."""
        return self._start

    @property
    def published(self) -> int:
        """The offset before which everything may be read."""
        return self._published

    def append(self, batch: Batch, records: Sequence[bytes], subjects: Sequence[bytes] = ()) -> int:
        """Adds records at the head, in one batch; returns the first one's offset.

        `subjects` says whom each record is about; a log that seals needs one a record.
        """
        self._join(batch)
        first = self._head
        for index in range(0, len(records), BLOCK_RECORDS):
            end = index + BLOCK_RECORDS
            self._append_block(batch, records[index:end], subjects[index:end])
        return first

    def read(self, offset: int, limit: int) -> list[Entry]:
        """Up to about `limit` published records at or after `offset` (whole blocks), in order."""
        found: list[Entry] = []
        wanted_blocks = max(_READ_BLOCKS_MIN, limit // BLOCK_RECORDS)
        while len(found) < limit and offset < self._published:
            blocks = self._blocks_from(offset, min(wanted_blocks, _READ_BLOCKS_MAX))
            if not blocks:
                break
            for block in blocks:
                # What is written and not published may not be on disk: a reader that acts on
                # it could tell the world of an event that a power cut takes back.
                if len(found) >= limit or block[0].offset >= self._published:
                    return found
                found += block if block[0].offset >= offset else block[offset - block[0].offset :]
            offset = found[-1].offset + 1
            wanted_blocks *= 2
        return found

    def get(self, offset: int) -> bytes | None:
        """One record, b"" where it was erased, or None where it was truncated or never was."""
        block = self._block_holding(offset)
        return block[offset - block[0].offset].record if block else None

    def truncate_before(self, batch: Batch, offset: int) -> None:
        """Forgets the blocks that lie wholly before `offset`."""
        boundary = self.boundary_before(offset)
        if boundary <= self._start:
            return
        batch.delete_range(self.family, key_of(0), key_of(boundary))
        place = _PLACE.pack(boundary, self._published, *self._published_link)
        batch.put("meta", _place_key(self.family), place)
        self._cache.forget_before(boundary)
        self._start = boundary

    def boundary_before(self, offset: int) -> int:
        """Where truncation before `offset` would cut: the start of the block that holds it."""
        if offset >= self._published:
            return self._published
        block = self._block_holding(offset)
        return block[0].offset if block else offset

    def stored_bytes(self, offset: int = 0) -> int:
        """Bytes of the blocks from the one that starts at or after `offset` to the head.

        Before compression and keys: what the records take, not what the files do.
        """
        rows = self._store.scan(self.family, key_of(max(offset, self._start)), limit=1)
        if not rows:
            return 0
        (key, value) = rows[0]
        return max(0, self._published_link.total_bytes - bytes_before(self.family, key, value))

    def offset_leaving(self, bytes_max: int) -> int:
        """The first block's offset from which on at most `bytes_max` are stored. About 40 reads."""
        low, high = self._start, self._published
        while low < high:
            middle = (low + high) // 2
            if self.stored_bytes(middle) <= bytes_max:
                high = middle
            else:
                low = middle + 1
        rows = self._store.scan(self.family, key_of(low), limit=1)
        return int.from_bytes(rows[0][0], "big") if rows else self._published

    def publish(self) -> None:
        """Wakes the readers that wait: what was written up to now may be read."""
        self._settle()
        for block in self._written:
            if block[0].offset >= self._forgotten_before:
                self._cache.add(block)
        if self._written:
            self._published = self._written[-1][-1].offset + 1
            self._written.clear()
        self._batch = None
        self._published_link = self._link
        woken, self._woken = self._woken, trio.Event()
        woken.set()

    def forget_cached(self) -> None:
        """Drops what is kept decoded: after keys were destroyed it must be opened again."""
        self._cache.clear()
        self._forgotten_before = self._head

    async def wait(self, offset: int) -> None:
        """Returns when a record at or after `offset` is published."""
        await trio.lowlevel.checkpoint()
        while self._published <= offset:
            await self._woken.wait()

    def _join(self, batch: Batch) -> None:
        if self._batch is not batch:
            self._settle()
            self._batch = batch

    def _settle(self) -> None:
        """Finds out whether the last batch was written, and forgets its blocks where it was not.

        A batch that was refused or thrown away leaves its offsets unused, since an offset must
        never mean two records. The chain goes on from the last block that is stored.
        """
        if not self._fresh:
            return
        if self._is_stored(self._fresh[-1]):
            self._written += self._fresh
            self._written_link = self._link
        else:
            self._link = self._written_link
        self._fresh = []

    def _is_stored(self, block: list[Entry]) -> bool:
        return self._store.get(self.family, key_of(block[0].offset)) is not None

    def _append_block(
        self, batch: Batch, records: Sequence[bytes], subjects: Sequence[bytes]
    ) -> None:
        first = self._head
        key = key_of(first)
        codec = self._codec
        sealed = records if codec is None else codec.seal(batch, first, records, subjects)
        value, self._link = encode_block(key, sealed, self._link)
        batch.put(self.family, key, value)
        self._fresh.append(_entries(first, records))
        self._head += len(records)

    def _blocks_from(self, offset: int, limit: int) -> list[list[Entry]]:
        cached = self._cache.holding(offset)
        if cached is not None:
            return [cached]
        offset = max(offset, self._start)
        rows = self._store.scan(self.family, key_of(offset), limit=limit)
        blocks = [self._decode(key, value) for key, value in rows]
        if blocks and blocks[0][0].offset == offset:
            return blocks
        holding = self._block_holding(offset)  # a reader that stopped in the middle of a block
        return [holding, *blocks] if holding else blocks

    def _block_holding(self, offset: int) -> list[Entry] | None:
        cached = self._cache.holding(offset)
        if cached is not None:
            return cached
        if not self._start <= offset < self._head:
            return None
        rows = self._store.scan(self.family, end=key_of(offset + 1), limit=1, reverse=True)
        block = self._decode(*rows[0]) if rows else None
        return block if block and offset <= block[-1].offset else None

    def _decode(self, key: bytes, value: bytes) -> list[Entry]:
        first = int.from_bytes(key, "big")
        cached = self._cache.starting_at(first)
        if cached is not None:
            return cached
        records = decode_records(self.family, key, value)
        codec = self._codec
        if codec is not None:
            records = codec.open(first, records)
        block = _entries(first, records)
        self._cache.add(block)
        return block


class _BlockCache:
    """The blocks that were used last, findable by any offset in them."""

    def __init__(self, blocks_max: int) -> None:
        assert blocks_max > 0, "readers at the head need a block at hand"
        self._blocks_max = blocks_max
        self._blocks: OrderedDict[int, list[Entry]] = OrderedDict()
        self._firsts: list[int] = []

    def add(self, block: list[Entry]) -> None:
        first = block[0].offset
        if first not in self._blocks:
            insort(self._firsts, first)
        self._blocks[first] = block
        if len(self._blocks) > self._blocks_max:
            oldest, _ = self._blocks.popitem(last=False)
            self._firsts.remove(oldest)

    def starting_at(self, first: int) -> list[Entry] | None:
        return self._blocks.get(first)

    def holding(self, offset: int) -> list[Entry] | None:
        index = bisect_right(self._firsts, offset) - 1
        if index < 0:
            return None
        first = self._firsts[index]
        block = self._blocks[first]
        if offset > block[-1].offset:
            return None
        self._blocks.move_to_end(first)
        return block

    def clear(self) -> None:
        self._blocks.clear()
        self._firsts.clear()

    def forget_before(self, offset: int) -> None:
        kept = bisect_right(self._firsts, offset - 1)
        for first in self._firsts[:kept]:
            del self._blocks[first]
        del self._firsts[:kept]


def _entries(first: int, records: Sequence[bytes]) -> list[Entry]:
    """The records of a block with their places."""
    new = tuple.__new__  # half of what the type's own constructor takes, once a record and reader
    return [new(Entry, pair) for pair in zip(count(first), records, strict=False)]


def walk_blocks(store: Store, family: str, offset: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """The blocks of a log as they are stored, in order, a few at a time."""
    start = key_of(offset)
    while rows := store.scan(family, start, limit=_READ_BLOCKS_MIN):
        yield from rows
        start = key_of(int.from_bytes(rows[-1][0], "big") + 1)


def _recover(store: Store, family: str) -> tuple[int, int, Link]:
    """Start, head and link, from the last block and from what truncation left."""
    place = store.get("meta", _place_key(family))
    start, head, checksum, total_bytes = _PLACE.unpack(place) if place else (0, 0, 0, 0)
    link = Link(checksum, total_bytes)
    rows = store.scan(family, limit=1, reverse=True)
    if rows:
        key, value = rows[0]
        after = int.from_bytes(key, "big") + len(decode_records(family, key, value))
        if after > head:
            return start, after, header_of(family, key, value).link
    return start, head, link


def _place_key(family: str) -> bytes:
    return b"log:" + family.encode()
