"""What has to be thrown away, in time: log blocks and what hangs on them, rejected events, exports.

One sweep an interval, in steps that hold the event loop for a few milliseconds each. Nothing that a
reader still needs is cut: a log keeps what any cursor, waiting delivery or dead letter points at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from cdp.clock import DAY_US, SECOND_US, Clock
from cdp.delivery.backlog import reader_of
from cdp.delivery.jobs import replay_reader
from cdp.domain.change import decode_activation, decode_change
from cdp.domain.event import decode_event
from cdp.identity.actor import READER as IDENTITY
from cdp.ingestion.rejected import expire_rejected
from cdp.segmentation.actor import READER as SEGMENTATION
from cdp.storage.retention import (
    RetainedLog,
    Retention,
    RetentionLimits,
    forget_events,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from cdp.config import Config
    from cdp.delivery.control import Deliveries
    from cdp.ingestion.deduplication import MessageKeys
    from cdp.storage.log import Cursors, Log
    from cdp.storage.store import Batch, Store
    from cdp.telemetry import Journal, Metrics

_STEPS_MAX: Final = 10_000  # of one expiry in one sweep; what is left waits for the next


class Housekeeping:
    """Sweeps once an interval until told to stop."""

    def __init__(
        self,
        *,
        config: Config,
        clock: Clock,
        store: Store,
        logs: Mapping[str, Log],
        cursors: Cursors,
        deliveries: Deliveries,
        message_keys: MessageKeys,
        metrics: Metrics,
        expire_exports: Callable[[], Awaitable[int]],
        journal: Journal,
    ) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._logs = logs
        self._cursors = cursors
        self._deliveries = deliveries
        self._keys = message_keys
        self._expire_exports = expire_exports
        self._journal = journal
        self._truncated = metrics.counter("cdp_retention_records_total")
        self._retention = Retention(store, self._retained(), _limits(config))

    async def run(self, stopping: trio.Event) -> None:
        """Sweeps until `stopping` is set."""
        while not stopping.is_set():
            with trio.move_on_after(self._config.retention.interval_s):
                await stopping.wait()
            if not stopping.is_set():
                await self.sweep()

    async def sweep(self) -> None:
        """Throws away everything that is due now."""
        now_us = self._clock.now_us()
        self._truncated.add(await self._retention.sweep(now_us))
        rejected_days = self._config.retention.rejected_age_days_max
        await self._until_none(
            lambda batch: expire_rejected(self._store, batch, now_us, rejected_days)
        )
        try:
            await self._expire_exports()
        except OSError as error:  # the next sweep tries again; the rest must not wait for it
            self._journal.error("exports_not_expired", error=error)

    async def _until_none(self, expire: Callable[[Batch], int]) -> None:
        for _ in range(_STEPS_MAX):
            batch = self._store.batch()
            if expire(batch) == 0:
                return
            self._store.write(batch)
            await trio.lowlevel.checkpoint()

    def _retained(self) -> Sequence[RetainedLog]:
        logs = self._logs
        return [
            RetainedLog(
                logs["events"],
                self._events_needed_from,
                forget_events(self._store, self._message_keys),
            ),
            RetainedLog(logs["changes"], lambda: self._cursors.get(SEGMENTATION)),
            RetainedLog(logs["activations"], self._activations_needed_from),
        ]

    def _message_keys(self, records: Sequence[bytes]) -> list[bytes]:
        return [self._keys.of(decode_event(record).message_id) for record in records]

    def _events_needed_from(self) -> int:
        """The first event that anything after ingestion still has to read."""
        needed = [self._cursors.get(IDENTITY), *self._causes_of_what_waits()]
        owed = self._deliveries.oldest_event_needed()
        return min(needed if owed is None else [*needed, owed])

    def _causes_of_what_waits(self) -> list[int]:
        """The events behind the first change and the first activation that are still unread."""
        changes = self._logs["changes"].read(self._cursors.get(SEGMENTATION), 1)
        activations = self._logs["activations"].read(self._activations_needed_from(), 1)
        return [decode_change(entry.record).cause_offset for entry in changes[:1]] + [
            decode_activation(entry.record).cause_offset for entry in activations[:1]
        ]

    def _activations_needed_from(self) -> int:
        """The lowest cursor of any destination, or the head where there is none."""
        saved = self._cursors.all()
        readers = [reader_of(name) for name in self._config.destinations]
        readers += [replay_reader(name) for name in self._config.destinations]
        places = [saved[reader] for reader in readers if reader in saved]
        return min(places, default=self._logs["activations"].published)


def _limits(config: Config) -> RetentionLimits:
    retention = config.retention
    return RetentionLimits(
        age_us_max=int(retention.age_days_max * DAY_US),
        bytes_max=retention.log_bytes_max,
        age_us_min=config.limits.deduplication_window_s * SECOND_US,
    )
