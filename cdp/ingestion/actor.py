"""The log writer: takes what waits, writes once, flushes once, answers all.

Requests that arrive while a flush runs wait for the next one together, as a group, so the cost of
durability is shared by as many as there are. A group is one write and one flush; a submission is
never split. Nothing is answered before the flush; readers of the log are woken after it.

After an error of the store the outcome is unknown: those who wait are told to come back, and the
error leaves the actor, which ends the process. A full disk is different: it gets better, so the
actor refuses and goes on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from cdp.clock import SECOND_US, Clock
from cdp.errors import Overloaded, StoreFull
from cdp.ingestion.deduplication import MessageKeys
from cdp.ingestion.submission import Group, Submission
from cdp.ingestion.writer import GroupWriter

if TYPE_CHECKING:
    from cdp.config import Limits
    from cdp.ingestion.accounts import Tally
    from cdp.ingestion.collaborators import Ledger, Namer, RowSeal, Suppressed
    from cdp.ingestion.plan import PlanCheck
    from cdp.storage.log import Log
    from cdp.storage.store import Store
    from cdp.telemetry import Journal, Metrics

BUSY_REQUESTS_MIN: Final = 16  # answered by one flush: as many senders at once
BUSY_FOR_S: Final = 0.02
WRITE_EVENTS: Final = 1_024  # in one write, unless one request has more: bounds how long it takes
RETRY_AFTER_FULL_DISK_S: Final = 30
RETRY_AFTER_UNAVAILABLE_S: Final = 5

_OUTCOMES: Final = ("accepted", "duplicate", "rejected", "suppressed")


class Intake:
    """The one writer of the event log. `run` is an actor; `offer` is how requests come in."""

    def __init__(
        self,
        *,
        store: Store,
        events: Log,
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
        journal: Journal,
        key: bytes,
        namer: Namer | None = None,
        suppression: Suppressed | None = None,
        ledger: Ledger | None = None,
        vault: RowSeal | None = None,
        plan: PlanCheck | None = None,
    ) -> None:
        """`key` is identity's. Without a `namer` there is no suppression, consent or sealing."""
        self.store = store
        self.keys = MessageKeys(key)
        self.namer = namer
        self.ledger = ledger
        self.vault = vault
        self.plan = plan
        self.writer = GroupWriter(
            store=store,
            events=events,
            keys=self.keys,
            key=key,
            limits=limits,
            window_us=limits.deduplication_window_s * SECOND_US,
            namer=namer,
            suppression=suppression,
            ledger=ledger,
            vault=vault,
        )
        self._events = events
        self.clock = clock
        self._limits = limits
        self._journal = journal
        self._metrics = metrics
        self._groups: deque[Group] = deque()
        self._waiting_requests = 0
        self._waiting_events = 0
        self._arrived = trio.Event()
        self._ending = False
        self._last_requests = 0
        self._last_write_s = 0.0
        self._disk_full = False
        self.finished = trio.Event()  # set once `run` has stored the last of what was offered
        self._write_time = metrics.histogram("cdp_ingestion_write_seconds")
        metrics.gauge("cdp_ingestion_waiting_events", lambda: self._waiting_events)

    def offer(self, submission: Submission) -> bool:
        """Takes a submission if there is room, and tells whether there was."""
        size = submission.size()
        full = (
            self._waiting_requests >= self._limits.intake_requests_max
            or self._waiting_events + size > self._limits.intake_events_max
        )
        if full or self._ending:
            return False
        if not self._groups or self._groups[-1].events + size > WRITE_EVENTS:
            self._groups.append(Group())
        self._groups[-1].add(submission, size)
        self._waiting_requests += 1
        self._waiting_events += size
        self._arrived.set()
        return True

    def end(self) -> None:
        """Takes no more; `run` returns when what waits is stored. For the drain."""
        self._ending = True
        self._arrived.set()

    async def run(self) -> None:
        """Writes what is offered until `end`.

        Raises:
            StorageError: the store failed; the process must end.
        """
        while not (self._ending and not self._groups):
            await self._arrived.wait()
            if not self._groups:
                self._arrived = trio.Event() if not self._ending else self._arrived
                continue
            await self._settle_group(self._take())
        self.finished.set()

    @property
    def busy(self) -> bool:
        """Whether many requests come in at once; folds give way while they do.

        Many wait now, or came together with the last write a moment ago: what waits is often
        nothing for an instant between two rounds of the same senders.
        """
        if self._groups or self._last_requests < BUSY_REQUESTS_MIN:
            return bool(self._groups)
        return trio.current_time() < self._last_write_s + BUSY_FOR_S

    def _take(self) -> Group:
        group = self._groups.popleft()
        self._last_requests = len(group.submissions)
        self._last_write_s = trio.current_time()
        self._waiting_requests -= len(group.submissions)
        self._waiting_events -= group.events
        return group

    async def _settle_group(self, group: Group) -> None:
        try:
            await self._store_group(group)
        except StoreFull:
            self._refuse_full_disk(group)
        except BaseException:  # a bug, or the end of the process: nobody may wait for ever
            self._abandon(group)
            raise
        else:
            self._disk_full = False
            group.settle()

    async def _store_group(self, group: Group) -> None:
        started_s = trio.current_time()
        tallies = self.writer.write(group.submissions)
        self._count(tallies)
        await self.store.sync()
        self._events.publish()
        self._write_time.observe(trio.current_time() - started_s)

    def _count(self, tallies: dict[str, Tally]) -> None:
        for source, tally in tallies.items():
            for outcome in _OUTCOMES:
                counter = self._metrics.counter(
                    "cdp_ingestion_events_total", source=source, outcome=outcome
                )
                counter.add(max(0, getattr(tally, outcome)))

    def _abandon(self, group: Group) -> None:
        unavailable = Overloaded(
            "the store is not available", retry_after_s=RETRY_AFTER_UNAVAILABLE_S
        )
        group.settle(unavailable)
        while self._groups:
            self._take().settle(unavailable)

    def _refuse_full_disk(self, group: Group) -> None:
        if not self._disk_full:
            self._journal.error("disk_full", retry_after_s=RETRY_AFTER_FULL_DISK_S)
        self._disk_full = True
        text = "the disk is full; nothing was stored"
        group.settle(Overloaded(text, retry_after_s=RETRY_AFTER_FULL_DISK_S))
