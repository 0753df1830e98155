"""What became of each event at each destination, stored compactly.

One row a commit and bucket of 256 events, under the bucket's first event offset, the destination
and the number of the commit: groups of (kind, state, reason, attempts) with runs of event offsets.
A healthy batch of a hundred is one row of some twenty bytes. Rows are never rewritten, so the
history of an event is all rows of its bucket that name it, and retention is one range of keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cdp.delivery.owed import KINDS, owed_from_row, prefix_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.delivery.owed import Kind, Owed
    from cdp.storage.store import Batch, Store

BUCKET: Final = 256

# The code of a state is its place in this list; codes are stored, so only ever append.
STATES: Final = ("delivered", "filtered", "dead", "redriven")
DELIVERED: Final = 0
FILTERED: Final = 1
DEAD: Final = 2
REDRIVEN: Final = 3


class _Group(msgspec.Struct, frozen=True, array_like=True, gc=False):
    kind: int
    state: int
    reason: str
    attempts: int
    replay: bool
    runs: list[int]  # start in the bucket, length, start, length ...


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    at_us: int
    groups: list[_Group]


class Explanation(NamedTuple):
    """One thing that happened to an event at a destination, or that is still to happen."""

    destination: str
    kind: Kind
    state: str  # one of STATES, or "pending"
    reason: str
    at_us: int  # when it happened; for `pending`, when it is due
    attempts: int
    replay: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode

_What = tuple[int, int, str, int, bool]  # kind, state, reason, attempts, replay


class OutcomeRows:
    """Collects what one commit has to say, and writes it as rows."""

    def __init__(self, destination: str) -> None:
        self._name = prefix_of(destination)
        self._groups: dict[_What, list[int]] = {}

    def add(self, owed: Owed, state: int, reason: str, attempts: int) -> None:
        """Notes one end of a delivery."""
        what = (owed.kind, state, reason, attempts, owed.replay)
        offsets = self._groups.get(what)
        if offsets is None:
            self._groups[what] = [owed.cause_offset]
        else:
            offsets.append(owed.cause_offset)

    def write(self, batch: Batch, sequence: int, now_us: int) -> None:
        """Puts the rows into the batch. `sequence` is of this commit, and never used again."""
        buckets: dict[int, list[_Group]] = {}
        for what, offsets in self._groups.items():
            offsets.sort()
            for start, runs in _runs(offsets):
                buckets.setdefault(start, []).append(_Group(*what, runs))
        tail = self._name + sequence.to_bytes(8, "big")
        for start, groups in buckets.items():
            batch.put("outcomes", start.to_bytes(8, "big") + tail, _encode(_Row(now_us, groups)))
        self._groups.clear()


def _runs(offsets: list[int]) -> Iterable[tuple[int, list[int]]]:
    """Runs of ascending offsets, bucket by bucket: (bucket's first offset, flat runs)."""
    found: dict[int, list[int]] = {}
    start = previous = offsets[0]
    for offset in offsets[1:]:
        if offset == previous + 1 and offset % BUCKET:
            previous = offset
        elif offset != previous:
            _close(found, start, previous)
            start = previous = offset
    _close(found, start, previous)
    return found.items()


def _close(found: dict[int, list[int]], start: int, last: int) -> None:
    bucket = start - start % BUCKET
    found.setdefault(bucket, []).extend((start - bucket, last - start + 1))


def explain_event(store: Store, offset: int) -> list[Explanation]:
    """Everything that became of the event at this offset, oldest first; what waits comes last."""
    # Bounded: `pending` holds at most Limits.pending_max rows a destination.
    waiting = explain_waiting(store.scan("pending"))
    return explain_events(store, [offset])[offset] + waiting.get(offset, [])


def explain_events(store: Store, offsets: Iterable[int]) -> dict[int, list[Explanation]]:
    """What became of each of these events, oldest first; a bucket that many share is read once."""
    found: dict[int, list[Explanation]] = {offset: [] for offset in offsets}
    buckets: dict[int, list[int]] = {}
    for offset in found:
        buckets.setdefault(offset - offset % BUCKET, []).append(offset)
    for bucket, members in buckets.items():
        _explain_bucket(store, bucket, members, found)
    for explanations in found.values():
        explanations.sort(key=lambda one: one.at_us)
    return found


def _explain_bucket(
    store: Store, bucket: int, offsets: list[int], found: dict[int, list[Explanation]]
) -> None:
    start, end = bucket.to_bytes(8, "big"), (bucket + BUCKET).to_bytes(8, "big")
    for key, value in store.scan("outcomes", start, end):
        row = _decode(value)
        name = key[8:-9].decode()
        for g in row.groups:
            one = Explanation(
                name, KINDS[g.kind], STATES[g.state], g.reason, row.at_us, g.attempts, g.replay
            )
            for offset in offsets:
                if _names(g.runs, offset - bucket):
                    found[offset].append(one)


def _names(runs: list[int], place: int) -> bool:
    pairs = zip(runs[::2], runs[1::2], strict=True)
    return any(start <= place < start + length for start, length in pairs)


def explain_waiting(rows: Iterable[tuple[bytes, bytes]]) -> dict[int, list[Explanation]]:
    """What these rows of `pending` say is still to happen, by the offset of the event."""
    found: dict[int, list[Explanation]] = {}
    for key, row in rows:
        owed = owed_from_row(key, row, 0, 0.0)
        one = Explanation(
            key[:-9].decode(),
            KINDS[owed.kind],
            "pending",
            owed.reason or "behind an earlier delivery of the profile",
            owed.due_us,
            owed.attempts,
            owed.replay,
        )
        found.setdefault(owed.cause_offset, []).append(one)
    return found
