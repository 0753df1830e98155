"""When an event happened: reading what senders write, and one rule that corrects their clocks.

The rule is the same for every SDK. An explicit `timestamp` wins over `originalTimestamp`. Where
the sender also says when it sent, the difference to our clock is taken as the error of its clock,
unless it is within `DEAD_BAND_US`: that much is network and retries, and leaving it alone keeps
historic imports exact.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from cdp.clock import DAY_US, SECOND_US, from_datetime

DEAD_BAND_US: Final = 5 * SECOND_US
FUTURE_US_MAX: Final = DAY_US  # an event from later than this has a broken clock

_SECONDS_BELOW: Final = (
    10**11
)  # numbers below are seconds (until the year 5138), above milliseconds
_MILLISECONDS_BELOW: Final = 10**14
_MICROSECONDS_BELOW: Final = 10**17
_TIME_US_MAX: Final = 253_402_300_800 * SECOND_US  # the year 10000
_TEXT_CHARS_MAX: Final = 40
_DIGITS_MIN: Final = 9  # fewer digits are a date without dashes, or nothing


def parse_time(value: Any) -> int | None:
    """Microseconds since 1970 of what a sender wrote; None where it is no time from 1970 on.

    Reads RFC 3339 with or without a zone (none is UTC) and up to nanoseconds, and numbers or
    digits as seconds, milliseconds, microseconds or nanoseconds since 1970, by their size.
    """
    if type(value) is str:
        return _parse_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _parse_number(value)
    return None


def event_time_us(client_us: int | None, sent_us: int | None, received_us: int) -> int:
    """When it happened by our clock. Always between 1970 and a day from `received_us`."""
    if client_us is None:
        return received_us
    time_us = client_us
    if sent_us is not None and abs(received_us - sent_us) > DEAD_BAND_US:
        time_us += received_us - sent_us
    if time_us > received_us + FUTURE_US_MAX:
        return received_us
    return max(time_us, 0)


def _parse_text(text: str) -> int | None:
    try:
        time_us = from_datetime(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return _parse_odd_text(text.strip())
    return time_us if time_us >= 0 and "-" in text else _parse_odd_text(text)


def _parse_odd_text(text: str) -> int | None:
    """Digits, the small letters of RFC 3339, and leap seconds, for which `datetime` has no room."""
    if len(text) > _TEXT_CHARS_MAX or not text.isascii():
        return None
    if text.replace(".", "", 1).isdigit():
        if len(text) < _DIGITS_MIN:
            return None
        return _parse_number(float(text) if "." in text else int(text))
    try:
        time_us = from_datetime(datetime.fromisoformat(text.upper().replace(":60", ":59", 1)))
    except (ValueError, OverflowError):
        return None
    return time_us if time_us >= 0 and "-" in text else None


def _parse_number(number: float) -> int | None:
    if not 0 <= number < _TIME_US_MAX * 1_000:
        return None
    if number < _SECONDS_BELOW:
        return round(number * SECOND_US)
    if number < _MILLISECONDS_BELOW:
        return _in_range(round(number * 1_000))
    return _in_range(round(number if number < _MICROSECONDS_BELOW else number / 1_000))


def _in_range(time_us: int) -> int | None:
    return time_us if time_us < _TIME_US_MAX else None
