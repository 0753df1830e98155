"""Wall time as an argument: whole microseconds since 1970, UTC.

Integers, because every event carries four of them and the hot path compares and stores them.
`datetime` appears only where a person or an API reads a time. Monotonic time is
`trio.current_time()`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - what has no zone is compared with it


class Clock(Protocol):
    """Where the wall time comes from."""

    def now_us(self) -> int:
        """The wall time in microseconds since 1970, UTC."""
        ...


def to_datetime(time_us: int) -> datetime:
    """The aware UTC datetime of a time in microseconds."""
    return _EPOCH + timedelta(microseconds=time_us)


def from_datetime(time: datetime) -> int:
    """Microseconds since 1970 of a datetime; one without a zone is taken as UTC."""
    since = time - _EPOCH if time.tzinfo is not None else time - _NAIVE_EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds


def isoformat(time_us: int) -> str:
    """RFC 3339 with milliseconds and `Z`, as the SDKs write it."""
    second, rest_us = divmod(time_us, SECOND_US)
    return f"{_whole_second(second)}.{rest_us // 1000:03d}Z"


@lru_cache(maxsize=4_096)
def _whole_second(second: int) -> str:
    # Events come in bursts of the same few seconds; formatting one costs more than all the rest.
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat()
