"""Why each of 10,000 events may go to a tool: how long the proof takes, and whether it is whole.

Estimate. The place of the event by its message id, its block opened (0.2 ms), the change that it
caused, where the person stands, and the policy text with its hash: 0.5 ms, and as much again for
the request. p99 under 5 ms; the goal is 50.
"""

from __future__ import annotations

import http.client
import json
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.daemon import bench_daemon, wait_until_caught_up
from bench.events import batches, templates
from bench.load import Generator, quantile_of
from bench.report import Options, Report
from tests.crash.daemon import Settings
from tests.crash.receiver import Receiver

if TYPE_CHECKING:
    from tests.crash.daemon import Daemon

EVENTS = 10_000
BATCH_EVENTS = 100
PEOPLE = 2_000
FIRST = 1 << 40
TEXT = "We count visits.\n"
TABLES = """
[consent.policies.privacy]
version = "1"
text = "{path}"
"""


def run(options: Options) -> Report:
    """Milliseconds of a proof, and how many proofs lack a part."""
    report = Report()
    count = options.scaled(EVENTS, 200) // BATCH_EVENTS * BATCH_EVENTS
    with TemporaryDirectory(prefix="cdp-bench-hook-") as scratch:
        text = Path(scratch) / "policy.txt"
        text.write_text(TEXT)
        with Receiver(Path(scratch) / "received.bin") as receiver:
            settings = Settings(webhook_url=receiver.url, tables=TABLES.format(path=text))
            with bench_daemon(settings) as daemon:
                _send(daemon, count, options.scaled(PEOPLE, 20))
                took_ms, lacking = _ask(daemon, count)
    report.add("proofs", count, "events")
    report.add("a proof, p50", quantile_of(took_ms, 0.50), "ms")
    report.add("a proof, p99", quantile_of(took_ms, 0.99), "ms", goal=50, more=False)
    report.add("without basis, stamp, latest or policy", lacking, "proofs", goal=0, more=False)
    return report


def _send(daemon: Daemon, count: int, people: int) -> None:
    requests = batches(templates(count, people), BATCH_EVENTS, FIRST)
    generator = Generator(daemon.address, connections=4)
    generator.open_loop(islice(requests, count // BATCH_EVENTS), 20, count / BATCH_EVENTS / 20)
    generator.close()
    wait_until_caught_up(daemon)


def _ask(daemon: Daemon, count: int) -> tuple[list[float], int]:
    """How long each proof took, and how many were not whole."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.control_port)
    took_ms, lacking = [], 0
    for number in range(FIRST, FIRST + count):
        began_s = time.monotonic()
        connection.request("GET", f"/v1/privacy/why?event={number:016x}&destination=hook")
        response = connection.getresponse()
        body = response.read()
        took_ms.append((time.monotonic() - began_s) * 1e3)
        lacking += response.status != 200 or not _is_whole(json.loads(body))
    connection.close()
    return took_ms, lacking


def _is_whole(told: dict[str, Any]) -> bool:
    """Whether it names, for what was allowed, the basis, both sides of consent, and the text."""
    purposes, policies = told.get("purposes") or [], told.get("policies") or []
    return (
        told["allowed"] is True
        and all(one["basis"] and one["event_said"] and "person_now" in one for one in purposes)
        and bool(purposes)
        and all(one.get("text_sha256") and one.get("text") for one in policies)
        and bool(policies)
    )
