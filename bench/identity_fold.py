"""The identity fold alone, on a real store: events in the log -> profiles and the change log.

Estimate, per event: decoding the fields that it needs 2.5 us, the observation 1 us, Rust 0.6 us,
timeline and sign-ins 3 us, the fragment 3 us (an encode is shared by the events of a batch about
one person), the change 0.7 us, the write batch 2 us: about 13 us, 75,000/s.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import trio

from bench.events import stored_events
from bench.report import Options, Report
from bench.resolve import BENCH_KEY, new_resolver
from cdp.domain.event import encode_event
from cdp.identity.actor import READER, IdentityFold
from cdp.storage.cursors import Cursors
from cdp.storage.log import Log
from cdp.storage.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVENTS = 200_000
PEOPLE = 5_000
BATCH = 1_024


def run(options: Options) -> Report:
    """Microseconds an event, and events a second."""
    report = Report()
    count = options.scaled(EVENTS, 2_000)
    records = [encode_event(event) for event in stored_events(count, options.scaled(PEOPLE, 50))]
    with TemporaryDirectory(prefix="cdp-bench-") as scratch:
        seconds, cpu_s = trio.run(_fold, Path(scratch) / "data", records)
    report.add("events folded", count / seconds, "1/s")
    report.add("cpu of an event", cpu_s / count * 1e6, "us")
    return report


async def _fold(directory: Path, records: list[bytes]) -> tuple[float, float]:
    store = open_store(directory, in_thread)
    events, changes, cursors = Log(store, "events"), Log(store, "changes"), Cursors(store)
    fold = IdentityFold(store, changes, new_resolver(), key=BENCH_KEY, fragment_cache_max=50_000)
    for start in range(0, len(records), BATCH):
        batch = store.batch()
        events.append(batch, records[start : start + BATCH])
        store.write(batch)
        events.publish()
    offset, began_s, began_cpu_s = 0, time.perf_counter(), time.thread_time()
    while entries := events.read(offset, BATCH):
        batch = store.batch()
        fold.step(batch, entries)
        offset = entries[-1].offset + 1
        cursors.set(batch, READER, offset)
        store.write(batch)
        changes.publish()
    seconds, cpu_s = time.perf_counter() - began_s, time.thread_time() - began_cpu_s
    store.close()
    return seconds, cpu_s


def in_thread(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    """Runs a blocking call in a thread, as the daemon's environment does."""
    return trio.to_thread.run_sync(function, *args)
