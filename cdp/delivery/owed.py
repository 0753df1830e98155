"""What is owed: a delivery in memory while it is not finished, and its rows in the store.

Families: `pending` and `dead`, both under the destination's name, a zero byte and the activation's
offset. An activation is in at most one of the two.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from cdp.domain.change import MERGED, RENAMED, RESOLVED, SPLIT

if TYPE_CHECKING:
    from cdp.domain.event import Event

Kind = Literal["event", "merged", "split", "renamed"]

KINDS: Final[dict[int, Kind]] = {
    RESOLVED: "event",
    MERGED: "merged",
    SPLIT: "split",
    RENAMED: "renamed",
}

REASON_CHARS_MAX: Final = 120

# where an unfinished delivery stands
FRESH: Final = 0  # taken from the log, not yet looked at
BEHIND: Final = 1  # an earlier one of its profile is not finished
READY: Final = 2  # in the heap of what may go, from its time on
FLYING: Final = 3  # in a batch that was handed to the destination
ENDED: Final = 4  # it was ended from outside, and may still stand in a queue


class Owed(msgspec.Struct, gc=False, eq=False):
    """One unfinished delivery of one destination. Mutable: the backlog owns it."""

    offset: int  # of the activation
    kind: int
    cause_offset: int
    profile_id: bytes
    other_profile_id: bytes
    leaf: bytes = b""  # the identifier that the event is stored under: of its person, come what may
    event: Event | None = None  # only between the join and the attempt
    size: int = 0  # bytes of the stored event
    attempts: int = 0
    first_attempt_us: int = 0
    due_s: float = 0.0  # monotonic
    due_us: int = 0  # the same in wall time: what is stored
    reason: str = ""
    group_max: int = 0  # 0: any batch; else at most that many together, to isolate a culprit
    place: int = FRESH
    replay: bool = False
    stored: bool = False  # has a row in `pending`
    erased: bool = False  # its event can no longer be read


class PendingRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivery that waits, as stored."""

    kind: int
    cause_offset: int
    profile_id: bytes
    other_profile_id: bytes
    size: int
    attempts: int
    first_attempt_us: int
    due_us: int
    reason: str
    group_max: int
    replay: bool
    leaf: bytes = b""


class DeadLetter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivery that was given up, where it waits to be redriven."""

    kind: int
    cause_offset: int
    profile_id: bytes
    other_profile_id: bytes
    size: int
    attempts: int
    first_attempt_us: int
    died_at_us: int
    reason: str
    replay: bool
    leaf: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode_pending = msgspec.msgpack.Decoder(PendingRow).decode
decode_dead = msgspec.msgpack.Decoder(DeadLetter).decode


def prefix_of(destination: str) -> bytes:
    """What the keys of a destination's rows begin with."""
    return destination.encode() + b"\x00"


def end_of(destination: str) -> bytes:
    """The first key after a destination's rows."""
    return destination.encode() + b"\x01"


def row_key(destination: str, offset: int) -> bytes:
    """The key of an activation's row."""
    return prefix_of(destination) + offset.to_bytes(8, "big")


def offset_of(key: bytes) -> int:
    """The activation's offset in a row's key."""
    return int.from_bytes(key[-8:], "big")


def pending_row(owed: Owed) -> bytes:
    """The stored form of a delivery that waits."""
    return _encode(
        PendingRow(
            owed.kind,
            owed.cause_offset,
            owed.profile_id,
            owed.other_profile_id,
            owed.size,
            owed.attempts,
            owed.first_attempt_us,
            owed.due_us,
            owed.reason,
            owed.group_max,
            owed.replay,
            owed.leaf,
        )
    )


def owed_from_row(key: bytes, value: bytes, now_us: int, now_s: float) -> Owed:
    """The delivery that a stored row describes; what is left of its wait starts now."""
    row = _decode_pending(value)
    return Owed(
        offset_of(key),
        row.kind,
        row.cause_offset,
        row.profile_id,
        row.other_profile_id,
        row.leaf,
        size=row.size,
        attempts=row.attempts,
        first_attempt_us=row.first_attempt_us,
        due_s=now_s + max(0, row.due_us - now_us) / 1e6,
        due_us=row.due_us,
        reason=row.reason,
        group_max=row.group_max,
        place=BEHIND,
        replay=row.replay,
        stored=True,
    )


def dead_row(owed: Owed, reason: str, now_us: int) -> bytes:
    """The stored form of a delivery that is given up now."""
    return _encode(
        DeadLetter(
            owed.kind,
            owed.cause_offset,
            owed.profile_id,
            owed.other_profile_id,
            owed.size,
            owed.attempts,
            owed.first_attempt_us,
            now_us,
            reason,
            owed.replay,
            owed.leaf,
        )
    )


def owed_from_dead(offset: int, letter: DeadLetter) -> Owed:
    """A dead letter on its way back: a new life, with all its attempts."""
    return Owed(
        offset,
        letter.kind,
        letter.cause_offset,
        letter.profile_id,
        letter.other_profile_id,
        letter.leaf,
        size=letter.size,
        reason="redriven",
        place=BEHIND,
        replay=letter.replay,
        stored=True,
    )


def short_reason(reason: str) -> str:
    """A reason as it is stored: one line, bounded."""
    return " ".join(reason.split())[:REASON_CHARS_MAX]


class DeliveryIds:
    """Ids that survive restart, redrive and replay, for one destination.

    An event's id is made of what its sender called it, so that an event that is accepted again
    after the deduplication window still is the same to the destination; other activations have
    only their place in the log.
    """

    def __init__(self, destination: str) -> None:
        self._seed = blake2b(destination.encode(), digest_size=16)
        self._places = blake2b(b"\x00" + destination.encode(), digest_size=16)

    def of_event(self, event: Event) -> str:
        """The id of an event's delivery."""
        digest = self._seed.copy()
        digest.update(f"\x00{event.source}\x00{event.message_id}".encode())
        return digest.hexdigest()

    def of_place(self, kind: int, offset: int) -> str:
        """The id of a merge's, a split's or a rename's delivery."""
        digest = self._places.copy()
        digest.update(b"\x00%d\x00%d" % (kind, offset))
        return digest.hexdigest()
