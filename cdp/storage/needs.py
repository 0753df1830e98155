"""The lowest offset of each log that somebody still needs: retention stops there.

A log is needed from the lowest cursor of its readers. The event log is also needed by what refers
to its events and was not finished: the first change and the first activation that a reader has
yet to take, and deliveries that wait for a retry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp.domain.change import decode_activation, decode_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cdp.domain.change import Activation, Change
    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Log


class Needs:
    """Who reads which log. Reader names are those of their cursors.

    `waiting_event` gives the first event that a delivery outside the cursors still needs, or None.
    """

    def __init__(
        self,
        cursors: Cursors,
        *,
        events: tuple[Log, Iterable[str]],
        changes: tuple[Log, Iterable[str]],
        activations: tuple[Log, Iterable[str]],
        waiting_event: Callable[[], int | None],
    ) -> None:
        self._cursors = cursors
        self._events, self._event_readers = events[0], tuple(events[1])
        self._changes, self._change_readers = changes[0], tuple(changes[1])
        self._activations, self._activation_readers = activations[0], tuple(activations[1])
        self._waiting_event = waiting_event

    def events(self) -> int:
        """The first event that is still needed, by its readers or through what refers to it."""
        waiting = self._waiting_event()
        return min(
            self._first_unread(self._events, self._event_readers),
            self._cause_at(self._changes, self.changes(), decode_change),
            self._cause_at(self._activations, self.activations(), decode_activation),
            self._events.published if waiting is None else waiting,
        )

    def changes(self) -> int:
        """The first change that a reader has yet to take."""
        return self._first_unread(self._changes, self._change_readers)

    def activations(self) -> int:
        """The first activation that a destination has yet to take."""
        return self._first_unread(self._activations, self._activation_readers)

    def _first_unread(self, log: Log, readers: tuple[str, ...]) -> int:
        return min((self._cursors.get(reader) for reader in readers), default=log.published)

    def _cause_at(
        self, log: Log, offset: int, decode: Callable[[bytes], Change | Activation]
    ) -> int:
        entries = log.read(offset, 1)
        return decode(entries[0].record).cause_offset if entries else self._events.published
