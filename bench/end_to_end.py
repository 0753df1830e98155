"""HTTP in, webhook out: events of 5,000 people, batches in, a receiver in a process of its own.

Estimate. Per event in the daemon: ingestion 17 us, identity 15 us (Rust 1, fragments 6, rows and
history 8), segmentation 2 us, delivery 35 us (gate 3, wire form 6, JSON 4, lanes and books 12,
HTTP 1, outcomes 9): 70 us of one core, so 14,000/s. The receiver and the generator share the other
core: 2 us and 1 us an event. An event waits for its commit (up to 5 ms), for each fold's turn
(three times up to 10 ms) and for its batch to fly: about 50 ms at half load, far below 1 s.

The rate is open-loop: requests are due at fixed times and latency counts from when an event was
due, to the moment when the receiver had it. A rate is sustained when what waits does not grow:
at the end of its trial the backlog is below half a second's worth of events and every event of
the trial has arrived soon after. The highest such rate is found by doubling and halving.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.daemon import bench_daemon, wait_until_caught_up, warm_up
from bench.events import MESSAGE_ID_PATTERN, Template, batches, templates
from bench.load import Generator, quantile_of
from bench.processes import usage
from bench.report import Options, Report
from tests.crash.daemon import Daemon, Settings
from tests.crash.receiver import Receiver

BATCH_EVENTS = 50
CONNECTIONS = 32
PEOPLE = 5_000
POOL = 20_000
FIRST_RATE_PER_S = 10_000.0
RATE_STEP_MIN = 0.05
BACKLOG_S_MAX = 0.5
_IDS = re.compile(rb"[0-9a-f]{16}")


@dataclass(slots=True)
class Trial:
    """What one rate did."""

    per_s: float
    sent: int
    arrived: int
    seconds_until_last: float
    latencies_ns: array[int]
    cpu_s: float
    loop_cpu_s: float

    def sustained(self, seconds: float) -> bool:
        """Whether it kept up: everything came, and the last soon after it was sent."""
        return self.arrived >= self.sent and self.seconds_until_last <= seconds + BACKLOG_S_MAX


class Bench:
    """One daemon and one receiver; trials follow one another, each with fresh message ids."""

    def __init__(self, daemon: Daemon, receiver: Receiver, pool: list[Template]) -> None:
        self._daemon = daemon
        self._receiver = receiver
        self._pool = pool
        self._next_id = 1 << 40

    def trial(self, per_s: float, seconds: float) -> Trial:
        """Offers a rate for so long, then waits until everything has arrived."""
        first = self._next_id
        requests = batches(self._pool, BATCH_EVENTS, first)
        recorded = self._receiver.record.stat().st_size
        generator = Generator(self._daemon.address, CONNECTIONS)
        before = usage(self._daemon.pid)
        load = generator.open_loop(requests, per_s / BATCH_EVENTS, seconds)
        generator.close()
        wait_until_caught_up(self._daemon)
        after = usage(self._daemon.pid)
        sent = len(load.due_ns) * BATCH_EVENTS
        self._next_id = first + sent + BATCH_EVENTS
        latencies, last_ns = self._arrivals(first, load.due_ns, recorded)
        return Trial(
            per_s=per_s,
            sent=sent + load.unsent * BATCH_EVENTS,
            arrived=len(latencies),
            seconds_until_last=(last_ns - load.began_ns) / 1e9,
            latencies_ns=latencies,
            cpu_s=after.cpu_s - before.cpu_s,
            loop_cpu_s=after.loop_cpu_s - before.loop_cpu_s,
        )

    def _arrivals(self, first: int, due_ns: array[int], skip: int) -> tuple[array[int], int]:
        latencies, last_ns = array("q"), 0
        seen = bytearray(len(due_ns) * BATCH_EVENTS)
        for request in self._receiver.received(skip):
            for text in _IDS.findall(request.body):
                number = int(text, 16) - first
                if 0 <= number < len(seen) and not seen[number]:
                    seen[number] = 1
                    last_ns = request.moment_ns
                    latencies.append(request.moment_ns - due_ns[number // BATCH_EVENTS])
        return latencies, last_ns


def highest_rate(bench: Bench, seconds: float, report: Report) -> float:
    """The highest sustained rate to within a few per cent."""
    low, high, rate = 0.0, 0.0, FIRST_RATE_PER_S
    while not high or high / max(low, 1.0) > 1 + RATE_STEP_MIN:
        trial = bench.trial(rate, seconds)
        kept = trial.sustained(seconds)
        report.notes.append(
            f"{rate:,.0f}/s {'kept up' if kept else 'fell behind'}: last event after "
            f"{trial.seconds_until_last:.2f} s of {seconds:g}, "
            f"cpu {trial.cpu_s / trial.sent * 1e6:.1f} us an event, "
            f"{trial.loop_cpu_s / trial.sent * 1e6:.1f} of it on the loop"
        )
        low, high = (rate, high) if kept else (low, rate)
        rate = (low + high) / 2 if high else rate * 1.5
        if high and rate < 200:
            break
    return low


def run(options: Options) -> Report:
    """The highest sustained rate, and latencies at half of it."""
    report = Report()
    pool = templates(options.scaled(POOL, 200), options.scaled(PEOPLE, 100))
    with TemporaryDirectory(prefix="cdp-bench-hook-") as scratch:
        record = Path(scratch) / "received.bin"
        with Receiver(record, MESSAGE_ID_PATTERN) as receiver:
            settings = Settings(webhook_url=receiver.url)
            with bench_daemon(settings) as daemon:
                warm_up(daemon, batches(pool, BATCH_EVENTS), options.scaled(200, 4))
                bench = Bench(daemon, receiver, pool)
                rate = highest_rate(bench, options.seconds, report)
                half = bench.trial(max(rate, 200.0) / 2, options.seconds)
                peak = usage(daemon.pid)
    report.add("sustained rate", rate, "events/s", goal=12_000)
    report.add("event to webhook p50 at half", quantile_of(half.latencies_ns, 0.50) / 1e6, "ms")
    p99_ms = quantile_of(half.latencies_ns, 0.99) / 1e6
    report.add("event to webhook p99 at half", p99_ms, "ms", goal=1_000, more=False)
    report.add("lost", half.sent - half.arrived, "events", goal=0, more=False)
    report.add("daemon cpu per event at half", half.cpu_s / half.sent * 1e6, "us")
    report.add("event loop cpu per event at half", half.loop_cpu_s / half.sent * 1e6, "us")
    report.add("daemon peak rss", peak.rss_bytes_peak / 2**20, "MiB")
    return report
