"""One destination's actor: takes from the activation log, hands out batches, commits their ends.

A loop around a `Backlog`: collect what came back, take what there is room for, start what may
start, commit, rest until something happens. Batches fly in tasks of their own, so that one which
hangs delays nobody else's and the loop still answers its operator. Nothing a plugin does crashes
this actor: its exceptions are failed attempts, and a `start` that fails is tried again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import trio

from cdp.clock import SECOND_US
from cdp.delivery.backlog import TAKE_MAX, Backlog
from cdp.delivery.destination import Delivered, Delivery, Rejected
from cdp.delivery.flights import Flight, Flights, carries
from cdp.delivery.forgetting import Forgetting
from cdp.delivery.http import open_client
from cdp.delivery.jobs import Jobs
from cdp.delivery.join import EventJoin
from cdp.delivery.lanes import Lanes
from cdp.delivery.owed import KINDS, DeliveryIds, Owed, short_reason
from cdp.delivery.recipients import Recipients
from cdp.delivery.schedule import Circuit, TokenBucket, backoff_s, wait_s
from cdp.domain.change import RESOLVED
from cdp.domain.event import wire_form

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cdp.delivery.attempt import Attempt
    from cdp.delivery.destination import Destination, Outcome
    from cdp.delivery.setup import Outlet

START_BACKOFF_S_MAX: Final = 60.0
CLOSE_TIMEOUT_S: Final = 5.0
TAKES_MAX: Final = 4  # takes in one turn of the loop, so that others get theirs
NOT_READY_S: Final = 0.1  # between two looks whether it is known who is who


class Delivering:
    """One run of a destination's actor, from its start to its end or crash."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._limits = outlet.limits
        self._clock = outlet.environment.clock
        self._rng = outlet.environment.rng
        self._type = outlet.type
        self._ids = DeliveryIds(outlet.name)
        self._finished: list[tuple[list[Owed], Attempt]] = []
        self.flights = Flights()
        self.recipients = Recipients(outlet.store, outlet.name)
        self.destination: Destination[Any] | None = None  # once it has started
        self.forgetting = Forgetting(self)
        self._gate = outlet.gate()
        self._wake = trio.Event()
        self._caught_up = trio.Event()
        self.ticking = False
        self._launched_s = -math.inf
        now_s = trio.current_time()
        self._rate = TokenBucket(self._type.rate_per_s_max, now_s=now_s)
        self._next_tick_s = now_s + self._type.tick_s
        self.circuit = Circuit()
        self.in_flight = 0
        self.last_error = ""
        self.started = False
        self.backlog = Backlog(
            outlet.name,
            store=outlet.store,
            activations=outlet.activations,
            cursors=outlet.cursors,
            join=EventJoin(outlet.events),
            gate=self._gate,
            lanes=Lanes(
                batch_max=self._type.batch_max,
                batch_bytes_max=self._type.batch_bytes_max,
                atomic=self._type.batch_atomic,
            ),
            pending_max=self._limits.pending_max,
        )
        self.backlog.load(self._clock.now_us(), now_s)
        self.jobs = Jobs(outlet.store, self.backlog, now_s)

    def wake(self) -> None:
        """Makes the loop look again."""
        self._wake.set()

    @property
    def timeout_s(self) -> float:
        """How long a call of the destination may take."""
        return self._limits.deliver_timeout_s

    def commit(self) -> None:
        """Writes what happened since the last commit."""
        self.backlog.commit(self._clock.now_us())

    def is_landing(self, nodes: Collection[bytes]) -> bool:
        """Whether something about these people flies, or has landed and was not looked at."""
        landed = (owed for batch, _ in self._finished for owed in batch)
        return self.flights.carry(nodes) or any(carries(owed, nodes) for owed in landed)

    async def run(self, stopping: trio.Event) -> None:
        """Delivers until `stopping` is set and what flies has landed."""
        destination = self._outlet.build()
        http = open_client(
            self._outlet.environment.network.transport(),
            timeout_s=self._limits.deliver_timeout_s,
            response_bytes_max=self._limits.response_bytes_max,
        )
        destination.http = http
        try:
            if await self._start(destination, stopping):
                self.destination = destination
                await self._loop(destination, stopping)
        finally:
            self.destination = None
            self.forgetting.end()
            with trio.CancelScope(shield=True) as scope:
                scope.deadline = trio.current_time() + CLOSE_TIMEOUT_S
                await self._close(destination)
                await http.aclose()

    async def _start(self, destination: Destination[Any], stopping: trio.Event) -> bool:
        failures = 0
        while not stopping.is_set():
            try:
                with trio.fail_after(self.timeout_s):
                    await destination.start()
            except Exception as error:
                failures += 1
                self.note("destination_start_failed", error)
                backoff = backoff_s(failures, s_min=1.0, s_max=START_BACKOFF_S_MAX, rng=self._rng)
                with trio.move_on_after(backoff):
                    await stopping.wait()
            else:
                self.started = True
                return True
        return False

    async def _close(self, destination: Destination[Any]) -> None:
        try:
            await destination.close()
        except Exception as error:
            self.note("destination_close_failed", error)

    async def _loop(self, destination: Destination[Any], stopping: trio.Event) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_on, stopping)
            nursery.start_soon(self._watch_log)
            self.forgetting.begin_loop()
            while True:
                self._collect()
                if self.backlog.gave_up:
                    await self._settle_deaths()
                more = False
                if not stopping.is_set():
                    more = self._take()
                    self._tick(nursery, destination)  # before a launch, which would put it off
                    self._launch(nursery, destination)
                    more = more or self.backlog.made_room
                if self.backlog.dirty:
                    self.commit()
                self.forgetting.note_turn()
                if stopping.is_set() and not self.in_flight and not self._finished:
                    break
                await self._rest(more, stopping)
            nursery.cancel_scope.cancel()

    async def _settle_deaths(self) -> None:
        """What stood behind a delivery that was given up must not go before that is on disk.

        A power cut would bring the dead one back, and it would reach the service after its
        follower. Every other end may be lost: it is then only reached a second time, in order.
        """
        self.commit()
        await self._outlet.store.sync()

    async def _wake_on(self, stopping: trio.Event) -> None:
        await stopping.wait()
        self.wake()

    async def _watch_log(self) -> None:
        while True:
            await self._caught_up.wait()
            await self._outlet.activations.wait(self.backlog.live.position)
            self._caught_up = trio.Event()
            self.wake()

    # -- taking ---------------------------------------------------------------------------------

    def _take(self) -> bool:
        """Takes while batches could be started from it. True: there is more, and room."""
        if self._outlet.paused or not self.circuit.allows(trio.current_time()):
            return False
        if not self._gate.ready:
            return False
        slots = self._type.concurrency_max - self.in_flight
        wanted = self._type.batch_max * max(0, slots)
        self.jobs.step(self._clock.now_us(), trio.current_time())
        for _ in range(TAKES_MAX):
            if self.backlog.lanes.fresh_count >= wanted:
                return False
            if self.backlog.take(self.backlog.live, TAKE_MAX) == 0:
                if self.backlog.room > 0:
                    self._caught_up.set()
                return False
        return (
            self.in_flight < self._type.concurrency_max
        )  # most were filtered: go on after a breath

    # -- flying ---------------------------------------------------------------------------------

    def _launch(self, nursery: trio.Nursery, destination: Destination[Any]) -> None:
        now_s = trio.current_time()
        while self._may_launch(now_s):
            batch = self.backlog.next_batch(now_s)
            if not batch:
                return
            sync_first = self.recipients.note(batch, self._clock.now_us())
            self._rate.take(now_s)
            self.circuit.start(now_s)
            self.in_flight += 1
            self._launched_s = now_s
            deliveries = self._deliveries(batch)
            flight = self.flights.start(batch)
            nursery.start_soon(self._fly, destination, flight, deliveries, sync_first)

    def _may_launch(self, now_s: float) -> bool:
        return (
            not self._outlet.paused
            and self._gate.ready
            and not self.ticking
            and self.in_flight < self._type.concurrency_max
            and self.circuit.allows(now_s)
            and self._rate.available(now_s) >= 1.0 - 1e-6
            and not (now_s >= self._next_tick_s and self.in_flight)
            and now_s >= self._lingers_until_s()
        )

    def _lingers_until_s(self) -> float:
        """When the next batch may go: at once if it is full, else a moment after the last one.

        What a request costs is then shared by more deliveries, and a lone one still goes at once.
        """
        if self.backlog.lanes.fresh_count >= self._type.batch_max:
            return -math.inf
        return self._launched_s + self._type.linger_s

    def _deliveries(self, batch: list[Owed]) -> list[Delivery]:
        now_us = self._clock.now_us()
        made = []
        for owed in batch:
            owed.attempts += 1
            if owed.first_attempt_us == 0:
                owed.first_attempt_us = now_us
            made.append(self._delivery(owed))
            owed.event = None  # the delivery has what it needs of it
        return made

    def _delivery(self, owed: Owed) -> Delivery:
        profile_id = owed.profile_id.hex() or None
        event = owed.event
        if owed.kind == RESOLVED:
            assert event is not None, "past the gate an event is there"
            return Delivery(
                delivery_id=self._ids.of_event(event),
                kind="event",
                profile_id=profile_id,
                event=wire_form(event),
                attempt=owed.attempts,
            )
        return Delivery(
            delivery_id=self._ids.of_place(owed.kind, owed.offset),
            kind=KINDS[owed.kind],
            profile_id=profile_id,
            other_profile_id=owed.other_profile_id.hex() or None,
            attempt=owed.attempts,
        )

    async def _fly(
        self,
        destination: Destination[Any],
        flight: Flight,
        deliveries: Sequence[Delivery],
        sync_first: bool,
    ) -> None:
        if sync_first:  # a power cut must not take back who is about to be told of
            await self._outlet.store.sync()
        started_s = trio.current_time()
        result = await self.flights.fly(flight, destination, deliveries, self.timeout_s)
        self._outlet.telemetry.attempt_time.observe(trio.current_time() - started_s)
        self._finished.append((flight.batch, result))
        self.wake()

    def _tick(self, nursery: trio.Nursery, destination: Destination[Any]) -> None:
        now_s = trio.current_time()
        busy = self.in_flight or self.ticking or self.forgetting.asking
        if now_s >= self._next_tick_s and not busy:
            self._next_tick_s = now_s + self._type.tick_s
            self.ticking = True
            nursery.start_soon(self._call_tick, destination)

    async def _call_tick(self, destination: Destination[Any]) -> None:
        try:
            with trio.fail_after(self.timeout_s):
                await destination.tick()
        except Exception as error:
            self.note("destination_tick_failed", error)
        self.ticking = False
        self.wake()

    # -- landing --------------------------------------------------------------------------------

    def _collect(self) -> None:
        finished, self._finished = self._finished, []
        for batch, result in finished:
            self.in_flight -= 1
            self._outlet.telemetry.attempts.add(len(batch))
            if result.cause == "recalled":
                self.circuit.abandon()
                self._take_back(batch)
            else:
                self._judge_service(result)
                self._land(batch, result)
            self.backlog.settle(batch)

    def _take_back(self, batch: list[Owed]) -> None:
        """A recalled batch is offered again at once: the gate sorts out who may still go."""
        for owed in batch:
            owed.attempts -= 1
            self._wait(owed, 0.0, "recalled")

    def _judge_service(self, result: Attempt) -> None:
        if result.alive:
            self.circuit.succeed()
            return
        was_closed = self.circuit.open_until_s is None
        self.circuit.fail(trio.current_time(), self._rng)
        self.last_error = getattr(result.outcomes[0], "reason", result.cause)
        if result.suspect:
            self.note("destination_broke_contract", result.error or result.cause)
        elif was_closed and self.circuit.open_until_s is not None:
            self._outlet.journal.warn(
                "destination_circuit_opened",
                destination=self._outlet.name,
                reason=short_reason(self.last_error),
            )

    def _land(self, batch: list[Owed], result: Attempt) -> None:
        if self._isolates(batch, result):
            for owed in batch:
                owed.group_max = max(1, len(batch) // 2)
                self._wait(owed, 0.0, "refused_together")
            return
        backoffs: dict[int, float] = {}
        for owed, outcome in zip(batch, result.outcomes, strict=True):
            if isinstance(outcome, Delivered):
                self.backlog.deliver(owed)
            elif isinstance(outcome, Rejected):
                self._bury(owed, f"rejected: {outcome.reason}")
            else:
                if result.suspect:
                    owed.group_max = max(1, len(batch) // 2)
                self._retry(owed, outcome, backoffs)

    def _isolates(self, batch: list[Owed], result: Attempt) -> bool:
        """Whether a batch was refused as a whole, so that one of it may have spoilt it."""
        return (
            self._type.batch_atomic
            and len(batch) > 1
            and all(isinstance(outcome, Rejected) for outcome in result.outcomes)
        )

    def _retry(self, owed: Owed, outcome: Outcome, backoffs: dict[int, float]) -> None:
        limits = self._limits
        assert not isinstance(outcome, (Delivered, Rejected)), "only a Retry is tried again"
        age_s = (self._clock.now_us() - owed.first_attempt_us) / SECOND_US
        left_s = limits.retry_window_s - age_s
        if owed.attempts >= limits.attempts_max:
            self._bury(owed, f"attempts_exhausted: {outcome.reason}")
        elif left_s <= 0:
            self._bury(owed, f"window_expired: {outcome.reason}")
        else:
            # One draw for those that failed together: they stay a batch.
            backoff = backoffs.get(owed.attempts)
            if backoff is None:
                backoff = backoffs[owed.attempts] = backoff_s(
                    owed.attempts,
                    s_min=limits.backoff_s_min,
                    s_max=limits.backoff_s_max,
                    rng=self._rng,
                )
            self._wait(owed, wait_s(backoff, outcome.after_s, left_s), outcome.reason)

    def _wait(self, owed: Owed, seconds: float, reason: str) -> None:
        owed.due_s = trio.current_time() + seconds
        owed.due_us = self._clock.now_us() + int(seconds * SECOND_US)
        owed.reason = short_reason(reason)
        self.backlog.postpone(owed)

    def _bury(self, owed: Owed, reason: str) -> None:
        if self.backlog.dead_count >= self._limits.dead_letters_max:
            # Full means wait: it keeps its place in `pending`, whose bound stops the taking.
            self._wait(owed, self._limits.backoff_s_max, f"dead_letters_full: {reason}")
        else:
            self.backlog.bury(owed, reason)

    # -- resting --------------------------------------------------------------------------------

    async def _rest(self, more: bool, stopping: trio.Event) -> None:
        """Until something is woken or due; only lets others run where there is more to take."""
        if more or self._finished:
            await trio.lowlevel.checkpoint()
        else:
            # Once we are stopping nothing is started any more, whatever is due: only what flies
            # is waited for, and its landing wakes us.
            until_s = math.inf if stopping.is_set() else self._rest_until_s()
            with trio.move_on_at(until_s):
                await self._wake.wait()
        self._wake = trio.Event()

    def _rest_until_s(self) -> float:
        now_s = trio.current_time()
        if self.ticking or (self.in_flight and now_s >= self._next_tick_s):
            return math.inf  # the tick, or what it waits for, wakes us
        # A tick that has to wait for an erasure is woken by its end.
        until_s = math.inf if self.forgetting.asking else self._next_tick_s
        if not self._gate.ready:
            return min(until_s, now_s + NOT_READY_S)
        if self._outlet.paused or self.in_flight >= self._type.concurrency_max:
            return until_s
        if not self.circuit.allows(now_s):
            opens_s = self.circuit.open_until_s
            return min(until_s, opens_s if opens_s and opens_s > now_s else math.inf)
        due = [self.jobs.next_at_s(now_s), self.backlog.lanes.next_due_s()]
        if self.backlog.lanes.fresh_count:
            due.append(now_s)
        soonest_s = min((at_s for at_s in due if at_s is not None), default=math.inf)
        ready_s = max(self._rate.ready_at(now_s), self._lingers_until_s())
        return min(until_s, max(soonest_s, ready_s))

    def note(self, what: str, error: object) -> None:
        """Tells the journal, and the operator who looks at the destination."""
        self.last_error = type(error).__name__ if isinstance(error, Exception) else str(error)
        self._outlet.journal.error(
            what,
            destination=self._outlet.name,
            plugin=self._type.__module__,
            error=error,
        )
