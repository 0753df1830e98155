"""Single-event requests over keep-alive connections, closed loop, each answered after its sync.

Estimate. A request is about 950 bytes; 10,000/s are 9.5 MB/s on loopback and about 6 MB/s of WAL:
neither limits. One core of Python does: parsing HTTP 5 us, reading and writing a socket through
Trio 25 us, decoding and normalising JSON 15 us, its share of a group commit 3 us, the answer and
task switches 15 us: about 65 us, 15,000/s. A commit syncs in 0.1 to 4 ms while the next one is
gathered, so with 256 connections p50 is about 256 / 15,000 s = 17 ms and p99 under 30 ms.
The generator takes 16 us a request on the other core.
"""

from __future__ import annotations

from bench.daemon import CONNECTIONS, bench_daemon, warm_up
from bench.events import singles, templates
from bench.load import Generator
from bench.processes import usage
from bench.report import Options, Report

WARM_UP_REQUESTS = 2_000
POOL = 20_000
PEOPLE = 10_000


def run(options: Options) -> Report:
    """Acknowledged requests a second, and how long they took."""
    report = Report()
    pool = templates(options.scaled(POOL, 200), options.scaled(PEOPLE, 100))
    requests = singles(pool)
    with bench_daemon() as daemon:
        warm_up(daemon, requests, options.scaled(WARM_UP_REQUESTS, 100))
        generator = Generator(daemon.address, CONNECTIONS)
        before = usage(daemon.pid)
        load = generator.closed_loop(requests, options.seconds)
        after = usage(daemon.pid)
        generator.close()
    report.add("acknowledged requests", load.rate_per_s, "1/s", goal=10_000)
    report.add("latency p50", load.latency_ms(0.50), "ms")
    report.add("latency p99", load.latency_ms(0.99), "ms")
    report.add("refused", load.refused, "requests", goal=0, more=False)
    report.add_usage(before, after, events=load.acknowledged)
    if load.refused:
        report.notes.append(f"first refusal: {load.first_refusal[:200]!r}")
    return report
