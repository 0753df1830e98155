"""Batches of 100 events over keep-alive connections, closed loop, each answered after its sync.

Estimate. 100 events are about 67 kB; 40,000 events/s are 27 MB/s on loopback and 25 MB/s of WAL,
well below the 300 MB/s that a log of blocks takes. The cost of a request divides by 100, what is
left is each event's own: decoding 6 us, normalising and encoding 8 us, de-duplication 2 us, the
block and its sync 1 us: 17 us, so about 58,000 events/s on one core while folds rest, and what
folds may take while ingestion is busy (30 % of the loop) leaves 41,000/s.
"""

from __future__ import annotations

from bench.daemon import bench_daemon, warm_up
from bench.events import batches, templates
from bench.load import Generator
from bench.processes import usage
from bench.report import Options, Report

BATCH_EVENTS = 100
CONNECTIONS = 32
WARM_UP_REQUESTS = 50
POOL = 20_000
PEOPLE = 10_000


def run(options: Options) -> Report:
    """Acknowledged events a second, and how long a batch took."""
    report = Report()
    pool = templates(options.scaled(POOL, 200), options.scaled(PEOPLE, 100))
    requests = batches(pool, BATCH_EVENTS)
    with bench_daemon() as daemon:
        warm_up(daemon, requests, options.scaled(WARM_UP_REQUESTS, 5))
        generator = Generator(daemon.address, CONNECTIONS)
        before = usage(daemon.pid)
        load = generator.closed_loop(requests, options.seconds)
        after = usage(daemon.pid)
        generator.close()
    events = load.acknowledged * BATCH_EVENTS
    report.add("acknowledged events", load.rate_per_s * BATCH_EVENTS, "1/s", goal=40_000)
    report.add("latency of a batch p50", load.latency_ms(0.50), "ms")
    report.add("latency of a batch p99", load.latency_ms(0.99), "ms")
    report.add("refused", load.refused, "requests", goal=0, more=False)
    report.add_usage(before, after, events=events)
    if load.refused:
        report.notes.append(f"first refusal: {load.first_refusal[:200]!r}")
    return report
