"""Ingestion alone, on a free port of the loopback, in a process of its own.

Arguments are limits, as `name=value`. Prints the port, serves until its standard input ends, then
prints how many connections crashed.
"""

from __future__ import annotations

import random
import sys

import trio

from cdp.config import Config, Limits, Source
from cdp.environment import Environment
from cdp.ingestion import Gateway, Intake
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.system import SystemClock, SystemNetwork, Threads
from cdp.telemetry import Journal, Metrics


async def main(limits: Limits) -> None:
    clock, network, lines = SystemClock(), SystemNetwork(), list[str]()
    metrics, journal, store = Metrics(), Journal(clock, lines.append), MemoryStore()
    config = Config(limits=limits, sources={"web": Source(write_key="wk_test")})
    environment = Environment(
        clock=clock,
        rng=random.Random(1),
        network=network,
        run_in_thread=Threads(),
        open_store=lambda path: None,
        environ=lambda name: None,
    )
    intake = Intake(
        store=store,
        events=Log(store, "events"),
        clock=clock,
        limits=limits,
        metrics=metrics,
        journal=journal,
        key=b"k" * 16,
    )
    gateway = Gateway(
        config=config, intake=intake, environment=environment, metrics=metrics, journal=journal
    )
    stopping = trio.Event()

    async def wait_for_the_end() -> None:
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        stopping.set()

    listeners = await network.listen("127.0.0.1", 0)
    print(listeners[0].socket.getsockname()[1], flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        nursery.start_soon(wait_for_the_end)
        await gateway.serve(listeners, stopping)
        intake.end()
    print(len(lines), *lines, flush=True)


if __name__ == "__main__":
    pairs = (argument.split("=") for argument in sys.argv[1:])
    trio.run(main, Limits(**{name: type(getattr(Limits(), name))(value) for name, value in pairs}))
