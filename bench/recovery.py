"""A start with 1,000,000 profiles on disk after `kill -9`: until the first 200, until caught up.

Estimate. Three identifiers a person make 3 M nodes and 2 M edges: 5 M rows of about 60 bytes in
the `identity` family, 300 MB, read at 700,000 rows/s through the binding in 4 s if Python touched
each, or 1.5 s when blocks go to Rust as they are. Imports take 0.4 s, opening and checking the
store 0.3 s. Events are taken from then on: the first 200 does not wait for the graph. So 0.8 s to
the first 200 and, if loading stays under 0.5 us a row, 3 s until people are resolved again.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.daemon import wait_until_caught_up
from bench.events import singles, templates
from bench.load import Generator
from bench.processes import usage
from bench.report import Options, Report
from bench.stores import copy_of_store
from tests.crash.daemon import Daemon, Settings

PEOPLE = 1_000_000
UNSYNCED_REQUESTS = 2_000


def run(options: Options) -> Report:
    """Seconds from `exec` to the first answer and to a loaded, caught-up identity."""
    report = Report()
    people = options.scaled(PEOPLE, 1_000)
    with TemporaryDirectory(prefix="cdp-bench-") as scratch:
        daemon = Daemon(Path(scratch) / "daemon", Settings())
        copy_of_store(people, daemon.config, daemon.data_dir)
        with daemon:
            _work_then_kill(daemon, options)
            began_s = time.monotonic()
            daemon.start(wait=False)
            daemon.wait_until(daemon.takes_events, "to take events", 300)
            first_s = _first_answer_s(daemon, began_s)
            daemon.wait_until(lambda: _is_ready(daemon), "to load the graph", 300)
            wait_until_caught_up(daemon)
            ready_s = time.monotonic() - began_s
            used = usage(daemon.pid)
    report.add("profiles", people, "profiles")
    report.add("until the first 200", first_s, "s", goal=3, more=False)
    report.add("until identity has caught up", ready_s, "s", goal=3, more=False)
    report.add("daemon cpu", used.cpu_s, "s")
    report.add("daemon peak rss", used.rss_bytes_peak / 2**20, "MiB")
    return report


def _work_then_kill(daemon: Daemon, options: Options) -> None:
    """Leaves what a crash leaves: a log to recover, and folds that were behind."""
    daemon.start()
    daemon.wait_until(lambda: _is_ready(daemon), "to load the graph", 300)
    requests = singles(templates(500, 500, seed=7), first=1 << 50)
    generator = Generator(daemon.address, connections=32)
    generator.open_loop(islice(requests, 1 << 30), per_s=2_000, seconds=options.seconds / 10)
    generator.close()
    daemon.kill()


def _first_answer_s(daemon: Daemon, began_s: float) -> float:
    generator = Generator(daemon.address, connections=1)
    request = singles(templates(1, 1, seed=8), first=1 << 51)
    load = generator.open_loop(request, per_s=1, seconds=1)
    generator.close()
    assert load.acknowledged == 1, f"refused: {load.first_refusal[:200]!r}"
    return load.ended_ns / 1e9 - began_s


def _is_ready(daemon: Daemon) -> bool:
    return bool(daemon.ask("/readyz")["status"] == "ready")
