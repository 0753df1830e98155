"""Erasing one person among 1,000,000: the time of every stage, as the receipt tells it.

Estimate. Sealing is two rows and a sync: 5 ms. Shredding writes the ledger of erasures and zeros
over the keys, each with its own sync, and asks every log who else was touched: 50 ms. Purging is
some tens of deletes: 20 ms. Verifying reads every file of the data directory for the person's
identifiers in every form: 800 MB at 500 MB/s are 1.6 s, and nearly all of the whole. No
destination is asked: what a tool takes is the tool's. So 2 s for one person, and for several that
are asked for together hardly more, since one reading of the files serves thirty-two.
"""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.load import quantile_of
from bench.processes import usage
from bench.report import Options, Report
from bench.stores import copy_of_store
from tests.crash.daemon import Daemon, Settings

PEOPLE = 1_000_000
ERASED = 20
TIMEOUT_S = 120.0
STAGES = ("sealed", "shredded", "purged", "verified", "completed")
Json = dict[str, Any]


def run(options: Options) -> Report:
    """How long each stage took, and the whole, at the median and at worst."""
    report = Report()
    people = options.scaled(PEOPLE, 1_000)
    with TemporaryDirectory(prefix="cdp-bench-", dir="/var/tmp") as scratch:
        daemon = Daemon(Path(scratch) / "daemon", Settings())
        copy_of_store(people, daemon.config, daemon.data_dir)
        with daemon:
            daemon.start()
            daemon.wait_until(lambda: daemon.ask("/readyz")["status"] == "ready", "ready", 300)
            before = usage(daemon.pid)
            step = people // ERASED
            receipts = [_erase(daemon, f"customer-{n * step}") for n in range(ERASED)]
            after = usage(daemon.pid)
    report.add("profiles", people, "profiles")
    for stage in STAGES:
        took_ms = [one["durations_s"][stage] * 1e3 for one in receipts]
        report.add(f"{stage}, median", quantile_of(took_ms, 0.5), "ms")
        report.add(f"{stage}, worst of {ERASED}", max(took_ms), "ms")
    whole = [sum(one["durations_s"].values()) for one in receipts]
    report.add("the whole, median", quantile_of(whole, 0.5), "s")
    report.add(f"the whole, worst of {ERASED}", max(whole), "s", goal=10, more=False)
    report.add("daemon cpu an erasure", (after.cpu_s - before.cpu_s) / ERASED, "s")
    unclean = sum(one["state"] != "complete" or bool(one["problems"]) for one in receipts)
    report.add("not complete", unclean, "requests", goal=0, more=False)
    return report


def _erase(daemon: Daemon, user_id: str) -> Json:
    """Asks for an erasure, verifies and approves it, and waits for its receipt."""
    asked = {"kind": "erasure", "identifiers": {"user_id": user_id}, "regulation": "gdpr"}
    one = f"/v1/privacy/requests/{_order(daemon, '/v1/privacy/requests', asked)['id']}"
    _order(daemon, f"{one}/verify", {"by": "bench", "method": "measured"})
    _order(daemon, f"{one}/approve", {"by": "bench"})
    until_s = time.monotonic() + TIMEOUT_S
    while daemon.ask(one)["completed_at"] is None:
        assert time.monotonic() < until_s, f"an erasure took more than {TIMEOUT_S:.0f} s"
        time.sleep(0.05)
    return daemon.ask(f"{one}/receipt")


def _order(daemon: Daemon, path: str, body: Json) -> Json:
    request = urllib.request.Request(
        f"http://127.0.0.1:{daemon.control_port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: Json = json.load(response)
    return answer
