"""The services behind the destinations, and the plugin that speaks to them.

An outlet remembers every attempt and every effect, whatever it answered. Some effects are answered
with silence. The plugin is an ordinary destination; half of them go through httpx.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Final
from zlib import crc32

import httpx
import msgspec
import trio

from cdp.delivery.destination import (
    Delivered,
    Delivery,
    Destination,
    Erased,
    ErasureAccepted,
    ErasureRetry,
    Rejected,
    Retry,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.delivery.destination import Erasure, ErasureOutcome, Outcome
    from tests.simulation.swarm import OutletOptions
    from tests.simulation.world import World


EVERYTHING: Final = frozenset({"event", "merged", "split", "renamed"})


@dataclass
class Sighting:
    """One delivery in one attempt, as the service saw it."""

    at_s: float
    process: int  # which start of the daemon made the attempt
    delivery_id: str
    message_id: str | None
    profile_id: str | None
    attempt: int
    effect: bool = False


class Outlet:
    """One service."""

    def __init__(self, world: World, options: OutletOptions) -> None:
        self.options = options
        self.sightings: list[Sighting] = []
        self.forgotten: set[str] = set()  # user ids of people whom it was told to forget
        self._accepted: dict[str, set[str]] = {}  # by remote id, what is not done yet
        self._world = world
        self._rng = Random(f"outlet {world.options.seed} {options.name}")

    def poisonous(self, message_id: str | None) -> bool:
        """Whether the service never takes this event, however often it is offered."""
        if message_id is None:
            return False
        share = crc32(f"{self.options.name} {message_id}".encode()) / 2**32
        return share < self.options.poison

    async def receive(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Answers a batch, or does not. Raises OSError where the connection breaks."""
        return await self._decide([self._see(delivery) for delivery in batch])

    def heard(self, batch: Sequence[Delivery], outcomes: Sequence[Outcome]) -> None:
        """The plugin has the answer, and nothing lies between it and its host."""
        for delivery, outcome in zip(batch, outcomes, strict=True):
            # On a full disk it cannot be written down, and is asked again.
            if isinstance(outcome, Delivered) and not self._world.disk.full:
                place = (self.options.name, delivery.delivery_id)
                self._world.taken_in[place] = self._world.process

    async def forget(self, erasure: Erasure) -> ErasureOutcome:
        """Erases a person, at once or later, or not this time."""
        await trio.sleep(self._latency_s())
        users = {value for namespace, value in erasure.identifiers if namespace == "user_id"}
        fate = 1.0 if self._world.healed else self._rng.random()
        if fate < 0.2 or self._is_out():
            return ErasureRetry("unavailable")
        if fate < 0.4:
            raise OSError("connection reset")
        if fate < 0.7:
            self._accepted[erasure.erasure_id] = users
            return ErasureAccepted(erasure.erasure_id)
        self.forgotten |= users
        return Erased()

    async def forgets(self, remote_id: str) -> ErasureOutcome:
        """How far it is with what it accepted."""
        if not self._world.healed and self._rng.random() < 0.5:
            return ErasureAccepted(remote_id)
        self.forgotten |= self._accepted[remote_id]
        return Erased()

    def _see(self, delivery: Delivery) -> Sighting:
        message_id = delivery.event["messageId"] if delivery.event is not None else None
        sighting = Sighting(
            at_s=trio.current_time(),
            process=self._world.process,
            delivery_id=delivery.delivery_id,
            message_id=message_id,
            profile_id=delivery.profile_id,
            attempt=delivery.attempt,
        )
        self.sightings.append(sighting)
        self._world.saw_attempt(self.options, sighting)
        return sighting

    async def _decide(self, seen: list[Sighting]) -> Sequence[Outcome]:
        o, rng = self.options, self._rng
        fate = math.inf if self._world.healed else rng.random()
        if self._is_out():
            await trio.sleep(rng.uniform(0, 1))
            return [Retry("unavailable")] * len(seen)
        if fate < (edge := o.refuse):
            return [Retry("unavailable")] * len(seen)
        if fate < (edge := edge + o.hang):
            await trio.sleep(10 * self._world.options.deliver_timeout_s)
            raise OSError("gave up")
        if fate < (edge := edge + o.reset):
            raise OSError("connection reset")
        if fate < (edge := edge + o.throttle):
            return [Retry("throttled", after_s=rng.uniform(1, 20))] * len(seen)
        if fate < (edge := edge + o.raises):
            raise RuntimeError("a bug in the plugin")
        lost = fate < edge + o.reply_lost
        await trio.sleep(self._latency_s())
        outcomes = self._take(seen)
        if lost:
            await trio.sleep(rng.choice((0.1, 10 * self._world.options.deliver_timeout_s)))
            raise OSError("connection reset before the answer")
        return outcomes

    def _latency_s(self) -> float:
        slow = not self._world.healed and self._rng.random() < self.options.slow
        timeout_s = self._world.options.deliver_timeout_s
        return self._rng.uniform(0, 0.9 * timeout_s) if slow else self._rng.expovariate(20)

    def _is_out(self) -> bool:
        now_s = trio.current_time() - self._world.began_s
        return not self._world.healed and any(a <= now_s < b for a, b in self.options.outages)

    def _take(self, seen: list[Sighting]) -> list[Outcome]:
        if self.options.batch_atomic and any(self.poisonous(one.message_id) for one in seen):
            return [Rejected("poison")] * len(seen)
        outcomes: list[Outcome] = []
        for sighting in seen:
            if self.poisonous(sighting.message_id):
                outcomes.append(Rejected("poison"))
                continue
            partly = not self.options.batch_atomic and not self._world.healed
            if partly and self._rng.random() < self.options.refuse / 4:
                outcomes.append(Retry("busy"))
                continue
            sighting.effect = True
            self._world.saw_effect(self.options, sighting)
            outcomes.append(Delivered())
        return outcomes


class SimSettings(Settings):
    """Nothing to configure."""


class SimDestination(Destination[SimSettings]):
    """A destination whose service is an outlet."""

    settings_type = SimSettings
    erases = True
    outlet: ClassVar[Outlet]

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        over_http = self.outlet.options.over_http
        outcomes = await (self._post(batch) if over_http else self.outlet.receive(batch))
        self.outlet.heard(batch, outcomes)
        return outcomes

    async def erase(self, erasure: Erasure) -> ErasureOutcome:
        return await self.outlet.forget(erasure)

    async def erasure_status(self, remote_id: str) -> ErasureOutcome:
        return await self.outlet.forgets(remote_id)

    async def _post(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        body = msgspec.json.encode(batch)
        answer = await self.http.post(f"http://{self.outlet.options.name}/", content=body)
        if answer.status_code == 429:
            return [Retry("throttled", float(answer.headers["retry-after"]))] * len(batch)
        if answer.status_code >= 500:
            return [Retry(f"http_{answer.status_code}")] * len(batch)
        return _decode_outcomes(answer.content)


_decode_batch = msgspec.json.Decoder(list[Delivery]).decode
_decode_outcomes = msgspec.json.Decoder(list[Delivered | Retry | Rejected]).decode


def service_of(outlet: Outlet) -> Any:
    """The outlet as an HTTP service."""

    async def serve(request: httpx.Request) -> httpx.Response:
        try:
            outcomes = await outlet.receive(_decode_batch(request.content))
        except OSError as error:
            raise httpx.ReadError(str(error), request=request) from error
        first = outcomes[0] if outcomes else None
        if isinstance(first, Retry) and first.after_s is not None:
            return httpx.Response(429, headers={"Retry-After": str(first.after_s)})
        if outcomes and all(isinstance(one, Retry) for one in outcomes):
            return httpx.Response(503)
        return httpx.Response(200, content=msgspec.json.encode(outcomes))

    return serve


def destination_type(outlet: Outlet) -> type[SimDestination]:
    """The destination type of an outlet, with the outlet's own limits."""
    options = outlet.options
    return type(
        f"To{options.name}",
        (SimDestination,),
        {
            "outlet": outlet,
            "batch_max": options.batch_max,
            "batch_atomic": options.batch_atomic,
            "concurrency_max": options.concurrency_max,
            "receives": EVERYTHING if options.receives_changes else frozenset({"event"}),
        },
    )
