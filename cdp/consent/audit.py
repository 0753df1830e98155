"""The audit log: what was done to people's rights, in a chain that cannot be changed unseen.

A record names the one before it by its RFC 6962 leaf hash, so one hash serves the chain and the
tree. Records are written in the batch of what they record: both are there or neither. They hold
hashes, ids and counts, never personal data, so that an erasure need not touch them.

`cdp.consent.checkpoints` signs what stands here and sends it out of the house;
`cdp.consent.verification` finds what was changed since.
"""

from __future__ import annotations

from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import trio

from cdp.consent.merkle import Growing, leaf_hash
from cdp.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cdp.clock import Clock
    from cdp.storage.store import Batch, Store

FAMILY: Final = "audit"
RECORD_SCHEMA: Final = 1
NO_RECORD: Final = bytes(32)  # what the first record names as the one before it
RECORDS_END: Final = b"\x80"  # sorts after every record, and before every checkpoint
CHECKPOINT_RECORDS: Final = 10_000  # so many new records are worth a checkpoint at once

_EDGE_KEY: Final = b"audit:edge"
_READ_ROWS: Final = 1_000

# Everything that is recorded, and what it means. A word that is not here cannot be recorded.
ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "consent_recorded": "somebody agreed, refused or withdrew",
        "opt_out_signal": "a browser said that data must not be sold or shared",
        "restricted": "processing was restricted",
        "unrestricted": "a restriction of processing ended",
        "suppressed": "identifiers may no longer be stored or sent",
        "unsuppressed": "identifiers may be heard of again",
        "request_received": "a person asked for what is their right",
        "request_held": "a request waits for a reason that was given",
        "request_released": "a request need not wait any more",
        "request_verified": "the person was found to be who they say",
        "request_approved": "a request may run",
        "request_denied": "a request will not run",
        "request_cancelled": "a request was withdrawn before it ran",
        "erasure_sealed": "an erasure began: nothing more is stored or sent",
        "erasure_shredding": "an erasure destroys the person's keys",
        "erasure_purging": "an erasure removes rows and files",
        "erasure_verifying": "an erasure looks for what is left",
        "erasure_downstream": "an erasure is told to the destinations",
        "erasure_destination": "an erasure moved on at one destination",
        "erasure_attested": "somebody erased at a destination by hand, and says so",
        "erasure_complete": "an erasure is done everywhere",
        "erasure_partially_complete": "an erasure ended, and not everywhere",
        "erasure_reapplied": "an erasure was done again on a restored store",
        "key_destroyed": "keys of a person were overwritten",
        "key_rotated": "keys were wrapped under another master key",
        "access_exported": "a person's data was put together for them",
        "export_fetched": "a person's data was fetched",
        "export_removed": "a file with a person's data was removed",
        "consent_signal_sent": "a destination was told that consent has changed",
        "in_flight_at_withdrawal": "an attempt was under way when consent ended",
        "mapping_changed": "a destination is used for other purposes than at the last start",
        "configuration_loaded": "the daemon started with this configuration",
        "redrive": "dead letters were sent again",
        "replay": "a destination is offered again what it was offered before",
        "pause": "a destination was paused",
        "resume": "a paused destination goes on",
        "resubmit": "a rejected event was sent again",
        "behind_witness": "the witness holds a longer log than this one: it was restored or cut",
        "checkpoint": "the log was signed up to here",
    }
)


class AuditRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One entry. `object` is the SHA-256 of what it is about; `previous` the leaf hash before."""

    schema: int
    seq: int
    at_us: int
    actor: str
    action: str
    object: bytes
    details: dict[str, Any]
    previous: bytes


class Head(NamedTuple):
    """How long the stored log is, and the root of its tree."""

    size: int
    root: bytes


_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder(AuditRecord).decode
_Edge = tuple[int, list[bytes]]
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

encode_record = _encode
decode_record = _decode


class AuditLog:
    """The one writer of the audit log.

    From the first `add` to a batch until that batch is written or thrown away, nobody else may
    add: there is no `await` in between. Whether it was written shows at the next `add`: where it
    was not, its records never were, and their numbers are given again, so the chain has no gap.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tree, self._settled_hash = _restore(store)
        self._head = self._tree.size
        self._previous = self._settled_hash
        self._batch: Batch | None = None
        self._fresh: list[bytes] = []  # leaf hashes of the records in `_batch`
        self._last = b""  # the last of those records
        self._due_at = self._head + CHECKPOINT_RECORDS
        self.due = trio.Event()  # set where so much is new that a checkpoint should not wait

    def add(
        self,
        batch: Batch,
        *,
        actor: str,
        action: str,
        object: bytes | str,
        details: Mapping[str, Any] = _NOTHING,
    ) -> int:
        """Records in `batch` that `actor` did `action` to `object`; returns the record's number.

        `details` are ids, counts and hashes, never personal data. `action` is one of `ACTIONS`.
        """
        assert action in ACTIONS, f"{action}: not an action that is recorded"
        if self._batch is not batch:
            self._settle()
            self._batch = batch
        seq = self._head
        record = _encode(
            (
                RECORD_SCHEMA,
                seq,
                self._clock.now_us(),
                actor,
                action,
                object_hash(object),
                details if type(details) is dict else dict(details),
                self._previous,
            )
        )
        batch.put(FAMILY, seq.to_bytes(8, "big"), record)
        self._previous = leaf = leaf_hash(record)
        self._fresh.append(leaf)
        self._last = record
        self._head = seq + 1
        if seq >= self._due_at:
            self.due.set()
        return seq

    def settle(self) -> Head:
        """The head of what is stored. Not between an `add` and the writing of its batch.

        Raises:
            StoreDamaged: another record stands in the place of ours.
        """
        self._settle()
        self._batch = None
        return Head(self._tree.size, self._tree.root())

    def _settle(self) -> None:
        """Finds out what became of the last batch."""
        if self._fresh:
            stored = self._store.get(FAMILY, (self._head - 1).to_bytes(8, "big"))
            if stored == self._last:
                append = self._tree.append
                for leaf in self._fresh:
                    append(leaf)
                self._settled_hash = self._previous
            elif stored is None:
                self._head, self._previous = self._tree.size, self._settled_hash
            else:
                raise StoreDamaged(
                    f"audit: record {self._head - 1} is not the one that was written; "
                    "run `cdp audit verify`"
                )
            self._fresh = []

    def save_edge(self, batch: Batch) -> None:
        """Notes how far the tree is, so that the next start need not read from the beginning."""
        batch.put("meta", _EDGE_KEY, _encode((self._tree.size, self._tree.edge)))
        self._due_at = self._tree.size + CHECKPOINT_RECORDS
        self.due = trio.Event()


def object_hash(value: bytes | str) -> bytes:
    """How a record names what it is about."""
    return sha256(value.encode() if isinstance(value, str) else value).digest()


def stored_records(store: Store, first: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """The records as they are stored, with their keys, in order, from number `first` on."""
    start = first.to_bytes(8, "big")
    while rows := store.scan(FAMILY, start, RECORDS_END, limit=_READ_ROWS):
        yield from rows
        start = rows[-1][0] + b"\x00"


def saved_edge(store: Store) -> tuple[int, list[bytes]]:
    """Size and edge of the tree at the last checkpoint, as the next start takes them."""
    saved = store.get("meta", _EDGE_KEY)
    return msgspec.msgpack.decode(saved, type=_Edge) if saved else (0, [])


def _restore(store: Store) -> tuple[Growing, bytes]:
    """The tree over what is stored, and the hash of the last record. Reads since the last edge.

    Raises:
        StoreDamaged: what is stored is shorter than what was signed, or is no chain.
    """
    size, edge = saved_edge(store)
    tree, previous = Growing(size, edge), NO_RECORD
    if size:
        last = store.get(FAMILY, (size - 1).to_bytes(8, "big"))
        if last is None:
            raise _cut(size - 1)
        previous = leaf_hash(last)
    for key, value in stored_records(store, size):
        try:
            record = _decode(value)
        except msgspec.MsgspecError as error:
            raise _cut(tree.size) from error
        if key != tree.size.to_bytes(8, "big") or record.previous != previous:
            raise _cut(tree.size)
        previous = leaf_hash(value)
        tree.append(previous)
    return tree, previous


def _cut(seq: int) -> StoreDamaged:
    return StoreDamaged(
        f"audit: record {seq} is missing or is not what was written; run `cdp audit verify`, "
        "then restore the last checkpoint"
    )
