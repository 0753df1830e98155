"""The loop of every fold: read a log from a cursor, change state, move the cursor, in one batch.

A crash anywhere loses nothing and repeats nothing: the cursor moves only with its effects. One
event loop carries ingestion and all folds, so a fold does not hold it for longer than about
`Pace.hold_s_max` (it takes fewer entries a step where steps are slow) and, while ingestion is
busy, all folds that share a `Pace` together take at most a configured share of the loop.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Entry, Log
    from cdp.storage.store import Batch, Store

SHARE_MAX: Final = 0.1
HOLD_S_MAX: Final = 0.005
GATHER_S: Final = 0.01
_FIRST_STEP_ENTRIES: Final = 64


class Publishes(Protocol):
    """What is told once a batch is written: a log, mostly."""

    @property
    def publish(self) -> Callable[[], None]: ...


def _never() -> bool:
    return False


class Pace:
    """How folds give way to ingestion. Shared by all folds of a loop.

    After a step that took d seconds while `busy()`, no fold runs for d * (1 / share - 1) seconds.
    """

    def __init__(
        self,
        *,
        busy: Callable[[], bool] = _never,
        share_max: float = SHARE_MAX,
        hold_s_max: float = HOLD_S_MAX,
    ) -> None:
        assert 0 < share_max <= 1, "folds must get some of the loop, and cannot get more than all"
        self.hold_s_max = hold_s_max
        self._busy = busy
        self._rest_per_s = 1 / share_max - 1
        self._free_at_s = 0.0

    async def turn(self) -> None:
        """Returns when a step may run. Always lets other tasks run first."""
        await trio.lowlevel.checkpoint()
        # Not an event: another fold may have taken the turn while this one slept.
        while self._busy() and trio.current_time() < self._free_at_s:  # noqa: ASYNC110
            # In short steps: the loop may come to rest long before.
            await trio.sleep(min(self.hold_s_max, self._free_at_s - trio.current_time()))

    def took(self, duration_s: float) -> None:
        """Notes a step, so that the others wait for it too."""
        if self._busy():
            now_s = trio.current_time()
            self._free_at_s = max(now_s, self._free_at_s) + duration_s * self._rest_per_s

    def next_entries(self, entries: int, taken: int, duration_s: float, entries_max: int) -> int:
        """How many entries the next step may take, after one with `taken` of at most `entries`."""
        if duration_s > self.hold_s_max:
            return max(1, int(taken * self.hold_s_max / duration_s * 0.8))
        if duration_s < self.hold_s_max / 2 and taken >= entries:
            return min(entries_max, entries * 2)
        return entries


async def run_fold(
    *,
    store: Store,
    log: Log,
    cursors: Cursors,
    reader: str,
    step: Callable[[Batch, list[Entry]], None],
    publishes: Sequence[Publishes],
    stopping: trio.Event,
    batch_max: int,
    pace: Pace | None = None,
) -> None:
    """Folds `log` from the cursor `reader` until `stopping` is set, then returns between batches.

    `step` changes state into the batch; it must not await, and it gets at most `batch_max`
    entries. What it appended to the logs in `publishes` is published once the batch is written.
    What `step` and the store raise escapes with nothing of the batch applied.
    """
    pace = pace or Pace()
    offset = cursors.get(reader)
    entries_max = min(batch_max, _FIRST_STEP_ENTRIES)
    began_s = -math.inf
    while await wait_for_entries(log, offset, stopping):
        if log.published - offset < batch_max:
            # A step of fifty entries costs twice as much an entry as one of two hundred. So one
            # that would be small waits a moment after the one before; a lone entry does not.
            await trio.sleep(max(0.0, began_s + GATHER_S - trio.current_time()))
        entries = log.read(offset, batch_max)
        taken_count = 0
        while taken_count < len(entries):
            await pace.turn()
            if stopping.is_set():
                return
            began_s = trio.current_time()
            taken = entries[taken_count : taken_count + entries_max]
            offset = taken[-1].offset + 1
            _commit(store, cursors, reader, step, taken)
            for output in publishes:
                output.publish()
            taken_count += len(taken)
            duration_s = trio.current_time() - began_s
            pace.took(duration_s)
            entries_max = pace.next_entries(entries_max, len(taken), duration_s, batch_max)


async def wait_for_entries(log: Log, offset: int, stopping: trio.Event) -> bool:
    """Waits for a published record at or after `offset`; False as soon as `stopping` is set."""
    if stopping.is_set():
        return False
    if log.published > offset:
        return True

    async def cancel_on_stop(scope: trio.CancelScope) -> None:
        await stopping.wait()
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_on_stop, nursery.cancel_scope)
        await log.wait(offset)
        nursery.cancel_scope.cancel()
    return not stopping.is_set()


def _commit(
    store: Store,
    cursors: Cursors,
    reader: str,
    step: Callable[[Batch, list[Entry]], None],
    entries: list[Entry],
) -> None:
    batch = store.batch()
    step(batch, entries)
    cursors.set(batch, reader, entries[-1].offset + 1)
    store.write(batch)
