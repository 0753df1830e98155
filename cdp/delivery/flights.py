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


class Flight:
    """One attempt of one batch, from the moment that it was decided."""

    __slots__ = ("batch", "scope")

    def __init__(self, batch: list[Owed]) -> None:
        self.batch = batch
        self.scope = trio.CancelScope()


class Flights:
    """What flies now."""

    def __init__(self) -> None:
        self._flying: set[Flight] = set()

    def start(self, batch: list[Owed]) -> Flight:
        """Registers an attempt that is about to be made, so that it can be called back."""
        flight = Flight(batch)
        self._flying.add(flight)
        return flight

    async def fly(
        self,
        flight: Flight,
        destination: Destination[Any],
        deliveries: Sequence[Delivery],
        timeout_s: float,
    ) -> Attempt:
        """Makes an attempt. One that was called back has the cause `recalled`."""
        result = recalled(deliveries)
        try:
            # A destination runs up to its first wait even in a scope that is cancelled.
            if not flight.scope.cancel_called:
                with flight.scope:
                    result = await attempt(destination, deliveries, timeout_s)
        finally:
            self._flying.remove(flight)
        return result

    def recall(self, nodes: Collection[bytes]) -> list[int]:
        """Calls back every attempt that carries one of these; the offsets of their events."""
        offsets: list[int] = []
        for flight in self._flying:
            carried = [owed.cause_offset for owed in flight.batch if carries(owed, nodes)]
            if carried:
                flight.scope.cancel()
                offsets += carried
        return offsets

    def carry(self, nodes: Collection[bytes]) -> bool:
        """Whether anything about these people is under way."""
        return any(carries(owed, nodes) for one in self._flying for owed in one.batch)


def carries(owed: Owed, nodes: Collection[bytes]) -> bool:
    """Whether a delivery is about one of these: profile ids, or nodes of a person."""
    return owed.profile_id in nodes or owed.leaf in nodes or owed.other_profile_id in nodes
