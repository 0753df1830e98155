"""Brings deliveries together with their events, which are stored once, in the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.domain.event import decode_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.delivery.owed import Owed
    from cdp.storage.log import Log

READ_AHEAD: Final = 512


class EventJoin:
    """Reads events by offset, blocks at a time, and decodes only those that are asked for."""

    def __init__(self, events: Log) -> None:
        self._events = events
        self._records: dict[int, bytes] = {}
        self._first = 0  # what `_records` covers: offsets from here
        self._end = 0  # up to before here

    def load(self, owed: Iterable[Owed]) -> None:
        """Gives each delivery its event; None remains where the log no longer has it."""
        for one in owed:
            record = self._record(one.cause_offset)
            if record == b"":
                one.erased = True
            elif record is not None:
                one.event = decode_event(record)
                one.size = len(record)

    def forget(self) -> None:
        """Drops what was read ahead: after keys were destroyed it must be read again."""
        self._records = {}
        self._first = self._end = 0

    def _record(self, offset: int) -> bytes | None:
        if not self._first <= offset < self._end:
            self._read(offset)
        return self._records.get(offset)

    def _read(self, offset: int) -> None:
        entries = self._events.read(offset, READ_AHEAD)
        self._records = dict(entries)
        self._first = offset
        # What the log left out between two records it will never have.
        self._end = entries[-1].offset + 1 if entries else offset
