"""A destination's world in memory, with virtual time, prescribed answers, and crashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import pytest
import trio
import trio.testing

from cdp.config import DestinationConfig, Limits
from cdp.config_consent import Consent
from cdp.consent.rules import Rules
from cdp.delivery import Delivered, Delivery, Destination, Outcome, Settings
from cdp.delivery.control import Deliveries
from cdp.delivery.ledger import read_books
from cdp.delivery.setup import Outlet, paused_key, telemetry_of
from cdp.domain.change import RESOLVED, Activation, encode
from cdp.domain.consent import Latest, Standing
from cdp.domain.event import ConsentStamp, Event, encode_event
from cdp.storage.cursors import Cursors
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal, Metrics
from cdp.testing.world import FakeNetwork, TrioClock, make_environment

GRANTED = ConsentStamp(present=True, purposes={"marketing": True})
Answer = Callable[[Sequence[Delivery]], Any]


LONG_US = 4_000_000_000_000_000  # no grant of these tests grows old
AGREED = Standing({"marketing": Latest("granted", 0, LONG_US)})


class Standings:
    """Where people stand: everybody has agreed to marketing, unless told otherwise."""

    def __init__(self) -> None:
        self.ready = True
        self.of: dict[bytes, Standing] = {}
        self.apart: dict[bytes, Standing] = {}  # by leaf: those whom a split made others
        self.everybody = AGREED

    def standing(self, profile_id: bytes) -> Standing:
        return self.of.get(profile_id, self.everybody)

    def standing_apart(self, leaf: bytes, profile_id: bytes) -> Standing | None:
        return self.apart.get(leaf)

    def standing_of_device(self, event: Event) -> Standing:
        return self.of.get(b"", self.everybody)


class NoSettings(Settings):
    """Nothing to configure."""


@dataclass
class Service:
    """What the destination talks to: it remembers every attempt, and answers as told."""

    answer: Callable[[Sequence[Delivery]], Any]
    attempts: list[list[Delivery]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [one.delivery_id for batch in self.attempts for one in batch]

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.attempts]

    @property
    def names(self) -> list[Any]:
        return [one.event and one.event["messageId"] for batch in self.attempts for one in batch]


def accept(batch: Sequence[Delivery]) -> list[Outcome]:
    return [Delivered() for _ in batch]


def profile(number: int) -> bytes:
    return number.to_bytes(16, "big")


class World:
    """One destination over a store that survives what happens to the process."""

    def __init__(self, **attributes: Any) -> None:
        self.store = MemoryStore()
        self.service = Service(accept)
        self.limits = Limits(backoff_s_min=1.0, backoff_s_max=60.0)
        self.defaults: dict[str, str] = {}
        self.standings = Standings()
        self.config = DestinationConfig(type="scripted")
        self.clock = TrioClock()
        self.names = ["out"]
        service = self

        class Scripted(Destination[NoSettings]):
            settings_type = NoSettings
            purposes = frozenset({"marketing"})

            async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
                service.service.attempts.append(list(batch))
                service.service.times_s.append(trio.current_time())
                answer = service.service.answer(batch)
                if hasattr(answer, "__await__"):
                    answer = await answer
                return answer

        for name, value in attributes.items():
            setattr(Scripted, name, value)
        self.type = Scripted
        self.open_logs()

    def open_logs(self) -> None:
        self.events = Log(self.store, "events")
        self.activations = Log(self.store, "activations")

    def restart(self, store: MemoryStore | None = None) -> None:
        """The process died; what the store holds is all that is left."""
        self.store = store or self.store.killed()
        self.open_logs()

    def append(
        self,
        count: int = 1,
        *,
        profiles: Sequence[int] | None = None,
        stamp: ConsentStamp = GRANTED,
        leaf: bytes = b"",
        **fields: Any,
    ) -> int:
        """Events m0, m1 ... and their activations, each of a profile of its own unless told."""
        first = self.events.head
        numbers = profiles or [first + index + 1 for index in range(count)]
        events = [
            Event(
                schema=1,
                type=fields.get("type", "track"),
                message_id=f"m{first + index}",
                source="shop",
                event_time_us=self.clock.now_us() + index,
                received_at_us=self.clock.now_us() + index,
                event="Order Completed",
                stamp=stamp,
                integrations=fields.get("integrations", {}),
            )
            for index in range(len(numbers))
        ]
        batch = self.store.batch()
        self.events.append(batch, [encode_event(event) for event in events])
        self.activations.append(
            batch,
            [
                encode(
                    Activation(
                        RESOLVED, first + index, profile(number) if number else b"", b"", leaf
                    )
                )
                for index, number in enumerate(numbers)
            ],
        )
        self.store.write(batch)
        self.events.publish()
        self.activations.publish()
        return first

    def append_change(self, kind: int, cause: int, one: int, other: int) -> None:
        batch = self.store.batch()
        row = encode(Activation(kind, cause, profile(one), profile(other)))
        self.activations.append(batch, [row])
        self.store.write(batch)
        self.activations.publish()

    def outlet(self, name: str = "out") -> Outlet:
        network = FakeNetwork(lambda: httpx.MockTransport(lambda request: httpx.Response(200)))
        environment = make_environment(network)
        object.__setattr__(environment, "clock", self.clock)
        self.journal: list[str] = []
        self.metrics = Metrics()
        return Outlet(
            name=name,
            config=self.config,
            type=self.type,
            settings=NoSettings(),
            rules=Rules(msgspec.convert({"defaults": self.defaults}, Consent)),
            standings=self.standings,
            limits=self.limits,
            environment=environment,
            store=self.store,
            events=self.events,
            activations=self.activations,
            cursors=Cursors(self.store),
            journal=Journal(self.clock, self.journal.append),
            telemetry=telemetry_of(self.metrics, name),
            paused=self.store.get("meta", paused_key(name)) is not None,
        )

    @asynccontextmanager
    async def running(self):
        """The destinations run; leaving kills them where they stand."""
        self.deliveries = Deliveries([self.outlet(name) for name in self.names], Metrics())
        self.stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            for name in self.names:
                nursery.start_soon(self.deliveries.run, name, self.stopping)
            await trio.testing.wait_all_tasks_blocked()
            yield self.deliveries
            nursery.cancel_scope.cancel()

    async def run_for(self, seconds: float) -> None:
        async with self.running():
            await trio.sleep(seconds)

    def books(self, name: str = "out"):
        return read_books(self.store, name)

    def rows(self, family: str) -> int:
        return len(self.store.scan(family))


@pytest.fixture
async def world(autojump_clock: trio.abc.Clock) -> World:
    return World(batch_max=10)


@pytest.fixture
def make_world(autojump_clock: trio.abc.Clock) -> type[World]:
    return World
