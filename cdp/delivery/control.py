"""The destinations as an operator sees and steers them. What the API and the command line call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import trio

from cdp.actors import Actor
from cdp.delivery.actor import Delivering
from cdp.delivery.backlog import reader_of
from cdp.delivery.destination import ErasureRetry
from cdp.delivery.flights import Recalled
from cdp.delivery.jobs import DeadLetterFilter, RedriveJob, ReplayJob
from cdp.delivery.ledger import Counts, read_books
from cdp.delivery.owed import (
    KINDS,
    decode_dead,
    end_of,
    offset_of,
    owed_from_row,
    prefix_of,
    row_key,
)
from cdp.delivery.purging import purge_stored, stored_names
from cdp.delivery.setup import Outlet, paused_key
from cdp.domain.change import decode_activation
from cdp.domain.event import decode_event
from cdp.errors import CdpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator

    from cdp.clock import Clock
    from cdp.delivery.destination import Destination, Erasure, ErasureOutcome
    from cdp.storage.store import Store
    from cdp.telemetry import Metrics

BOOKED: Final = ("offered", "delivered", "filtered", "pending", "dead")  # what metrics show
SCAN_STEP: Final = 512  # rows between two breaths of the event loop

State = Literal["starting", "running", "paused", "circuit_open", "circuit_half_open", "stopped"]


class DestinationUnknown(CdpError):
    """No enabled destination has this name."""


class ReplayRefused(CdpError):
    """A replay cannot begin: another one runs, or there is nothing to replay."""


class ReplayProgress(msgspec.Struct, frozen=True):
    """How far a replay has come: activations `start` to `until`, the next one is `position`."""

    start: int
    position: int
    until: int
    per_s_max: float


class DestinationStatus(msgspec.Struct, frozen=True):
    """One destination now. `live` and `replay` each hold the conservation law."""

    name: str
    type: str
    state: State
    live: Counts
    replay: Counts
    lag: int  # activations in the log that were not offered yet
    in_flight: int  # batches
    last_error: str
    redriving: RedriveJob | None
    replaying: ReplayProgress | None


class DeadLetterView(msgspec.Struct, frozen=True):
    """A dead letter, as people see it."""

    activation_offset: int
    event_offset: int
    kind: str
    profile_id: str
    attempts: int
    first_attempt_us: int
    died_at_us: int
    reason: str


class Deliveries:
    """All destinations of the daemon."""

    def __init__(
        self,
        outlets: Iterable[Outlet],
        metrics: Metrics,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`store` and `clock`: for the rows of earlier destinations, where there is none now."""
        self._outlets = {outlet.name: outlet for outlet in outlets}
        first = next(iter(self._outlets.values()), None)
        self._store = first.store if first is not None else store
        self._clock = first.environment.clock if first is not None else clock
        self._running: dict[str, Delivering] = {}
        for name in self._outlets:
            lag = partial(self._lag, name)
            metrics.gauge("cdp_delivery_lag_events", lag, destination=name)
            for state in BOOKED:
                booked = partial(self._booked, name, state)
                metrics.gauge("cdp_delivery_events", booked, destination=name, state=state)

    @property
    def names(self) -> list[str]:
        """The enabled destinations."""
        return list(self._outlets)

    @property
    def uses(self) -> dict[str, frozenset[str]]:
        """The purposes of each enabled destination."""
        return {name: outlet.purposes for name, outlet in self._outlets.items()}

    def actors(self, stopping: trio.Event) -> list[Actor]:
        """One actor a destination. Each drains when `stopping` is set."""
        return [Actor(reader_of(name), partial(self.run, name, stopping)) for name in self._outlets]

    async def run(self, name: str, stopping: trio.Event) -> None:
        """Runs one destination's actor, with state fresh from the store."""
        delivering = self._running[name] = Delivering(self._outlet(name))
        try:
            await delivering.run(stopping)
        finally:
            del self._running[name]

    # -- looking --------------------------------------------------------------------------------

    def status(self) -> list[DestinationStatus]:
        """Every destination now, from what is committed."""
        return [self._status(outlet) for outlet in self._outlets.values()]

    def dead_letters(
        self, name: str, which: DeadLetterFilter | None = None, *, after: int = -1, limit: int = 100
    ) -> list[DeadLetterView]:
        """Dead letters in log order, from after an activation's offset on."""
        which = which or DeadLetterFilter()
        found: list[DeadLetterView] = []
        for offset, letter in self._letters(name, after + 1):
            if which.matches(offset, letter):
                found.append(
                    DeadLetterView(
                        offset,
                        letter.cause_offset,
                        KINDS[letter.kind],
                        letter.profile_id.hex(),
                        letter.attempts,
                        letter.first_attempt_us,
                        letter.died_at_us,
                        letter.reason,
                    )
                )
                if len(found) == limit:
                    break
        return found

    async def count_dead_letters(self, name: str, which: DeadLetterFilter) -> int:
        """How many a redrive with this filter would move."""
        count = 0
        for seen, (offset, letter) in enumerate(self._letters(name, 0)):
            count += which.matches(offset, letter)
            if seen % SCAN_STEP == SCAN_STEP - 1:
                await trio.lowlevel.checkpoint()
        return count

    def oldest_event_needed(self) -> int | None:
        """The first event that a waiting delivery needs; retention keeps it.

        Dead letters keep nothing: one whose event is gone is filtered when it is redriven.
        """
        causes = (cause for name in self._outlets for cause in self._causes(name))
        return min(causes, default=None)

    # -- steering -------------------------------------------------------------------------------

    def pause(self, name: str) -> None:
        """Starts no attempt until `resume`, over restarts too. What flies still lands."""
        self._set_paused(name, True)

    def resume(self, name: str) -> None:
        """Ends a pause."""
        self._set_paused(name, False)

    async def redrive(self, name: str, which: DeadLetterFilter) -> int:
        """Sends dead letters again, as fast as there is room. Returns how many are meant."""
        delivering = self._delivering(name)
        count = await self.count_dead_letters(name, which)
        if count:
            now_us = self._outlet(name).environment.clock.now_us()
            delivering.jobs.start_redrive(which, now_us)
            delivering.wake()
        return count

    def replay(
        self, name: str, *, start: int, until: int | None = None, per_s_max: float = 1_000.0
    ) -> ReplayProgress:
        """Offers a stretch of the activation log again, beside what is new. Same delivery ids.

        Raises:
            ReplayRefused: another replay runs, or the stretch is empty.
        """
        delivering = self._delivering(name)
        committed = delivering.backlog.live.cursor
        first = max(start, self._outlet(name).activations.start)
        end = committed if until is None else min(until, committed)
        if delivering.jobs.replay is not None:
            raise ReplayRefused(f"destination {name!r} is replaying already: wait, or stop it")
        if first >= end:
            raise ReplayRefused(f"nothing to replay: activations {first} to {end} are none")
        if not per_s_max > 0:
            raise ReplayRefused("per_s_max must be positive")
        delivering.jobs.start_replay(ReplayJob(first, end, per_s_max), trio.current_time())
        delivering.wake()
        return ReplayProgress(first, first, end, per_s_max)

    def stop_replay(self, name: str) -> bool:
        """Ends a replay early; False where none ran. What it took is still delivered."""
        delivering = self._delivering(name)
        stopped = delivering.jobs.stop_replay()
        delivering.wake()
        return stopped

    def offset_at(self, name: str, time_us: int) -> int:
        """The first activation whose event was received at or after a time; the head if none."""
        outlet = self._outlet(name)
        low, high = outlet.activations.start, outlet.activations.head
        while low < high:
            middle = (low + high) // 2
            received_us = _received_at(outlet, middle)
            if received_us is None or received_us < time_us:
                low = middle + 1
            else:
                high = middle
        return low

    # -- people's rights ------------------------------------------------------------------------

    def recall(self, nodes: Collection[bytes]) -> list[Recalled]:
        """Calls back every attempt under way that is about one of these people.

        `nodes` are all identifiers of the person: profile ids are among them.
        """
        found = []
        for name, delivering in self._running.items():
            offsets = delivering.flights.recall(nodes)
            if offsets:
                found.append(Recalled(name, offsets))
        return found

    async def purge(self, nodes: Collection[bytes]) -> int:
        """Ends what these people are owed anywhere as filtered; how many deliveries that were.

        To be called once nothing about them passes the gate any more. Destinations that do not
        run, or are no longer configured, are purged too.
        """
        meant, count = frozenset(nodes), 0
        for name in self._owing():
            finished = False
            while not finished:
                ended, finished = await self._purge(name, meant)
                count += ended
        return count

    async def erase(self, name: str, nodes: Collection[bytes], erasure: Erasure) -> ErasureOutcome:
        """Has a destination forget a person. Never raises: what fails is to be tried again."""

        async def ask(destination: Destination[Any]) -> ErasureOutcome:
            return await destination.erase(erasure)

        return await self._ask_to_forget(name, nodes, ask)

    async def erasure_status(self, name: str, remote_id: str) -> ErasureOutcome:
        """How far a destination is with an erasure that it accepted."""

        async def ask(destination: Destination[Any]) -> ErasureOutcome:
            return await destination.erasure_status(remote_id)

        return await self._ask_to_forget(name, (), ask)

    def forget_recipients(self, nodes: Collection[bytes]) -> None:
        """To be called when the `recipients` rows of these people have been deleted."""
        for delivering in self._running.values():
            delivering.recipients.forget(nodes)

    # -- inside ---------------------------------------------------------------------------------

    async def _ask_to_forget(
        self,
        name: str,
        nodes: Collection[bytes],
        ask: Callable[[Destination[Any]], Awaitable[ErasureOutcome]],
    ) -> ErasureOutcome:
        delivering = self._running.get(name)
        if delivering is None:
            return ErasureRetry("not_configured" if name not in self._outlets else "not_running")
        return await delivering.forgetting.ask(nodes, ask)

    def _owing(self) -> list[str]:
        """Every destination that may owe something: those that run, and those that left rows."""
        left = stored_names(self._store) if self._store is not None else ()
        return sorted({*self._running, *left})

    async def _purge(self, name: str, nodes: frozenset[bytes]) -> tuple[int, bool]:
        running = self._running.get(name)
        if running is not None:
            return await running.forgetting.purge(nodes)
        assert self._store is not None, "its rows were found in it"
        assert self._clock is not None, "it comes with the store"
        return await purge_stored(
            self._store,
            name,
            nodes,
            now_us=self._clock.now_us(),
            is_running=lambda: name in self._running,
        )

    def _outlet(self, name: str) -> Outlet:
        outlet = self._outlets.get(name)
        if outlet is None:
            raise DestinationUnknown(f"no destination {name!r}: there is {', '.join(self.names)}")
        return outlet

    def _delivering(self, name: str) -> Delivering:
        self._outlet(name)
        delivering = self._running.get(name)
        if delivering is None:
            raise DestinationUnknown(f"destination {name!r} is not running: look at its last error")
        return delivering

    def _letters(self, name: str, start: int) -> Iterator[tuple[int, Any]]:
        outlet = self._outlet(name)
        key, end = row_key(name, start), end_of(name)
        assert key.startswith(prefix_of(name))
        while rows := outlet.store.scan("dead", key, end, limit=SCAN_STEP):
            for row_key_, value in rows:
                yield offset_of(row_key_), decode_dead(value)
            key = rows[-1][0] + b"\x00"

    def _causes(self, name: str) -> list[int]:
        """The events of the rows in `pending`, also while the actor is between two runs."""
        running = self._running.get(name)
        if running is not None:
            return [owed.cause_offset for owed in running.backlog.stored.values()]
        store = self._outlets[name].store
        rows = store.scan("pending", prefix_of(name), end_of(name))
        return [owed_from_row(key, value, 0, 0.0).cause_offset for key, value in rows]

    def _set_paused(self, name: str, paused: bool) -> None:
        outlet = self._outlet(name)
        batch = outlet.store.batch()
        if paused:
            batch.put("meta", paused_key(name), b"")
        else:
            batch.delete("meta", paused_key(name))
        outlet.store.write(batch)
        outlet.paused = paused
        if name in self._running:
            self._running[name].wake()

    def _lag(self, name: str) -> float:
        outlet = self._outlets[name]
        start = max(outlet.cursors.get(reader_of(name)), outlet.activations.start)
        return max(0, outlet.activations.head - start)

    def _booked(self, name: str, state: str) -> float:
        books = read_books(self._outlets[name].store, name)
        return sum(_booked(counts, state) for counts in (books.live, books.replay))

    def _status(self, outlet: Outlet) -> DestinationStatus:
        running = self._running.get(outlet.name)
        books = read_books(outlet.store, outlet.name)
        return DestinationStatus(
            name=outlet.name,
            type=outlet.config.type,
            state=_state(outlet, running),
            live=books.live,
            replay=books.replay,
            lag=int(self._lag(outlet.name)),
            in_flight=running.in_flight if running else 0,
            last_error=running.last_error if running else "",
            redriving=running.jobs.redrive if running else None,
            replaying=_replaying(running) if running else None,
        )


def _booked(counts: Counts, state: str) -> int:
    return counts.filtered_total() if state == "filtered" else int(getattr(counts, state))


def _state(outlet: Outlet, running: Delivering | None) -> State:
    if running is None:
        return "stopped"
    if outlet.paused:
        return "paused"
    if not running.started:
        return "starting"
    circuit = running.circuit.state(trio.current_time())
    states: dict[str, State] = {"open": "circuit_open", "half_open": "circuit_half_open"}
    return states.get(circuit, "running")


def _replaying(running: Delivering) -> ReplayProgress | None:
    job, feed = running.jobs.replay, running.backlog.replay
    if job is None or feed is None:
        return None
    return ReplayProgress(job.start, feed.position, job.until, job.per_s_max)


def _received_at(outlet: Outlet, offset: int) -> int | None:
    entries = outlet.activations.read(offset, 1)
    if not entries:
        return None
    record = outlet.events.get(decode_activation(entries[0].record).cause_offset)
    return decode_event(record).received_at_us if record is not None else None
