"""The books of one destination: counters that hold the conservation law, and its rows.

offered = delivered + filtered(by reason) + pending + dead, for what came from the log and for what
was replayed, each. Every change of a counter is written in the batch of what it counts, so the law
is exact at every moment and after any crash. `pending` is the number of rows in `pending`, `dead`
the number of rows in `dead`; an activation above the cursor was not offered yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cdp.delivery.outcomes import DEAD, DELIVERED, FILTERED, REDRIVEN, OutcomeRows
from cdp.delivery.owed import dead_row, pending_row, row_key, short_reason

if TYPE_CHECKING:
    from cdp.delivery.owed import Owed
    from cdp.storage.store import Batch, Store


class Counts(msgspec.Struct, array_like=True):
    """The counters of one destination for one origin: the log, or replays."""

    offered: int = 0
    delivered: int = 0
    pending: int = 0
    dead: int = 0
    filtered: dict[str, int] = {}

    def filtered_total(self) -> int:
        """How many were filtered, for whatever reason."""
        return sum(self.filtered.values())

    def holds(self) -> bool:
        """Whether the conservation law holds."""
        ended = self.delivered + self.filtered_total() + self.dead
        return self.offered == ended + self.pending


class Books(msgspec.Struct, array_like=True):
    """All counters of one destination, as stored under `counts:<destination>`."""

    live: Counts = msgspec.field(default_factory=Counts)
    replay: Counts = msgspec.field(default_factory=Counts)
    commits: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Books).decode


def _books_key(destination: str) -> bytes:
    return b"counts:" + destination.encode()


def read_books(store: Store, destination: str) -> Books:
    """The stored counters of a destination; all zero where it never did anything."""
    value = store.get("meta", _books_key(destination))
    return _decode(value) if value is not None else Books()


class Ledger:
    """Writes one commit at a time: open with a batch, note what happened, close."""

    def __init__(self, store: Store, destination: str) -> None:
        self._name = destination
        self._outcomes = OutcomeRows(destination)
        self.books = read_books(store, destination)

    @property
    def dead_count(self) -> int:
        """Dead letters that wait, whatever their origin."""
        return self.books.live.dead + self.books.replay.dead

    def counts_of(self, owed: Owed) -> Counts:
        """The counters that this delivery belongs to."""
        return self.books.replay if owed.replay else self.books.live

    def delivered(self, batch: Batch, owed: Owed) -> None:
        """The destination has it."""
        self._end(batch, owed).delivered += 1
        self._outcomes.add(owed, DELIVERED, "", owed.attempts)

    def filtered(self, batch: Batch, owed: Owed, reason: str) -> None:
        """It may not, or need not, go there."""
        filtered = self._end(batch, owed).filtered
        filtered[reason] = filtered.get(reason, 0) + 1
        self._outcomes.add(owed, FILTERED, reason, owed.attempts)

    def died(self, batch: Batch, owed: Owed, reason: str, now_us: int) -> None:
        """It is given up: its row moves from `pending` to `dead`."""
        self._end(batch, owed).dead += 1
        text = short_reason(reason)
        batch.put("dead", row_key(self._name, owed.offset), dead_row(owed, text, now_us))
        self._outcomes.add(owed, DEAD, text, owed.attempts)

    def waits(self, batch: Batch, owed: Owed) -> None:
        """It waits for a retry or behind one; called again when its row has to change."""
        if not owed.stored:
            counts = self.counts_of(owed)
            counts.offered += 1
            counts.pending += 1
            owed.stored = True
        batch.put("pending", row_key(self._name, owed.offset), pending_row(owed))

    def redriven(self, batch: Batch, owed: Owed) -> None:
        """A dead letter goes back to `pending`."""
        counts = self.counts_of(owed)
        counts.dead -= 1
        counts.pending += 1
        assert counts.dead >= 0, "a dead letter was redriven that was never counted"
        key = row_key(self._name, owed.offset)
        batch.delete("dead", key)
        batch.put("pending", key, pending_row(owed))
        self._outcomes.add(owed, REDRIVEN, "", 0)

    def buried(self, batch: Batch, owed: Owed, reason: str) -> None:
        """A dead letter is not kept any longer: it counts as filtered."""
        counts = self.counts_of(owed)
        counts.dead -= 1
        counts.filtered[reason] = counts.filtered.get(reason, 0) + 1
        assert counts.dead >= 0, "a dead letter ended that was never counted"
        batch.delete("dead", row_key(self._name, owed.offset))
        # Its history counts each end once: this one takes the place of the earlier.
        self._outcomes.add(owed, REDRIVEN, reason, 0)
        self._outcomes.add(owed, FILTERED, reason, owed.attempts)

    def close(self, batch: Batch, now_us: int) -> None:
        """Adds the counters and what became of each event to the batch."""
        self.books.commits += 1
        self._outcomes.write(batch, self.books.commits, now_us)
        assert self.books.live.holds(), "the conservation law is broken for the log"
        assert self.books.replay.holds(), "the conservation law is broken for replays"
        batch.put("meta", _books_key(self._name), _encode(self.books))

    def _end(self, batch: Batch, owed: Owed) -> Counts:
        counts = self.counts_of(owed)
        if owed.stored:
            counts.pending -= 1
            batch.delete("pending", row_key(self._name, owed.offset))
        else:
            counts.offered += 1
        return counts
