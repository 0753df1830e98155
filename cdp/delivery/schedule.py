"""When a destination is tried, and when not: back-off, Retry-After, circuit, rate. All of it pure.

Times named `now_s` are monotonic (`trio.current_time()`); only the HTTP-date form of Retry-After
needs a wall clock. Nothing here sleeps, draws or reads a clock by itself.
"""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal

from cdp.clock import SECOND_US, from_datetime

if TYPE_CHECKING:
    from random import Random

__all__ = ["Circuit", "TokenBucket", "backoff_s", "retry_after_s", "wait_s"]

_DOUBLINGS_MAX: Final = 60  # beyond it a float would overflow, and the ceiling decides anyway


def backoff_s(attempts: int, *, s_min: float, s_max: float, rng: Random) -> float:
    """The wait after the n-th failed attempt: full jitter under a doubling ceiling.

    Uniform over the whole range, not around its middle: after an outage the retries of many
    deliveries then spread evenly instead of coming back as one wave.
    """
    assert attempts >= 1, "back-off follows an attempt"
    ceiling_s = min(s_max, s_min * 2.0 ** min(attempts - 1, _DOUBLINGS_MAX))
    return rng.uniform(0.0, ceiling_s)


def wait_s(backoff: float, after_s: float | None, left_s: float) -> float:
    """The longer of our back-off and what the service asked for, but never past the window.

    So a service that asks for more than is left gets one last attempt at the end of the window.
    """
    asked_s = 0.0 if after_s is None or math.isnan(after_s) else after_s
    return min(max(backoff, asked_s), left_s)


def retry_after_s(value: str | None, now_us: int) -> float | None:
    """Seconds that a Retry-After header asks for, in either form; None where it says nothing."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        due_us = from_datetime(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, (due_us - now_us) / SECOND_US)


class TokenBucket:
    """At most `per_s` takes a second over any longer time, and `burst` at once."""

    def __init__(self, per_s: float, *, burst: float | None = None, now_s: float) -> None:
        assert per_s > 0, "a rate of nothing is a pause, not a rate"
        self.per_s = per_s
        self.burst = max(1.0, per_s / 10) if burst is None else burst
        self._tokens = self.burst
        self._at_s = now_s

    def available(self, now_s: float) -> float:
        """How many could be taken now."""
        if math.isinf(self.per_s):
            return math.inf
        earned = max(0.0, now_s - self._at_s) * self.per_s
        self._tokens = min(self.burst, self._tokens + earned)
        self._at_s = max(self._at_s, now_s)
        return self._tokens

    def take(self, now_s: float, count: float = 1.0) -> bool:
        """Takes that many if they are there, and tells whether they were."""
        # A hair of tolerance: the wake-up that `ready_at` asked for may round to just before it.
        if self.available(now_s) < count - 1e-6:
            return False
        self._tokens -= count
        return True

    def ready_at(self, now_s: float, count: float = 1.0) -> float:
        """When that many will be there."""
        missing = count - self.available(now_s)
        return now_s if missing <= 0 else now_s + missing / self.per_s


class Circuit:
    """Stops asking a service that is down, and finds out with single probes when it is back.

    closed -> open after `failures_max` failures in a row; open -> half-open when the cool-down is
    over; half-open lets one attempt through: its success closes the circuit, its failure opens it
    again for twice as long. What waits behind an open circuit spends none of its attempts.
    """

    def __init__(
        self, *, failures_max: int = 5, cooldown_s_min: float = 1.0, cooldown_s_max: float = 60.0
    ) -> None:
        self.failures_max = failures_max
        self.cooldown_s_min = cooldown_s_min
        self.cooldown_s_max = cooldown_s_max
        self.failures = 0  # in a row
        self.open_until_s: float | None = None
        self._opened = 0  # times in a row
        self._probing = False

    def state(self, now_s: float) -> Literal["closed", "open", "half_open"]:
        """What the circuit is at that time."""
        if self.open_until_s is None:
            return "closed"
        return "open" if now_s < self.open_until_s else "half_open"

    def allows(self, now_s: float) -> bool:
        """Whether an attempt may start now."""
        state = self.state(now_s)
        return state == "closed" or (state == "half_open" and not self._probing)

    def start(self, now_s: float) -> None:
        """An attempt starts. In the half-open state it is the probe."""
        assert self.allows(now_s), "ask `allows` first"
        self._probing = self.open_until_s is not None

    def succeed(self) -> None:
        """The service answered, be it with a refusal: it is there."""
        self.failures = 0
        self._opened = 0
        self.open_until_s = None
        self._probing = False

    def abandon(self) -> None:
        """An attempt was called back before the service had answered: it says nothing."""
        self._probing = False

    def fail(self, now_s: float, rng: Random) -> None:
        """The service did not do it. Opens the circuit where that was once too often."""
        self.failures += 1
        was_probe, self._probing = self._probing, False
        if was_probe or (self.open_until_s is None and self.failures >= self.failures_max):
            self._opened += 1
            longest_s = self.cooldown_s_min * 2.0 ** min(self._opened - 1, _DOUBLINGS_MAX)
            # Half of it is certain and half is drawn, so that many daemons do not probe as one.
            cooldown_s = min(self.cooldown_s_max, longest_s)
            self.open_until_s = now_s + cooldown_s / 2 + rng.uniform(0.0, cooldown_s / 2)
