"""From the 200 of a withdrawal to the last event of that person that reached a tool.

Estimate. The withdrawal is on disk before its 200, and counts in memory before it is on disk: the
gate, asked before every attempt, refuses from then on, and attempts under way are called back. So
no attempt starts after the 200. What may still arrive is what was on the wire: the receiver notes
a request when it has read it, about 1 ms later. p99 under 10 ms; the goal is 50.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

from bench.daemon import bench_daemon, wait_until_caught_up
from bench.events import MESSAGE_ID_PATTERN
from bench.load import Generator, quantile_of
from bench.report import Options, Report
from tests.crash.daemon import WRITE_KEY, Settings
from tests.crash.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crash.daemon import Daemon

EVENTS_PER_S = 4_000
BATCH_EVENTS = 20
CONNECTIONS = 16
PEOPLE = 400
_AUTHORIZATION = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
_IDS = re.compile(rb"[0-9a-f]{16}")


def run(options: Options) -> Report:
    """How long after the 200 the last event of somebody who withdrew arrived."""
    report = Report()
    people = options.scaled(PEOPLE, 20)
    with TemporaryDirectory(prefix="cdp-bench-hook-") as scratch:
        record = Path(scratch) / "received.bin"
        with Receiver(record, MESSAGE_ID_PATTERN) as receiver:
            with bench_daemon(Settings(webhook_url=receiver.url)) as daemon:
                withdrawn_ns = _withdraw_under_load(daemon, people, options.seconds)
                wait_until_caught_up(daemon)
            last_ns, arrived = _last_arrivals(receiver, people)
    late_ms = [
        max(0, last_ns.get(person, 0) - at_ns) / 1e6 for person, at_ns in withdrawn_ns.items()
    ]
    after = sum(one > 0 for one in late_ms)
    report.add("withdrawals under load", len(withdrawn_ns), "people")
    report.add("events that arrived", arrived, "events")
    report.add("people of whom anything arrived after the 200", after, "people")
    report.add("last arrival after the 200, p50", quantile_of(late_ms, 0.50), "ms")
    p99_ms = quantile_of(late_ms, 0.99)
    report.add("last arrival after the 200, p99", p99_ms, "ms", goal=50, more=False)
    report.add("last arrival after the 200, worst", max(late_ms), "ms")
    return report


def _withdraw_under_load(daemon: Daemon, people: int, seconds: float) -> dict[int, int]:
    """Everybody's events flow all the time; one person after the other withdraws."""
    generator = Generator(daemon.address, CONNECTIONS)
    rate = EVENTS_PER_S / BATCH_EVENTS
    load = Thread(target=generator.open_loop, args=(_batches(people), rate, seconds))
    load.start()
    gap_s, withdrawn_ns = seconds * 0.8 / people, {}
    began_s = time.monotonic() + seconds * 0.1
    connection = http.client.HTTPConnection(*daemon.address)
    for person in range(people):
        time.sleep(max(0.0, began_s + person * gap_s - time.monotonic()))
        _withdraw(connection, person)
        withdrawn_ns[person] = time.monotonic_ns()
    connection.close()
    load.join()
    generator.close()
    return withdrawn_ns


def _withdraw(connection: http.client.HTTPConnection, person: int) -> None:
    body = json.dumps({"userId": _user(person), "purposes": {"analytics": False}})
    headers = {"Authorization": _AUTHORIZATION, "Content-Type": "application/json"}
    connection.request("POST", "/v1/consent", body, headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    response.read()


def _last_arrivals(receiver: Receiver, people: int) -> tuple[dict[int, int], int]:
    """When the last event of each person came, and how many came of all."""
    last_ns, arrived = {}, 0
    for request in receiver.received():
        for text in _IDS.findall(request.body):
            last_ns[int(text, 16) % people] = request.moment_ns
            arrived += 1
    return last_ns, arrived


def _user(person: int) -> str:
    return f"customer-{person}"


def _batches(people: int) -> Iterator[bytes]:
    """Requests of events of everybody in turn; the message id tells whose each is."""
    number = 1 << 40
    number -= number % people
    at = datetime.now(UTC).isoformat()
    while True:
        events = [
            {
                "type": "track",
                "event": "Page Scrolled",
                "messageId": f"{one:016x}",
                "userId": _user(one % people),
                "timestamp": at,
            }
            for one in range(number, number + BATCH_EVENTS)
        ]
        number += BATCH_EVENTS
        body = json.dumps({"batch": events}).encode()
        head = (
            "POST /v1/batch HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Authorization: {_AUTHORIZATION}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body
