"""The attempts of one destination that are under way, and calling them back.

A person who withdraws, or is erased, must not be on the way to a tool any longer. An attempt that
carries them is cancelled; what was with them in the batch is tried again, and the person is
refused at the gate. Whether the service had the batch already, nobody can know: that is written
down, not guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from cdp.delivery.attempt import Attempt, attempt, recalled

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from cdp.delivery.destination import Delivery, Destination
    from cdp.delivery.owed import Owed


class Recalled(NamedTuple):
    """What was in flight when a person withdrew: deliveries, by the offsets of their events."""

    destination: str
    event_offsets: Sequence[int]


class Flights:
    """What flies now. One flight is one attempt of one batch."""

    def __init__(self) -> None:
        self._flying: dict[int, tuple[list[Owed], trio.CancelScope]] = {}
        self._landed = trio.Event()
        self._number = 0

    async def fly(
        self,
        destination: Destination[Any],
        batch: list[Owed],
        deliveries: Sequence[Delivery],
        timeout_s: float,
    ) -> Attempt:
        """Makes an attempt. One that was called back has the cause `recalled`."""
        self._number += 1
        number = self._number
        result = recalled(deliveries)
        with trio.CancelScope() as scope:
            self._flying[number] = (batch, scope)
            try:
                result = await attempt(destination, deliveries, timeout_s)
            finally:
                del self._flying[number]
                landed, self._landed = self._landed, trio.Event()
                landed.set()
        return result

    def recall(self, nodes: Collection[bytes]) -> list[int]:
        """Calls back every attempt that carries one of these; the offsets of their events."""
        offsets: list[int] = []
        for batch, scope in self._flying.values():
            carried = [owed.cause_offset for owed in batch if carries(owed, nodes)]
            if carried:
                scope.cancel()
                offsets += carried
        return offsets

    async def landed(self, nodes: Collection[bytes]) -> None:
        """Returns when nothing about these people is under way."""
        while any(carries(o, nodes) for batch, _ in self._flying.values() for o in batch):
            await self._landed.wait()


def carries(owed: Owed, nodes: Collection[bytes]) -> bool:
    """Whether a delivery is about one of these: profile ids, or nodes of a person."""
    return owed.profile_id in nodes or owed.other_profile_id in nodes
