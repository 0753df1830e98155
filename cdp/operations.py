"""What an operator can ask of the running daemon, and order: the control plane's surface.

Joins what the subsystems offer into plain JSON values. It holds no state of its own but the
samples from which it tells rates.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from cdp.clock import isoformat
from cdp.console.surface import Listing, NotFound, Refused
from cdp.delivery.control import DestinationUnknown, ReplayRefused
from cdp.delivery.jobs import DeadLetterFilter
from cdp.delivery.outcomes import explain_event
from cdp.errors import StorageError
from cdp.identity.actor import READER as IDENTITY
from cdp.identity.history import History
from cdp.identity.profiles import Profiles
from cdp.identity.why import Why
from cdp.ingestion.accounts import read_counts
from cdp.ingestion.deduplication import offset_in
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.rejected import count_rejected, list_rejected, resubmit
from cdp.segmentation.actor import READER as SEGMENTATION
from cdp.storage.backup import back_up

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cdp.config import Config
    from cdp.delivery.control import Deliveries, DestinationStatus
    from cdp.delivery.ledger import Counts
    from cdp.environment import Environment
    from cdp.governance import Governance
    from cdp.identity.actor import IdentityActor
    from cdp.ingestion import Intake
    from cdp.ingestion.rejected import Listed
    from cdp.storage.log import Cursors, Log
    from cdp.storage.store import Store
    from cdp.telemetry import Metrics

Json = dict[str, Any]

RATE_WINDOW_S: Final = 10.0
RATE_SAMPLES_MAX: Final = 64


class Operations:
    """The daemon, as the control plane sees it (`cdp.console.surface.ControlSurface`)."""

    def __init__(
        self,
        *,
        config: Config,
        environment: Environment,
        store: Store,
        logs: Mapping[str, Log],
        cursors: Cursors,
        metrics: Metrics,
        intake: Intake,
        identity: IdentityActor,
        deliveries: Deliveries,
        governance: Governance,
        key: bytes,
    ) -> None:
        self._config = config
        self._environment = environment
        self._store = store
        self._logs = logs
        self._cursors = cursors
        self._metrics = metrics
        self._intake = intake
        self._identity = identity
        self._deliveries = deliveries
        self._governance = governance
        self._rates = Rates()
        vault = governance.vault
        self.profiles = Profiles(store, lambda: identity.resolver, key=key, vault=vault)
        self.history = History(store, logs["events"], self.profiles)
        self.why = Why(logs["events"], logs["changes"], self.profiles, self._became)
        for name, log in logs.items():
            metrics.gauge("cdp_log_head_offset", partial(getattr, log, "head"), log=name)
        for reader in (IDENTITY, SEGMENTATION):
            metrics.gauge("cdp_fold_lag_events", partial(self._lag, reader), fold=reader)

    # -- asking ---------------------------------------------------------------------------------

    def waits_for(self) -> Sequence[str]:
        """What is not ready yet."""
        return [] if self._identity.resolver is not None else ["the identity graph is being loaded"]

    def metrics(self) -> str:
        """Every metric, in the text format of Prometheus."""
        return self._metrics.exposition()

    def status(self) -> Json:
        """Rates, lags, and the conservation law of each source and destination."""
        sources = {name: self._source(name) for name in self._config.sources}
        destinations = {one.name: _destination(one) for one in self._deliveries.status()}
        accepted = sum(source["accepted"] for source in sources.values())
        totals = {"accepted": accepted, "resolved": self._cursors.get(IDENTITY)}
        totals |= {f"delivered:{n}": d["delivered"] for n, d in destinations.items()}
        resolver = self._identity.resolver
        return {
            "sources": sources,
            "rejected_waiting": count_rejected(self._store),
            "logs": {name: self._log(log) for name, log in self._logs.items()},
            "folds": {name: self._fold(name) for name in (IDENTITY, SEGMENTATION)},
            "identity": dict(resolver.statistics()) if resolver is not None else None,
            "destinations": destinations,
            "rates_per_s": self._rates.per_s(totals, trio.current_time()),
            "store_bytes": self._store.size_bytes(),
            "keys": self._governance.vault.statistics(),
            "audit": self._governance.checkpoints.status(),
            "time": isoformat(self._environment.clock.now_us()),
        }

    def offset_of(self, message_id: str) -> int | None:
        """The place of an event in the event log, by its sender's id."""
        row = self._store.get("seen", self._intake.keys.of(message_id))
        return None if row is None else offset_in(row)

    def rejected_events(self, after: str | None, limit: int) -> Listing:
        """Events that were refused, newest first."""
        vault = self._governance.vault
        rows = list_rejected(self._store, limit=limit, before=after, vault=vault)
        return Listing([_rejected(row) for row in rows], _next(rows, limit))

    def dead_letters(self, destination: str | None, after: str | None, limit: int) -> Listing:
        """Deliveries that were given up, in log order, one destination after the other."""
        names = [destination] if destination is not None else self._deliveries.names
        skip_to, after_offset = _place(after)
        items: list[Json] = []
        for name in names:
            if skip_to is not None and name != skip_to and not items:
                continue
            start = after_offset if name == skip_to else -1
            items += self._dead_letters_of(name, start, limit - len(items))
            skip_to = None
            if len(items) == limit:
                return Listing(items, items[-1]["id"])
        return Listing(items, None)

    # -- ordering -------------------------------------------------------------------------------

    async def resubmit(self, rejected_id: str, event: Json | None) -> Json:
        """Sends a rejected event again, as it was or as corrected."""
        try:
            done = await resubmit(
                store=self._store,
                intake=self._intake,
                limits=self._config.limits,
                new_id=self._environment.new_id,
                row_id=rejected_id,
                stamper=self._governance.stamper,
                body=None if event is None else msgspec.json.encode(event),
            )
        except KeyError:
            raise NotFound(f"no rejected event {rejected_id!r}") from None
        except Rejection as rejection:
            raise Refused(f"{rejection.code}: {rejection.message}") from rejection
        if done.suppressed:
            return {"outcome": "suppressed"}
        return {"outcome": "duplicate" if done.duplicate else "accepted"}

    async def redrive(
        self, destination: str, ids: Sequence[str] | None, reason: str | None
    ) -> Json:
        """Sends dead letters again: all, or those of `ids`, or with a text in their reason."""
        offsets = None if ids is None else frozenset(_place(one)[1] for one in ids)
        which = DeadLetterFilter(offsets=offsets, reason=reason)
        try:
            count = await self._deliveries.redrive(destination, which)
        except DestinationUnknown as error:
            raise NotFound(str(error)) from error
        return {"destination": destination, "count": count}

    async def replay(
        self, destination: str, *, from_offset: int | None, from_time_us: int | None
    ) -> Json:
        """Offers a destination what it was offered since then again."""
        try:
            start = from_offset
            if from_time_us is not None:
                start = self._deliveries.offset_at(destination, from_time_us)
            progress = self._deliveries.replay(destination, start=start or 0)
        except DestinationUnknown as error:
            raise NotFound(str(error)) from error
        except ReplayRefused as error:
            raise Refused(str(error)) from error
        return {"destination": destination, **msgspec.to_builtins(progress)}

    async def backup(self, directory: Path) -> Json:
        """Copies the store, which goes on, without the keys."""
        try:
            made = await back_up(self._store, directory, self._environment.run_in_thread)
        except StorageError as error:
            raise Refused(str(error)) from error
        return {"directory": str(made.path), "files": made.files, "bytes": made.size_bytes}

    # -- inside ---------------------------------------------------------------------------------

    def _became(self, offset: int) -> Sequence[Any]:
        return explain_event(self._store, offset)

    def _source(self, name: str) -> Json:
        tally = read_counts(self._store, name)
        return {**msgspec.to_builtins(tally), "sent": tally.sent}

    def _log(self, log: Log) -> Json:
        return {"start": log.start, "head": log.head, "bytes": log.stored_bytes()}

    def _fold(self, reader: str) -> Json:
        return {"cursor": self._cursors.get(reader), "lag": self._lag(reader)}

    def _lag(self, reader: str) -> int:
        log = self._logs["events" if reader == IDENTITY else "changes"]
        return max(0, log.published - max(log.start, self._cursors.get(reader)))

    def _dead_letters_of(self, name: str, after: int, limit: int) -> list[Json]:
        try:
            letters = self._deliveries.dead_letters(name, after=after, limit=limit)
        except DestinationUnknown as error:
            raise NotFound(str(error)) from error
        return [_dead_letter(name, letter) for letter in letters]


class Rates:
    """How fast totals rise, over about the last ten seconds in which somebody asked."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque(maxlen=RATE_SAMPLES_MAX)

    def per_s(self, totals: dict[str, int], now_s: float) -> dict[str, float]:
        """The rate of each total; empty on the first call."""
        self._samples.append((now_s, totals))
        while len(self._samples) > 2 and self._samples[1][0] < now_s - RATE_WINDOW_S:
            self._samples.popleft()
        began_s, before = self._samples[0]
        elapsed_s = now_s - began_s
        if elapsed_s <= 0:
            return {}
        return {
            name: round((total - before.get(name, 0)) / elapsed_s, 1)
            for name, total in totals.items()
        }


def _destination(status: DestinationStatus) -> Json:
    return {
        "type": status.type,
        "state": status.state,
        **_counts(status.live),
        "lag": status.lag,
        "in_flight": status.in_flight,
        "last_error": status.last_error,
        "replay": _counts(status.replay),
        "replaying": msgspec.to_builtins(status.replaying),
        "redriving": status.redriving is not None,
    }


def _counts(counts: Counts) -> Json:
    return {
        "offered": counts.offered,
        "delivered": counts.delivered,
        "filtered": dict(counts.filtered),
        "pending": counts.pending,
        "dead": counts.dead,
        "conserved": counts.holds(),
    }


def _rejected(row: Listed) -> Json:
    event = row.event
    return {
        "id": row.id,
        "source": event.source,
        "received_at": isoformat(event.received_at_us),
        "message_id": event.message_id,
        "code": event.code,
        "message": event.message,
        "path": event.path,
        "index": event.index,
        "truncated": event.truncated,
        "body": event.body.decode("utf-8", "replace"),
    }


def _dead_letter(name: str, letter: Any) -> Json:
    return {
        "id": f"{name}:{letter.activation_offset}",
        "destination": name,
        "kind": letter.kind,
        "event_offset": letter.event_offset,
        "profile_id": letter.profile_id or None,
        "attempts": letter.attempts,
        "first_attempt_at": isoformat(letter.first_attempt_us),
        "died_at": isoformat(letter.died_at_us),
        "reason": letter.reason,
    }


def _next(rows: Sequence[Listed], limit: int) -> str | None:
    return rows[-1].id if len(rows) == limit else None


def _place(dead_letter_id: str | None) -> tuple[str | None, int]:
    """The destination and activation offset of a dead letter's id."""
    if dead_letter_id is None:
        return None, -1
    name, _, offset = dead_letter_id.rpartition(":")
    if not name or not offset.isdecimal():
        raise Refused(f"{dead_letter_id!r} is not the id of a dead letter, such as crm:17")
    return name, int(offset)
