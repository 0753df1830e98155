"""Bugs that we plant in the real code, one at a time, to show that the simulation finds them.

Each is a mistake that an engineer could make and a reviewer could miss. It lives in here only, as a
patch of a method for the length of a `with`; nothing in `cdp` knows about it. A bug that is not
found says that the workload or a checker is blind.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import trio
from msgspec.structs import replace

from cdp.consent import policy
from cdp.consent.ledger import ConsentLedger
from cdp.consent.suppression import Suppression
from cdp.delivery import attempt as attempt_module
from cdp.delivery import flights
from cdp.delivery.backlog import Backlog, Feed
from cdp.delivery.destination import Delivered
from cdp.delivery.gate import Gate
from cdp.delivery.lanes import Lanes
from cdp.delivery.ledger import Ledger
from cdp.delivery.owed import DeliveryIds
from cdp.domain.profile import TraitValue
from cdp.ingestion import endpoints
from cdp.ingestion import writer as writer_module
from cdp.ingestion.actor import Intake
from cdp.ingestion.submission import Group
from cdp.ingestion.writer import GroupWriter
from cdp.storage import fold
from cdp.storage.log import Log
from tests.simulation.patching import patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Plant = "Callable[[], Iterator[None]]"


class _NeverSyncs:
    """A store whose sync promises what it does not do."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def sync(self) -> None:
        await trio.lowlevel.checkpoint()


def acknowledge_before_sync() -> Any:
    """A request is answered as soon as its events are written."""
    original = Intake.__init__

    def make(self: Intake, *, store: Any, **others: Any) -> None:
        original(self, store=_NeverSyncs(store), **others)

    return patched(Intake, "__init__", make)


def no_deduplication() -> Any:
    """An event that was stored before is stored again."""
    return patched(writer_module, "within_window", lambda *_: False)


def deduplication_in_another_batch() -> Any:
    """What was seen is remembered in a write of its own, after the events."""
    original_write, original_remember = GroupWriter.write, writer_module.remember

    def write(self: GroupWriter, submissions: Any) -> Any:
        later: list[Any] = []
        with patched(writer_module, "remember", lambda batch, *rest: later.append(rest)):
            tallies = original_write(self, submissions)
        for rest in later:
            batch = self._store.batch()
            original_remember(batch, *rest)
            self._store.write(batch)
        return tallies

    return patched(GroupWriter, "write", write)


def duplicate_answered_at_once() -> Any:
    """A request of duplicates is answered though their originals are not on disk yet."""
    original = Intake.offer

    def offer(self: Intake, submission: Any) -> bool:
        keys = [self.keys.of(message_id) for message_id in submission.message_ids]
        if keys and not submission.rejected and all(self.store.get_many("seen", keys)):
            submission.group = Group()
            submission.duplicates = len(keys)
            submission.group.settle()
            return True
        return original(self, submission)

    return patched(Intake, "offer", offer)


def bad_event_costs_its_batch() -> Any:
    """One event that is rejected takes the good ones before it along."""
    original = endpoints.admit

    def admit(submission: Any, *rest: Any) -> None:
        original(submission, *rest)
        if submission.rejected:
            submission.message_ids.clear()
            submission.records.clear()

    return patched(endpoints, "admit", admit)


def fold_cursor_first() -> Any:
    """A fold moves its cursor in one write and its effects in the next."""

    def commit(store: Any, cursors: Any, reader: str, step: Any, entries: Any) -> None:
        batch = store.batch()
        cursors.set(batch, reader, entries[-1].offset + 1)
        store.write(batch)
        batch = store.batch()
        step(batch, entries)
        store.write(batch)

    return patched(fold, "_commit", commit)


def fold_cursor_last() -> Any:
    """A fold writes its effects first and its cursor in the next write."""

    def commit(store: Any, cursors: Any, reader: str, step: Any, entries: Any) -> None:
        batch = store.batch()
        step(batch, entries)
        store.write(batch)
        batch = store.batch()
        cursors.set(batch, reader, entries[-1].offset + 1)
        store.write(batch)

    return patched(fold, "_commit", commit)


def delivery_cursor_first() -> Any:
    """A destination's cursor passes what was taken and has not ended."""
    return patched(Feed, "next_cursor", lambda self: max(self.cursor, self.position))


def taken_is_forgotten() -> Any:
    """What the cursor passes gets no row in `pending`."""
    return patched(Backlog, "_below", staticmethod(lambda feed, cursor: []))


def counters_in_another_batch() -> Any:
    """The books are written after what they count."""
    original_close, original_commit = Ledger.close, Backlog.commit

    def close(self: Ledger, batch: Any, now_us: int) -> None:
        self.late = self_batch = _Recorder(batch)  # type: ignore[attr-defined]
        original_close(self, self_batch, now_us)

    def commit(self: Backlog, *rest: Any, **named: Any) -> None:
        original_commit(self, *rest, **named)
        batch = self._store.batch()
        for key, value in self.ledger.late.books:  # type: ignore[attr-defined]
            batch.put("meta", key, value)
        self._store.write(batch)

    @contextmanager
    def both() -> Iterator[None]:
        with patched(Ledger, "close", close), patched(Backlog, "commit", commit):
            yield

    return both()


class _Recorder:
    """A batch that holds the books back."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self.books: list[tuple[bytes, bytes]] = []

    def put(self, family: str, key: bytes, value: bytes) -> None:
        if family == "meta" and key.startswith(b"counts:"):
            self.books.append((key, value))
        else:
            self._batch.put(family, key, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)


def id_per_attempt() -> Any:
    """Each attempt gets a delivery id of its own."""
    original = DeliveryIds.of_event
    count = iter(range(10**9))

    def of_event(self: DeliveryIds, event: Any) -> str:
        return f"{original(self, event)}-{next(count)}"

    return patched(DeliveryIds, "of_event", of_event)


def gate_asked_once() -> Any:
    """Consent is asked for the first attempt alone."""
    original = Gate.refusal

    def refusal(self: Gate, owed: Any) -> str | None:
        return None if owed.attempts else original(self, owed)

    return patched(Gate, "refusal", refusal)


def default_overrules_stamp() -> Any:
    """What the operator granted counts, whatever the event says."""
    original = policy.may

    def may(use: Any, stamp: Any, standing: Any, now_us: int) -> Any:
        decision = original(use, stamp, standing, now_us)
        if decision.reason in ("denied", "not_in_stamp"):
            silent = replace(stamp, present=False, purposes={})
            return original(use, silent, standing, now_us)
        return decision

    return patched(policy, "may", may)


def unknown_means_yes() -> Any:
    """A purpose of which nobody said anything is granted."""
    original = policy.may

    def may(use: Any, stamp: Any, standing: Any, now_us: int) -> Any:
        decision = original(use, stamp, standing, now_us)
        if decision.reason in ("unknown", "not_in_stamp", "no_grant"):
            return policy.Decision(True, "granted")
        return decision

    return patched(policy, "may", may)


def retry_lets_others_pass() -> Any:
    """A delivery that waits for a retry goes to the end of its profile's lane."""
    original = Lanes.postpone

    def postpone(self: Lanes, owed: Any) -> None:
        original(self, owed)
        for lane in self._lanes_of(owed):
            if owed in lane.queue and len(lane.queue) > 1:
                lane.queue = deque([*(one for one in lane.queue if one is not owed), owed])

    return patched(Lanes, "postpone", postpone)


def trait_of_latest_arrival() -> Any:
    """The trait that arrives last wins, whenever it was set."""
    return patched(TraitValue, "beats", lambda self, other: True)


def pending_dropped_at_restart() -> Any:
    """What waited for a retry is not taken up again."""
    return patched(Backlog, "load", lambda self, now_us, now_s: None)


def silence_taken_for_success() -> Any:
    """A destination that does not answer in time is believed to have the batch."""
    original = attempt_module.attempt

    async def attempt(destination: Any, batch: Any, timeout_s: float) -> Any:
        result = await original(destination, batch, timeout_s)
        if result.cause != "timeout":
            return result
        return attempt_module.Attempt([Delivered()] * len(batch), "answered")

    return patched(flights, "attempt", attempt)


def readers_not_woken() -> Any:
    """A log is written, and now and then nobody is told."""
    original = Log.publish

    def publish(self: Log) -> None:
        if self.head % 3 or self.family == "events":
            original(self)

    return patched(Log, "publish", publish)


def readers_told_before_sync() -> Any:
    """The folds, and with them the destinations, hear of events that are not on disk yet."""
    original = GroupWriter.write

    def write(self: GroupWriter, submissions: Any) -> Any:
        tallies = original(self, submissions)
        self._events.publish()
        return tallies

    return patched(GroupWriter, "write", write)


def stamp_asked_alone() -> Any:
    """What the event said counts, and what its person said since does not."""
    original = policy.may

    def may(use: Any, stamp: Any, standing: Any, now_us: int) -> Any:
        decision = original(use, stamp, standing, now_us)
        said = all(stamp.purposes.get(purpose) is True for purpose in use.purposes)
        return policy.Decision(True, "granted") if said else decision

    return patched(policy, "may", may)


def standing_asked_alone() -> Any:
    """What a person says now counts for what they did before, too."""
    original = policy.may

    def may(use: Any, stamp: Any, standing: Any, now_us: int) -> Any:
        agreed = replace(stamp, present=True, purposes=dict.fromkeys(use.purposes, True))
        return original(use, agreed, standing, now_us)

    return patched(policy, "may", may)


def standing_never_refreshed() -> Any:
    """Where a person stands is looked up once, and kept."""
    return patched(ConsentLedger, "changed", lambda self, *_: None)


def suppression_forgotten_at_restart() -> Any:
    """Who was erased may come back once the process has ended."""
    return patched(Suppression, "reload", lambda self: None)


# What follows we did not have to invent: the simulation found these in the real code.


def refused_batch_is_published() -> Any:
    """Readers are shown what a full disk did not take."""
    return patched(Log, "_is_stored", lambda self, block: True)


def death_is_not_awaited() -> Any:
    """A profile goes on before it is on disk that the delivery before was given up."""
    return patched(Backlog, "gave_up", False)


def sleep_with_the_log_unread() -> Any:
    """Nothing is taken any more once everything that was taken has been filtered."""
    return patched(Backlog, "made_room", False)


BUGS: Final[dict[str, Callable[[], Any]]] = {
    bug.__name__: bug
    for bug in (
        acknowledge_before_sync,
        no_deduplication,
        deduplication_in_another_batch,
        duplicate_answered_at_once,
        bad_event_costs_its_batch,
        fold_cursor_first,
        fold_cursor_last,
        delivery_cursor_first,
        taken_is_forgotten,
        counters_in_another_batch,
        id_per_attempt,
        gate_asked_once,
        default_overrules_stamp,
        unknown_means_yes,
        retry_lets_others_pass,
        trait_of_latest_arrival,
        pending_dropped_at_restart,
        silence_taken_for_success,
        readers_not_woken,
        readers_told_before_sync,
        stamp_asked_alone,
        standing_asked_alone,
        standing_never_refreshed,
        suppression_forgotten_at_restart,
        refused_batch_is_published,
        death_is_not_awaited,
        sleep_with_the_log_unread,
    )
}

_GRANTED: Final = (("analytics", True), ("marketing", True))

# Worlds in which a bug shows that needs a rare company: little room, a power cut in time, or people
# of whom one more device is known without a word about consent.
WORLDS: Final[dict[str, dict[str, Any]]] = {
    "standing_never_refreshed": {
        "people": 1,
        "devices_each": 6,
        "devices_shared": 0,
        "events": 60,
        "stamp_part": 0.2,
        "grant_part": 0.5,
        "consent_before": _GRANTED,
        "consent_after": _GRANTED,
        "late_part": 0.0,
        "erasures": (),
        "crash_at_sync": None,
        "crash_at_write": None,
        "crash_every_s": None,
    },
    "death_is_not_awaited": {
        "attempts_max": 1,
        "people": 1,
        "devices_shared": 0,
        "events": 70,
        "stamp_part": 0.0,
        "erasures": (),
        "sync_s_mean": 1.0,
        "crash_at_sync": 3,
        "crash_at_write": None,
        "crash_every_s": None,
        "power_cut": 1.0,
        "terminate": 0.0,
    },
    "sleep_with_the_log_unread": {
        "pending_max": 2,
        "people": 1,
        "devices_each": 6,
        "reordered": 1.0,
        "batch_events_max": 20,
        "fold_batch_max": 1_024,
    },
}
