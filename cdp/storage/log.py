"""An append-only log of records with offsets, kept in blocks.

One key per block, not per record: a block is what was appended together (up to `BLOCK_RECORDS`
records), under the big-endian offset of its first record. So a log costs one put and one get a
batch. Offsets rise; a reader must expect gaps, and keeps its own place.

A distributed log can take this one's place behind the same four verbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import trio

from cdp.storage.store import Batch, Store

BLOCK_RECORDS: Final = 256


class Entry(NamedTuple):
    """A record and its place."""

    offset: int
    record: bytes


class Codec(Protocol):
    """Seals record values on their way into a log and opens them on the way out."""

    def seal(self, record: bytes) -> bytes: ...

    def open(self, sealed: bytes) -> bytes: ...


class Log:
    """A log in one column family of a store.

    `head` is the offset that the next record gets. `append` only adds to a batch: the records
    are readable once the batch is written, and readers that wait are woken by `publish`.
    """

    def __init__(self, store: Store, family: str, codec: Codec) -> None:
        raise NotImplementedError  # cdp.storage owns this: see the class docstring for the contract

    @property
    def head(self) -> int: ...  # type: ignore[empty-body]

    @property
    def start(self) -> int:  # type: ignore[empty-body]
        """The oldest offset that may still be read."""

    def append(self, batch: Batch, records: Sequence[bytes]) -> int:  # type: ignore[empty-body]
        """Adds records at the head, in one batch; returns the first one's offset."""

    def read(self, offset: int, limit: int) -> list[Entry]:  # type: ignore[empty-body]
        """Up to about `limit` records at or after `offset` (whole blocks), in order."""

    def get(self, offset: int) -> bytes | None:
        """One record, or None where it was truncated or never was."""

    def truncate_before(self, batch: Batch, offset: int) -> None:
        """Forgets the blocks that lie wholly before `offset`."""

    def publish(self) -> None:
        """Wakes the readers that wait: what was written up to now may be read."""

    async def wait(self, offset: int) -> None:
        """Returns when a record at or after `offset` is published."""


class Cursors:
    """Readers' saved places. A cursor moves only in the batch of its effects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, reader: str) -> int:
        value = self._store.get("meta", b"cursor:" + reader.encode())
        return int.from_bytes(value, "big") if value else 0

    def set(self, batch: Batch, reader: str, offset: int) -> None:
        batch.put("meta", b"cursor:" + reader.encode(), offset.to_bytes(8, "big"))


_ = trio  # the waiting side is built on trio.Event
