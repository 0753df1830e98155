"""Everything that one destination is owed, between the activation log and the end of each delivery.

The rule that makes a crash harmless: at every commit, each activation below a feed's cursor has
ended or has a row in `pending`, and none above it has. So a commit that reports on a batch moves
the cursor past it, and what was taken before that batch but is not finished gets a row. The
result, the counters, the rows and the cursor are one write.

Unfinished deliveries are at most `pending_max`, stored or not: where there is no room nothing is
taken from the log. The actor decides when to take, plan and commit; nothing here waits.
"""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Final

from cdp.delivery.flights import carries
from cdp.delivery.ledger import Ledger
from cdp.delivery.owed import (
    FLYING,
    DeadLetter,
    Owed,
    decode_dead,
    end_of,
    offset_of,
    owed_from_dead,
    owed_from_row,
    prefix_of,
    row_key,
)
from cdp.delivery.purging import ERASED, ROWS_STEP, dead_of
from cdp.domain.change import RESOLVED, decode_activation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cdp.delivery.gate import Gate
    from cdp.delivery.join import EventJoin
    from cdp.delivery.lanes import Lanes
    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Log
    from cdp.storage.store import Batch, Store

PASSED_MAX: Final = 4_096  # filtered deliveries that wait in memory for the cursor to pass them
TAKE_MAX: Final = 256  # records of one take: keeps the event loop for a few milliseconds at most


class Feed:
    """A reader's way through the activation log: the live one, or a replay of a stretch of it."""

    def __init__(self, reader: str, cursor: int, *, until: int | None = None) -> None:
        self.reader = reader
        self.cursor = cursor  # as committed
        self.position = cursor  # next to take
        self.until = until  # None: without end, the live feed
        self.ahead: dict[int, Owed] = {}  # taken, not ended, no row; in log order
        self.passed: list[tuple[Owed, str]] = []  # filtered when taken, not committed yet
        self.must_reach = 0  # the next commit reports on activations up to here

    @property
    def replay(self) -> bool:
        """Whether what is taken here is a replay."""
        return self.until is not None

    @property
    def exhausted(self) -> bool:
        """Whether a replay has committed everything that it was to offer."""
        return self.until is not None and self.cursor >= self.until

    def next_cursor(self) -> int:
        """Where the cursor may stand after the next commit; see the rule at the top."""
        free = next(iter(self.ahead)) if self.ahead else self.position
        return max(self.cursor, free, self.must_reach)


class Backlog:
    """The state of one destination's deliveries, loaded from the store."""

    def __init__(
        self,
        name: str,
        *,
        store: Store,
        activations: Log,
        cursors: Cursors,
        join: EventJoin,
        gate: Gate,
        lanes: Lanes,
        pending_max: int,
    ) -> None:
        self.name = name
        self.ledger = Ledger(store, name)
        self.lanes = lanes
        self.stored: dict[int, Owed] = {}  # the rows of `pending`
        self.live = Feed(reader_of(name), cursors.get(reader_of(name)))
        self.replay: Feed | None = None
        self._store = store
        self._activations = activations
        self._cursors = cursors
        self._join = join
        self._gate = gate
        self._pending_max = pending_max
        self._filtered: list[tuple[Owed, str]] = []
        self._delivered: list[Owed] = []
        self._dead: list[tuple[Owed, str]] = []
        self._postponed: list[Owed] = []
        self._exhumed: dict[int, Owed] = {}  # dead letters that end with the next commit

    def load(self, now_us: int, now_s: float) -> None:
        """Takes up the rows of what waited when the last run ended."""
        for key, value in self._store.scan("pending", prefix_of(self.name), end_of(self.name)):
            owed = owed_from_row(key, value, now_us, now_s)
            self.stored[owed.offset] = owed
            self.lanes.add_waiting(owed)

    @property
    def room(self) -> int:
        """How many more may be taken."""
        replayed = len(self.replay.ahead) if self.replay else 0
        return self._pending_max - len(self.stored) - len(self.live.ahead) - replayed

    @property
    def unfinished(self) -> int:
        """Deliveries that have not ended, stored or not."""
        return self._pending_max - self.room

    @property
    def dead_count(self) -> int:
        """Dead letters, with those that the next commit adds."""
        return self.ledger.dead_count + len(self._dead)

    @property
    def gave_up(self) -> bool:
        """Whether the next commit buries a delivery."""
        return bool(self._dead)

    @property
    def made_room(self) -> bool:
        """Whether the gate took something out after the last taking, so that more may be taken."""
        return bool(self._filtered)

    @property
    def dirty(self) -> bool:
        """Whether a commit would say anything."""
        if self._delivered or self._postponed or self._filtered or self._dead or self._exhumed:
            return True
        feeds = (self.live,) if self.replay is None else (self.live, self.replay)
        return any(feed.next_cursor() > feed.cursor for feed in feeds)

    def take(self, feed: Feed, limit: int) -> int:
        """Takes up to `limit` activations; returns how many. 0: the log has no more, or no room."""
        limit = min(limit, self.room, TAKE_MAX)
        if limit <= 0:
            return 0
        entries = self._activations.read(feed.position, limit)[:limit]
        if feed.until is not None:
            entries = [entry for entry in entries if entry.offset < feed.until]
        if not entries:
            if feed.until is not None:
                feed.position = feed.until  # nothing is left of the stretch
            return 0
        replay = feed.replay
        taken: list[Owed] = []
        for offset, record in entries:
            one = decode_activation(record)
            other, leaf = one.other_profile_id, one.leaf
            owed = Owed(offset, one.kind, one.cause_offset, one.profile_id, other, leaf)
            owed.replay = replay
            taken.append(owed)
        self._join.load(taken)
        for owed in taken:
            self._offer(feed, owed)
        feed.position = entries[-1].offset + 1
        if len(feed.passed) >= PASSED_MAX:
            # Behind one that flies for long: it gets a row, so that the cursor can go on.
            feed.must_reach = feed.position
        return len(entries)

    def _offer(self, feed: Feed, owed: Owed) -> None:
        reason = self._gate.refusal(owed)
        if feed.replay and self._is_owed(owed.offset):
            reason = "already_owed"
        # What is refused still keeps its place where it orders what stands around it: a merge
        # waits for the deliveries of both profiles, and what follows waits for the merge.
        orders = owed.kind != RESOLVED and reason == "kind" and self.lanes.busy(owed)
        if reason is None or orders:
            feed.ahead[owed.offset] = owed
            self.lanes.add_fresh(owed)
        else:
            feed.passed.append((owed, reason))

    def _is_owed(self, offset: int) -> bool:
        return offset in self.stored or (
            self._store.get("dead", row_key(self.name, offset)) is not None
        )

    def next_batch(self, now_s: float) -> list[Owed]:
        """What may go now, with its events and past the gate. Empty: nothing may."""
        while batch := self.lanes.plan(now_s):
            self._join.load([owed for owed in batch if owed.event is None])
            allowed, refused = [], []
            for owed in batch:
                reason = self._gate.refusal(owed)
                if reason is None:
                    allowed.append(owed)
                else:
                    refused.append(owed)
                    self._filtered.append((owed, reason))
                    self._leave(owed)
            # Now, not when the others land: they may have nothing to do with these lanes.
            self.lanes.settle(refused)
            if allowed:
                return allowed
        return []

    def deliver(self, owed: Owed) -> None:
        """This one of a batch was delivered."""
        self._delivered.append(owed)
        self._leave(owed)

    def bury(self, owed: Owed, reason: str) -> None:
        """This one of a batch is given up."""
        self._dead.append((owed, reason))
        self._leave(owed)

    def postpone(self, owed: Owed) -> None:
        """This one of a batch must be tried again; its times and its reason are set."""
        if not owed.stored:
            self._reach(owed)
        self._postponed.append(owed)
        self.lanes.postpone(owed)

    def settle(self, batch: list[Owed]) -> None:
        """The whole batch has come back."""
        self.lanes.settle(batch)

    def end_unfinished(self, nodes: Collection[bytes]) -> int:
        """Ends what these people are owed and is not given up; how many. None of it may fly."""
        ended = [owed for owed in self._unfinished() if carries(owed, nodes)]
        assert all(owed.place != FLYING for owed in ended), "wait until they have landed"
        self.lanes.drop(ended)
        for owed in ended:
            if owed.stored:
                del self.stored[owed.offset]
                self._filtered.append((owed, ERASED))
            else:
                # As if the gate had refused it: it ends when the cursor passes it.
                feed = self._feed_of(owed)
                del feed.ahead[owed.offset]
                insort(feed.passed, (owed, ERASED), key=_offset_of_passed)
        self._join.forget()
        return len(ended)

    def end_dead(self, nodes: Collection[bytes], after: int) -> tuple[int, int | None]:
        """Ends dead letters of these people: how many, and the last one looked at; None: of all."""
        start = row_key(self.name, after + 1)
        rows = self._store.scan("dead", start, end_of(self.name), limit=ROWS_STEP)
        ended = dead_of(rows, nodes)
        self._exhumed.update((owed.offset, owed) for owed in ended)
        return len(ended), (offset_of(rows[-1][0]) if rows else None)

    def is_ending(self, offset: int) -> bool:
        """Whether the next commit ends this dead letter."""
        return offset in self._exhumed

    def _unfinished(self) -> Iterator[Owed]:
        yield from self.stored.values()
        yield from self.live.ahead.values()
        if self.replay is not None:
            yield from self.replay.ahead.values()

    def _leave(self, owed: Owed) -> None:
        self.lanes.finish(owed)
        if owed.stored:
            del self.stored[owed.offset]
        else:
            self._reach(owed)
            feed = self._feed_of(owed)
            del feed.ahead[owed.offset]

    def _reach(self, owed: Owed) -> None:
        feed = self._feed_of(owed)
        if owed.offset >= feed.must_reach:
            feed.must_reach = owed.offset + 1

    def _feed_of(self, owed: Owed) -> Feed:
        if not owed.replay:
            return self.live
        assert self.replay is not None, "a replayed delivery without a replay"
        return self.replay

    def commit(self, now_us: int, add: Callable[[Batch], None] | None = None) -> None:
        """Writes everything that happened since the last commit, in one batch."""
        batch, ledger = self._store.batch(), self.ledger
        for owed in self._delivered:
            ledger.delivered(batch, owed)
        for owed, reason in self._filtered:
            ledger.filtered(batch, owed, reason)
        for owed, reason in self._dead:
            ledger.died(batch, owed, reason, now_us)
        for owed in self._exhumed.values():
            ledger.buried(batch, owed, ERASED)
        for owed in self._postponed:
            # What has no row yet gets it where the cursor passes it; what was refused since then,
            # at a second try in the same turn, has ended and must not get its row back.
            if self.stored.get(owed.offset) is owed:
                ledger.waits(batch, owed)
        self._advance(self.live, batch)
        if self.replay is not None:
            self._advance(self.replay, batch)
        if add is not None:
            add(batch)
        ledger.close(batch, now_us)
        self._store.write(batch)
        self._delivered.clear()
        self._filtered.clear()
        self._dead.clear()
        self._postponed.clear()
        self._exhumed.clear()

    def _advance(self, feed: Feed, batch: Batch) -> None:
        for owed in self._below(feed, feed.must_reach):
            self.ledger.waits(batch, owed)
            self.stored[owed.offset] = owed
            del feed.ahead[owed.offset]
        cursor = feed.next_cursor()
        kept = [one for one in feed.passed if one[0].offset >= cursor]
        for owed, reason in feed.passed[: len(feed.passed) - len(kept)]:
            self.ledger.filtered(batch, owed, reason)
        feed.passed = kept
        if cursor != feed.cursor:
            feed.cursor = cursor
            self._cursors.set(batch, feed.reader, cursor)

    @staticmethod
    def _below(feed: Feed, cursor: int) -> list[Owed]:
        found = []
        for offset, owed in feed.ahead.items():
            if offset >= cursor:
                break
            found.append(owed)
        return found

    def redrive(
        self,
        letters: Sequence[tuple[int, DeadLetter]],
        now_us: int,
        add: Callable[[Batch], None],
    ) -> None:
        """Moves dead letters back to `pending`, in one write. There must be room for them."""
        assert len(letters) <= self.room, "more than there is room for"
        moved = [owed_from_dead(offset, letter) for offset, letter in letters]

        def move(batch: Batch) -> None:
            for owed in moved:
                self.ledger.redriven(batch, owed)
            add(batch)

        self.commit(now_us, move)
        for owed in moved:
            self.stored[owed.offset] = owed
            self.lanes.add_waiting(owed)

    def dead_from(self, offset: int, limit: int) -> list[tuple[int, DeadLetter]]:
        """Dead letters at or after an offset, in order."""
        start = row_key(self.name, offset)
        rows = self._store.scan("dead", start, end_of(self.name), limit=limit)
        return [(int.from_bytes(key[-8:], "big"), decode_dead(value)) for key, value in rows]


def _offset_of_passed(passed: tuple[Owed, str]) -> int:
    return passed[0].offset


def reader_of(destination: str) -> str:
    """The name of a destination's cursor."""
    return f"destination:{destination}"
