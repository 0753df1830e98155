"""The store as the folds see it: families of ordered keys, atomic batches, one way to be durable.

`write` is atomic over families and cheap, but not yet durable; `sync` makes everything written
before it durable, and callers that wait at the same time share one flush. Answer a client, or
act on the outside world irrevocably, only after `sync`.

Keys are big-endian or keyed hashes, never raw identifiers. Values pass through the codec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT_VERSION: Final = 2

# Every column family, and what its keys are.
FAMILIES: Final = (
    "meta",  # name -> value: format, cursors (`cursor:<reader>`), counters (`counts:<owner>`), …
    "events",  # offset u64 of a block's first record -> block of event records
    "changes",  # the same, for the change log
    "activations",  # the same, for the activation log
    "seen",  # keyed hash 16 of messageId -> received_at_us u64 + event offset u64
    "rejected",  # received_at_us u64 + sequence u32 -> rejected event
    "identity",  # what cdp._matcher returns, byte for byte
    "identifiers",  # node 16 -> Identifier
    "fragments",  # leaf node 16 -> Fragment
    "timeline",  # leaf node 16 + event_time_us u64 + event offset u64 -> event type
    "logins",  # device node 16 + event_time_us u64 + user node 16 -> empty: who was signed in
    "pending",  # destination name + 0x00 + activation offset u64 -> pending delivery
    "dead",  # destination name + 0x00 + activation offset u64 -> dead letter
    "outcomes",  # event offset u64 by 256 + destination + 0x00 + commit u64 -> what became of them
    "subjects",  # node 16 -> the key slots that its data is sealed with, u64 each, newest last
    "consent",  # seq u64 -> consent record
    "standing",  # node 16 -> where each purpose stands for the identifier, and the seqs of records
    "suppressed",  # node 16 -> since when and why nothing about it may be stored or sent
    "recipients",  # profile id 16 + destination name -> when it first got something of the profile
    "requests",  # request id 16 -> a data subject's request: what it asks, and how far it is
    "erasures",  # request id 16 + destination name -> the erasure's job at a destination
    "definitions",  # "d" + definition u32 -> an audience or a computed trait
    "homes",  # leaf node 16 + anchor node 16 -> what its events contributed to measures
    "people",  # profile id 16 -> its homes, memberships, edges and computed traits
    "timers",  # due_us u64 + profile id 16 -> empty: when an answer about the profile may change
    "members",  # definition u32 + profile id 16 -> since when
    "membership_history",  # definition u32 + profile id 16 + offset u64 -> entered, exited
    "backfills",  # leaf node 16 + anchor node 16 -> what a running backfill found
    "audit",  # seq u64 -> audit record; 0xff + its size u64 -> signed checkpoint
)


class Batch(Protocol):
    """Writes that happen together or not at all."""

    def put(self, family: str, key: bytes, value: bytes) -> None: ...

    def delete(self, family: str, key: bytes) -> None: ...

    def delete_range(self, family: str, start: bytes, end: bytes) -> None:
        """Deletes keys with start <= key < end."""
        ...

    def __len__(self) -> int: ...


class Store(Protocol):
    """An open store. Only one process has it; only the event loop's thread calls it."""

    def get(self, family: str, key: bytes) -> bytes | None: ...

    def get_many(self, family: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """One value a key, in the same order; None where there is none."""
        ...

    def scan(
        self,
        family: str,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        limit: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """Keys with start <= key < end in order, or from the last one back with `reverse`."""
        ...

    def items(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and value of a family in order, streamed, while nobody writes that family."""
        ...

    def batch(self) -> Batch: ...

    def write(self, batch: Batch) -> None:
        """Applies a batch atomically. Visible at once, durable after the next `sync`.

        Raises:
            StorageError: the outcome is unknown; crash, and let de-duplication decide.
        """
        ...

    async def sync(self) -> None:
        """Returns when everything written before the call is on disk. Raises StorageError."""
        ...

    async def reclaim(self, family: str, start: bytes, end: bytes) -> None:
        """Gives the disk space of deleted keys in start <= key < end back. May take seconds."""
        ...

    async def checkpoint(self, path: Path) -> None:
        """A consistent copy (hard links where it can) in a directory that must not exist.

        Holds what was written before the call, and may hold some of what is written during it.
        """
        ...

    def size_bytes(self) -> int:
        """What the files take on disk."""
        ...

    def close(self) -> None: ...
