"""Slots made ahead, so that a new person's first event does not wait for a second disk.

A slot may be handed out once its key is durable. The pool keeps some that are: `keep` makes more
in a worker thread when half of them are used, twice as many where the last ones went fast. An empty
pool makes some at once, on the event loop: right before fast. What an earlier run made and did not
hand out stays unused: nobody knows whether it was, and one slot must never be two people's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from cdp._matcher import Sealer
    from cdp.environment import RunInThread
    from cdp.storage.keyfile import KeyFile

POOL_MIN: Final = 1_024
POOL_MAX: Final = 65_536
FAST_S: Final = 10.0  # half a pool that is used up faster was too small
SLOW_S: Final = 600.0  # and one that lasts longer is larger than it need be


class SlotPool:
    """Numbers of slots that are in the key file, and nobody's yet. Used by the event loop."""

    def __init__(self, keys: KeyFile, sealer: Sealer) -> None:
        self._keys = keys
        self._sealer = sealer
        self._runs: deque[range] = deque()
        self._size = POOL_MIN
        self._left = 0
        self._low = trio.Event()

    def __len__(self) -> int:
        return self._left

    def take(self) -> int:
        """The number of a slot that was nobody's. Raises StorageError where none can be made."""
        if not self._runs:
            self._add(self._make(self._keys.reserve(POOL_MIN), POOL_MIN))
        run = self._runs.popleft()
        if len(run) > 1:
            self._runs.appendleft(run[1:])
        self._left -= 1
        if 2 * self._left <= self._size:
            self._low.set()
        return run[0]

    async def keep(self, stopping: trio.Event, run_in_thread: RunInThread) -> None:
        """Keeps the pool filled until `stopping`."""
        filled_s = float("-inf")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at, stopping, nursery.cancel_scope)
            while True:
                if 2 * self._left > self._size:
                    self._low = trio.Event()
                    await self._low.wait()
                    self._resize(trio.current_time() - filled_s)
                count = self._size - self._left
                first = self._keys.reserve(count)
                self._add(await run_in_thread(self._make, first, count))
                filled_s = trio.current_time()

    def _resize(self, lasted_s: float) -> None:
        if lasted_s < FAST_S:
            self._size = min(2 * self._size, POOL_MAX)
        elif lasted_s > SLOW_S:
            self._size = max(self._size // 2, POOL_MIN)

    def _make(self, first: int, count: int) -> range:
        """Makes slots durable; in whatever thread it is called."""
        made = range(first, first + count)
        try:
            self._keys.write(first, self._sealer.make_slots(first, count))
        except BaseException:
            self._sealer.forget(made)
            raise
        return made

    def _add(self, made: range) -> None:
        self._runs.append(made)
        self._left += len(made)


async def _cancel_at(stopping: trio.Event, scope: trio.CancelScope) -> None:
    await stopping.wait()
    scope.cancel()
