"""One sweep reaches everything that is kept for a time, whatever one part of it does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cdp.config import Limits, Retention
from cdp.housekeeping import Housekeeping
from cdp.storage.cursors import Cursors
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal, Metrics

NOW_US = 1_795_000_000_000_000
CONFIG = SimpleNamespace(limits=Limits(), retention=Retention(), destinations={})


class Clock:
    def now_us(self) -> int:
        return NOW_US


class House:
    """A daemon's housekeeping over an empty store."""

    def __init__(self, expire_exports) -> None:
        store = MemoryStore()
        self.journal: list[str] = []
        self.keeping = Housekeeping(
            config=CONFIG,  # type: ignore[arg-type]
            clock=Clock(),
            store=store,
            logs={name: Log(store, name) for name in ("events", "changes", "activations")},
            cursors=Cursors(store),
            deliveries=SimpleNamespace(oldest_event_needed=lambda: None),  # type: ignore[arg-type]
            message_keys=None,  # type: ignore[arg-type]  # nothing is cut here
            metrics=Metrics(),
            expire_exports=expire_exports,
            journal=Journal(Clock(), self.journal.append),
        )


async def test_documents_that_were_made_for_people_go_with_the_sweep(autojump_clock):
    swept = []

    async def expire() -> int:
        swept.append(NOW_US)
        return 1

    await House(expire).keeping.sweep()
    assert swept == [NOW_US]


@pytest.mark.parametrize("sweeps", [1, 2])
async def test_a_directory_that_cannot_be_read_is_told_of_and_tried_again(autojump_clock, sweeps):
    async def expire() -> int:
        raise PermissionError("exports")

    house = House(expire)
    for _ in range(sweeps):
        await house.keeping.sweep()
    assert len(house.journal) == sweeps
    assert "exports_not_expired" in house.journal[0]
