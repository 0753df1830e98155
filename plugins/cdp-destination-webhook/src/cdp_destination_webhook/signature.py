"""Signs requests, and checks signatures as a receiver would."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER: Final = "cdp-signature"
TOLERANCE_S: Final = 300


def sign(body: bytes, secrets: Iterable[str], timestamp_s: int) -> str:
    """The value of the header: the time, and one signature a secret."""
    signatures = [f"v1={_digest(secret, timestamp_s, body)}" for secret in secrets]
    return ",".join([f"t={timestamp_s}", *signatures])


def verify(
    header: str, body: bytes, secret: str, *, now_s: int, tolerance_s: int = TOLERANCE_S
) -> bool:
    """Whether the body was signed with this secret, and not long ago."""
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for key, _, value in pairs if key == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()):
        return False
    timestamp_s = int(times[0][:15])
    if abs(now_s - timestamp_s) > tolerance_s:
        return False
    expected = _digest(secret, timestamp_s, body).encode()
    given = [value.encode() for key, _, value in pairs if key == "v1"]
    return any([hmac.compare_digest(expected, one) for one in given])


def _digest(secret: str, timestamp_s: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d." % timestamp_s + body, sha256).hexdigest()
