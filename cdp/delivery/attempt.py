"""One try of one batch: from the destination's answer, or the lack of one, to an outcome for each.

An exception, an answer of the wrong length and silence are failed attempts of every delivery in
the batch. None of them says that the service did nothing: the delivery is tried again under the
same delivery id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import httpx
import trio

from cdp.delivery.destination import Delivered, Rejected, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.delivery.destination import Delivery, Destination, Outcome

Cause = Literal["answered", "unavailable", "timeout", "crashed", "broken_contract", "recalled"]


class Attempt(NamedTuple):
    """What came of a batch: one outcome a delivery, and what it says about the service."""

    outcomes: Sequence[Outcome]
    cause: Cause
    error: Exception | None = None

    @property
    def alive(self) -> bool:
        """Whether the service did something with the batch, be it refuse it."""
        answered = self.cause == "answered"
        return answered and any(not isinstance(one, Retry) for one in self.outcomes)

    @property
    def suspect(self) -> bool:
        """Whether one delivery of the batch may have spoilt it for the others."""
        return self.cause in ("crashed", "broken_contract")


async def attempt(
    destination: Destination[Any], batch: Sequence[Delivery], timeout_s: float
) -> Attempt:
    """Hands a batch to a destination. Never raises but for cancellation."""
    try:
        with trio.move_on_after(timeout_s) as scope:
            return judged(await destination.deliver(batch), len(batch))
    except Exception as error:
        name = type(error).__name__
        down = isinstance(error, (httpx.TransportError, OSError, trio.TooSlowError))
        return _failed(batch, "unavailable" if down else "crashed", f"exception:{name}", error)
    assert scope.cancelled_caught, "without an answer only by the deadline"
    return _failed(batch, "timeout", "timeout", None)


def recalled(batch: Sequence[Delivery]) -> Attempt:
    """What comes of a batch that was called back. Whether the service has it, nobody knows."""
    return _failed(batch, "recalled", "recalled", None)


def judged(answer: object, count: int) -> Attempt:
    """What a destination returned, or a failed attempt where it breaks the contract."""
    outcomes = answer if isinstance(answer, (list, tuple)) else ()
    kinds = (Delivered, Retry, Rejected)
    if len(outcomes) == count and all(isinstance(one, kinds) for one in outcomes):
        return Attempt(outcomes, "answered")
    return Attempt([Retry("broken_contract")] * count, "broken_contract")


def _failed(
    batch: Sequence[Delivery], cause: Cause, reason: str, error: Exception | None
) -> Attempt:
    return Attempt([Retry(reason)] * len(batch), cause, error)
