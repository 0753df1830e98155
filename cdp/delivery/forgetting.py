"""What erasures ask of one running destination: that nothing is owed, and that the service forgets.

The tasks of erasures come here beside the destination's own loop. They change what is owed only
between two waits, where it is consistent, and leave the writing to the loop: a commit that fails
must end the loop, since what it has in memory is then ahead of the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from cdp.delivery.destination import (
    Erased,
    ErasureAccepted,
    ErasureRetry,
    ErasureUnsupported,
)
from cdp.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from cdp.delivery.actor import Delivering
    from cdp.delivery.destination import Destination, ErasureOutcome


class Forgetting:
    """The erasures of one run of a destination's actor."""

    def __init__(self, delivering: Delivering) -> None:
        self._delivering = delivering
        self._turned = trio.Event()  # set when a turn of the loop has committed, or was the last
        self._turns = 0
        self._loops = False
        self._over = False
        self._broken: StorageError | None = None
        self.asking = 0  # calls to the destination under way; no tick may run beside them

    def begin_loop(self) -> None:
        """The loop begins, and commits from now on. Raises StorageError."""
        if self._broken is not None:
            raise self._broken
        self._loops = True

    def note_turn(self) -> None:
        """The loop has committed what was changed before."""
        self._turns += 1
        turned, self._turned = self._turned, trio.Event()
        turned.set()

    def end(self) -> None:
        """The run is over, however it ended."""
        self._over = True
        self._turned.set()

    async def purge(self, nodes: Collection[bytes]) -> tuple[int, bool]:
        """Ends what these people are owed: how many, and whether that was all of it.

        Not all where the run ended meanwhile. Nothing about them may pass the gate any more.
        """
        delivering = self._delivering
        delivering.flights.recall(nodes)
        count, after = 0, -1
        while not self._over:
            if delivering.is_landing(nodes):
                await self._turned.wait()
                continue
            ended = delivering.backlog.end_unfinished(nodes)
            dead, last = delivering.backlog.end_dead(nodes, after)
            if not await self._commit():
                break
            count += ended + dead
            if last is None:
                return count, True
            after = last
        return count, False

    async def _commit(self) -> bool:
        """Whether it came to that before the run ended."""
        if self._loops:
            before = self._turns
            self._delivering.wake()
            await self._turned.wait()
            return self._turns > before
        try:
            self._delivering.commit()
        except StorageError as error:
            self._broken = error
            raise
        await trio.lowlevel.checkpoint()
        return True

    async def ask(
        self,
        nodes: Collection[bytes],
        ask: Callable[[Destination[Any]], Awaitable[ErasureOutcome]],
    ) -> ErasureOutcome:
        """Asks the destination about an erasure, once nothing about the person is under way."""
        delivering = self._delivering
        while delivering.destination and (delivering.ticking or delivering.is_landing(nodes)):
            await self._turned.wait()
        if delivering.destination is None:
            return ErasureRetry("not_running")
        self.asking += 1
        try:
            with trio.fail_after(delivering.timeout_s):
                outcome = await ask(delivering.destination)
        except trio.TooSlowError:
            return ErasureRetry("timeout")
        except Exception as error:
            delivering.note("destination_erase_failed", error)
            return ErasureRetry(f"exception:{type(error).__name__}")
        finally:
            self.asking -= 1
            delivering.wake()
        if isinstance(outcome, (Erased, ErasureAccepted, ErasureRetry, ErasureUnsupported)):
            return outcome
        delivering.note("destination_broke_contract", "erase answered no outcome of an erasure")
        return ErasureRetry("broken_contract")
