"""What consent, sealing and audit cost an event, part by part, in batches of known people.

Estimate. The stamp: reading the preferences and what the sender is worth, 1 us. The statement and
whose it is: names 0.3 us, nodes 0.2 us, joining the two 0.4 us. The ledger, where nothing new is
said: a look-up for each of two identifiers, 0.3 us. Sealing and opening the event 0.7 us each, the
profile's fragment the same again. The gate, when a delivery is offered and before its attempt: 1.1
us each. The audit log records decisions of people, not events: nothing. Together 7.5 us.
"""

from __future__ import annotations

import gc
import os
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec

from bench.events import stored_events
from bench.report import Options, Report
from cdp._matcher import Resolver
from cdp.app import Daemon, identity_key, open_daemon, rules_json
from cdp.config import load
from cdp.delivery.gate import Gate
from cdp.delivery.owed import Owed
from cdp.domain.change import RESOLVED
from cdp.domain.event import encode_event
from cdp.domain.naming import named_in_event
from cdp.identity.facts import decode_facts
from cdp.identity.identifiers import observation
from cdp.ingestion.authentication import KnownSource
from cdp.ingestion.hearing import hear, statements_in
from cdp.ingestion.submission import Submission
from cdp.storage.codec import SealedCodec
from cdp.system import real_environment
from tests.crash.daemon import ENVIRON, Settings
from tests.crash.daemon import Daemon as Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp.domain.event import Event
    from cdp.ingestion.stamp import Sender

CHUNK = 100
CHUNKS = 400
PEOPLE = 10_000
FRAGMENT_BYTES = 300
GOAL_US = 10.0


def run(options: Options) -> Report:
    """Microseconds an event of each part, and of all together."""
    report = Report()
    events = stored_events(options.scaled(CHUNKS, 8) * CHUNK, options.scaled(PEOPLE, 100))
    with TemporaryDirectory(prefix="cdp-bench-") as scratch:
        config = load(Process(Path(scratch) / "daemon", Settings()).config, ENVIRON.get)
        config.data_dir.mkdir(parents=True)
        with open_daemon(config, real_environment(config)) as daemon:
            parts = _measure(daemon, events)
    for name, spent_us in parts.items():
        report.add(name, spent_us, "us")
    report.add("together", sum(parts.values()), "us", goal=GOAL_US, more=False)
    return report


def _measure(daemon: Daemon, events: list[Event]) -> dict[str, float]:
    """Runs every part over all events, a chunk at a time; the second pass counts."""
    resolver = Resolver(identity_key(daemon.config), rules_json(daemon.config.identity))
    daemon.identity.resolver = resolver
    gc.collect()
    gc.disable()
    try:
        chunks = [events[first : first + CHUNK] for first in range(0, len(events), CHUNK)]
        _Parts(daemon, resolver).run(chunks)
        measured = _Parts(daemon, resolver)
        measured.run(chunks)
    finally:
        gc.enable()
    return {name: spent / len(events) * 1e6 for name, spent in measured.spent_s.items()}


class _Parts:
    """One pass. Everything that a part needs of another is made outside of its time."""

    def __init__(self, daemon: Daemon, resolver: Resolver) -> None:
        governance = daemon.governance
        self.spent_s: dict[str, float] = {}
        self._governance = governance
        self._store = daemon.store
        self._resolver = resolver
        self._codec = SealedCodec(governance.vault, "bench")
        known = KnownSource("shop", daemon.config.sources["shop"])
        self._sender: Sender = governance.stamper.sender(
            known, gpc=False, origin=None, address=None, kept_address=None, agent=None
        )
        self._gate = Gate(
            names=("hook", "webhook"),
            use=governance.rules.use(frozenset({"analytics"})),
            receives=frozenset({"event"}),
            event_types=(),
            standings=governance.standings,
            now_us=daemon.environment.clock.now_us,
        )

    def run(self, chunks: list[list[Event]]) -> None:
        """Every part of every chunk."""
        for number, chunk in enumerate(chunks):
            self._chunk(number * CHUNK, chunk)

    def _chunk(self, first: int, chunk: list[Event]) -> None:
        vault, ledger = self._governance.vault, self._governance.ledger
        stamps = self._timed("stamp", lambda: [self._sender.stamp_of(one.context) for one in chunk])
        pairs = zip(chunk, stamps, strict=True)
        events = [msgspec.structs.replace(one, stamp=stamp) for one, stamp in pairs]
        submission = self._timed("statements, names and nodes", partial(self._heard, events))
        batch = self._store.batch()

        def note() -> None:
            for one in submission.said:
                said_at_us = (one.at_us, one.received_at_us)
                ledger.note(batch, one.nodes, one.statement, said_at_us, verified=one.verified)

        self._timed("ledger", note)
        records, leaves = [encode_event(one) for one in events], [n[0] for n in submission.nodes]
        seal_events: Callable[[], list[bytes]] = partial(
            self._codec.seal, batch, first, records, leaves
        )
        sealed = self._timed("sealing events", seal_events)
        self._timed("opening events", partial(self._codec.open, first, sealed))
        fragments = [os.urandom(FRAGMENT_BYTES)] * len(leaves)
        seal_rows = partial(self._seal_rows, batch, leaves, fragments)
        rows = self._timed("sealing profiles", seal_rows)
        self._timed("opening profiles", lambda: vault.open(rows, leaves))
        self._store.write(batch)
        seen = [observation(decode_facts(record)) for record in records]
        resolved = self._resolver.resolve(seen).events
        owed = [
            Owed(first + place, RESOLVED, first + place, one[1], b"", one[0], event)
            for place, (one, event) in enumerate(zip(resolved, events, strict=True))
        ]
        for ask in ("gate, when offered", "gate, before the attempt"):
            self._timed(ask, lambda: [self._gate.refusal(one) for one in owed])

    def _heard(self, events: list[Event]) -> Submission:
        submission = Submission("shop", events[0].received_at_us)
        said = [
            one
            for place, event in enumerate(events)
            for one in statements_in(event, self._sender, place)
        ]
        named = [named_in_event(event) for event in events]
        hear(submission, named, said, self._governance.namer)
        return submission

    def _seal_rows(self, batch: Any, leaves: list[bytes], rows: list[bytes]) -> list[bytes]:
        vault = self._governance.vault
        return vault.seal(vault.slots(batch, leaves), rows, leaves)

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        began_s = time.thread_time()
        done = work()
        self.spent_s[name] = self.spent_s.get(name, 0.0) + time.thread_time() - began_s
        return done
