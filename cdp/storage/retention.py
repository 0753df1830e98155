"""Truncates the logs by age and by size, never past a place that a reader still needs.

Ages come from notes, not from the records: at each sweep the head of each log is noted with the
time, at most `_NOTES_MAX` of them a log, in `meta`. What lies before a note that is older than
the limit is older than the limit. Sizes are those of the records before compression; when all logs
together are over the limit, each gives up its proportion, so they keep about the same age.

What goes with truncated events, in the same batch: `messages` and `outcomes`.
What stays: the `timeline` (type and time of each event under its leaf, small, what a profile of a
past date is counted from) and the fragments. A reader that finds a timeline row without its event
says that the body is past retention. Erasure of a person is another matter and removes both.

A step takes a few blocks, so that the event loop is held for a few milliseconds; `sweep` makes
steps until nothing is left to cut. A destination that is switched off but configured keeps its
place, and so its backlog: only `Cursors.forget` lets retention pass it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from cdp.storage.block import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cdp.storage.log import Entry, Log
    from cdp.storage.store import Batch, Store

_NOTES_MAX: Final = 256
_STEP_RECORDS: Final = 1_024
OUTCOME_BUCKET: Final = 256  # events that one key of `outcomes` covers
_decode_notes: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """How old and how large the logs may get."""

    age_us_max: int
    bytes_max: int  # of all logs together, before compression
    age_us_min: int = 0  # what is younger stays, whatever the size: de-duplication needs it


@dataclass(frozen=True, slots=True)
class RetainedLog:
    """A log under retention.

    `needed_from` gives the lowest offset that any reader still needs, the head where none does.
    `forget` adds to the batch what goes with the entries that are cut, all below an offset.
    """

    log: Log
    needed_from: Callable[[], int]
    forget: Callable[[Batch, list[Entry], int], None] | None = None


class Retention:
    """Keeps a set of logs within its limits. Called by housekeeping, from one task."""

    def __init__(self, store: Store, logs: Sequence[RetainedLog], limits: RetentionLimits) -> None:
        self._store = store
        self._logs = logs
        self._limits = limits

    async def sweep(self, now_us: int) -> int:
        """Cuts all that is due; returns how many records' offsets went."""
        self._note_heads(now_us)
        due = due_cuts(
            self._limits, [(_place(kept), self._notes(kept)) for kept in self._logs], now_us
        )
        cut_count = 0
        for kept, cut in zip(self._logs, due, strict=True):
            start = kept.log.start
            while self._step(kept, cut):
                await trio.lowlevel.checkpoint()
            if kept.log.start > start:
                cut_count += kept.log.start - start
                await self._store.reclaim(kept.log.family, key_of(0), key_of(kept.log.start))
        return cut_count

    def _step(self, kept: RetainedLog, cut: int) -> bool:
        """Cuts a few blocks; False when nothing was left to cut."""
        log = kept.log
        entries = log.read(log.start, _STEP_RECORDS)
        end = entries[-1].offset + 1 if entries else cut
        boundary = log.boundary_before(min(cut, end))
        if boundary <= log.start:
            return False
        batch = self._store.batch()
        if kept.forget is not None:
            gone = [entry for entry in entries if entry.offset < boundary]
            kept.forget(batch, gone, boundary)
        log.truncate_before(batch, boundary)
        self._store.write(batch)
        return True

    def _notes(self, kept: RetainedLog) -> list[tuple[int, int]]:
        value = self._store.get("meta", _notes_key(kept.log))
        return _decode_notes(value) if value else []

    def _note_heads(self, now_us: int) -> None:
        batch = self._store.batch()
        for kept in self._logs:
            notes = self._notes(kept)
            noted = note_head(notes, now_us, kept.log.published, self._limits.age_us_max)
            if noted != notes:
                batch.put("meta", _notes_key(kept.log), msgspec.msgpack.encode(noted))
        if len(batch):
            self._store.write(batch)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a log stands, as the decision sees it."""

    stored_bytes: int
    needed_from: int
    leaving: Callable[[int], int]  # the offset from which at most so many bytes are left


def due_cuts(
    limits: RetentionLimits,
    logs: Sequence[tuple[Place, Sequence[tuple[int, int]]]],
    now_us: int,
) -> list[int]:
    """For each log the offset before which everything may go now."""
    total_bytes = sum(place.stored_bytes for place, _ in logs)
    cuts = []
    for place, notes in logs:
        cut = cut_by_age(notes, now_us - limits.age_us_max)
        if total_bytes > limits.bytes_max:
            allowed_bytes = limits.bytes_max * place.stored_bytes // total_bytes
            surplus = place.leaving(allowed_bytes)
            if limits.age_us_min:
                surplus = min(surplus, cut_by_age(notes, now_us - limits.age_us_min))
            cut = max(cut, surplus)
        cuts.append(min(cut, place.needed_from))
    return cuts


def cut_by_age(notes: Sequence[tuple[int, int]], oldest_us: int) -> int:
    """The highest head that was noted at or before a time; 0 where none was."""
    return max((head for noted_us, head in notes if noted_us <= oldest_us), default=0)


def note_head(
    notes: list[tuple[int, int]], now_us: int, head: int, age_us_max: int
) -> list[tuple[int, int]]:
    """The notes with the head as it is now, if it is time for one, without those that are spent."""
    spacing_us = max(1, age_us_max // (_NOTES_MAX // 2))
    if notes and now_us < notes[-1][0] + spacing_us:
        return notes  # also where the clock was set back
    spent = [note for note in notes if note[0] <= now_us - age_us_max]
    kept = notes[max(0, len(spent) - 1) :]
    return [*kept, (now_us, head)][-_NOTES_MAX:]


def forget_events(
    store: Store, message_keys: Callable[[Sequence[bytes]], Sequence[bytes]]
) -> Callable[[Batch, list[Entry], int], None]:
    """What goes with truncated events. `message_keys` gives the `messages` keys of records."""

    def forget(batch: Batch, gone: list[Entry], boundary: int) -> None:
        end = key_of(boundary)
        # Rows of outcomes tell of a bucket of events; one that is cut in two stays whole.
        batch.delete_range("outcomes", key_of(0), key_of(boundary - boundary % OUTCOME_BUCKET))
        # Who erases an event forgets its message id as well: there is none left to read.
        keys = message_keys([entry.record for entry in gone if entry.record])
        for key, row in zip(keys, store.get_many("seen", keys), strict=True):
            # The same message id may have come again, after its window: that one is kept.
            if row is not None and row[8:] < end:
                batch.delete("seen", key)

    return forget


def _place(kept: RetainedLog) -> Place:
    log = kept.log
    return Place(log.stored_bytes(), kept.needed_from(), log.offset_leaving)


def _notes_key(log: Log) -> bytes:
    return b"ages:" + log.family.encode()
