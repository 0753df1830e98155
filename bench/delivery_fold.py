"""The host of a destination alone: activations -> a destination that takes everything at once.

Estimate, per event: reading and decoding the activation 1 us, joining and decoding the event 3 us,
the gate twice 2 us, lanes and books 8 us, the wire form 5 us, outcomes and commit 5 us: about
24 us, 40,000/s. What a real destination adds (JSON, a signature, HTTP) is not in it.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio

from bench.events import stored_events
from bench.identity_fold import in_thread
from bench.report import Options, Report
from cdp.config import Config, DestinationConfig, Limits
from cdp.consent.rules import Rules
from cdp.delivery.actor import Delivering
from cdp.delivery.destination import Delivered, Delivery, Destination, Outcome, Settings
from cdp.delivery.setup import Outlet, telemetry_of
from cdp.domain.change import RESOLVED, Activation, encode
from cdp.domain.consent import Latest, Standing
from cdp.domain.event import encode_event
from cdp.storage.cursors import Cursors
from cdp.storage.log import Log
from cdp.storage.opening import open_store
from cdp.system import real_environment
from cdp.telemetry import Journal, Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.domain.event import Event
    from cdp.storage.store import Store

EVENTS = 100_000
PEOPLE = 5_000
BATCH = 1_024
WAIT_MAX_S = 300


class NoSettings(Settings, frozen=True):
    """Nothing to set."""


class Everybody:
    """A ledger in which everybody agreed: what it costs to know where people stand is not here."""

    ready = True

    def __init__(self, now_us: int) -> None:
        self._agreed = Standing({"analytics": Latest("granted", seq=0, at_us=now_us)})

    def standing(self, profile_id: bytes) -> Standing:
        """The same for everybody."""
        return self._agreed

    def standing_apart(self, leaf: bytes, profile_id: bytes) -> Standing | None:
        return None

    def standing_of_device(self, event: Event) -> Standing:
        """The same for every device."""
        return self._agreed


class Everything(Destination[NoSettings]):
    """Takes every delivery at once."""

    settings_type = NoSettings
    purposes = frozenset({"analytics"})

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        await trio.lowlevel.checkpoint()
        return [Delivered()] * len(batch)


def run(options: Options) -> Report:
    """Microseconds a delivery, and deliveries a second."""
    report = Report()
    count = options.scaled(EVENTS, 2_000)
    with TemporaryDirectory(prefix="cdp-bench-") as scratch:
        seconds, cpu_s = trio.run(
            _deliver, Path(scratch) / "data", count, options.scaled(PEOPLE, 50)
        )
    report.add("deliveries", count / seconds, "1/s")
    report.add("cpu of a delivery", cpu_s / count * 1e6, "us")
    return report


async def _deliver(directory: Path, count: int, people: int) -> tuple[float, float]:
    store = open_store(directory, in_thread)
    events, activations = Log(store, "events"), Log(store, "activations")
    _fill(store, events, activations, count, people)
    delivering = Delivering(_outlet(store, events, activations))
    stopping = trio.Event()
    began_s, began_cpu_s = time.perf_counter(), time.thread_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivering.run, stopping)
        books = delivering.backlog.ledger.books
        with trio.fail_after(WAIT_MAX_S):
            while books.live.delivered < count:  # noqa: ASYNC110 nothing tells
                await trio.sleep(0.005)
        seconds, cpu_s = time.perf_counter() - began_s, time.thread_time() - began_cpu_s
        stopping.set()
    assert books.live.delivered == count, books.live
    store.close()
    return seconds, cpu_s


def _fill(store: Store, events: Log, activations: Log, count: int, people: int) -> None:
    rng, made = Random(3), stored_events(count, people)
    for start in range(0, count, BATCH):
        some = made[start : start + BATCH]
        batch = store.batch()
        events.append(batch, [encode_event(event) for event in some])
        owed = [
            encode(Activation(RESOLVED, start + n, rng.randrange(people).to_bytes(16)))
            for n in range(len(some))
        ]
        activations.append(batch, owed)
        store.write(batch)
        events.publish()
        activations.publish()


def _outlet(store: Store, events: Log, activations: Log) -> Outlet:
    environment = real_environment(Config())
    return Outlet(
        name="everything",
        config=DestinationConfig(type="everything"),
        type=Everything,
        settings=NoSettings(),
        rules=Rules.from_config(Config()),
        standings=Everybody(environment.clock.now_us()),
        limits=Limits(),
        environment=environment,
        store=store,
        events=events,
        activations=activations,
        cursors=Cursors(store),
        journal=Journal(environment.clock),
        telemetry=telemetry_of(Metrics(), "everything"),
    )
