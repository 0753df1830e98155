"""Under whose key a record is sealed where it names nobody: subjects that a day has to itself.

So one of these keys can be destroyed when the day is over and what it sealed has expired.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from cdp.clock import DAY_US

SUBJECT_BYTES: Final = 16


def nobody_on(received_at_us: int, key: bytes) -> bytes:
    """The subject of the events of a day (UTC) without a usable identifier. `key` is identity's."""
    return blake2b(b"nobody" + _day(received_at_us), digest_size=SUBJECT_BYTES, key=key).digest()


def rejected_on(received_at_us: int) -> bytes:
    """The subject of the events that were rejected on a day (UTC)."""
    return blake2b(b"rejected" + _day(received_at_us), digest_size=SUBJECT_BYTES).digest()


def _day(time_us: int) -> bytes:
    return (time_us // DAY_US).to_bytes(4, "big")
