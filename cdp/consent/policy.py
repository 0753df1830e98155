"""The gate: whether something about a person may go to a destination. It fails closed.

One pure function, asked when a delivery is offered and again before every attempt: the first, a
retry, a redrive, a replay. The answer is yes only where every purpose of the destination was
granted; whatever is unknown, unmapped or left out is a no, with a reason from a closed set.

What the event itself said decides where it said anything at all: a stamp that is present and
does not name a purpose has refused it, and no default can grant it again. The operator's defaults
hold only for events that carry no consent object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cdp.domain.event import ConsentStamp

__all__ = ["REASONS", "Decision", "Reason", "may"]

Reason = Literal["granted", "no_purpose", "denied", "not_in_stamp", "denied_by_default", "unknown"]

# Every reason that `may` can give, and what it says to a person.
REASONS: Final[dict[str, str]] = {
    "granted": "every purpose of the destination was granted",
    "no_purpose": "the destination declares no purpose, so nothing can have been granted for it",
    "denied": "the event says that a purpose of the destination was denied",
    "not_in_stamp": "the event carries consent, but does not name a purpose of the destination",
    "denied_by_default": "the event carries no consent, and the configured default is denied",
    "unknown": "the event carries no consent, and no default is configured for a purpose",
}


class Decision(NamedTuple):
    """Whether it is allowed, and the code of the reason."""

    allowed: bool
    reason: Reason


_GRANTED: Final = Decision(True, "granted")
_NO_PURPOSE: Final = Decision(False, "no_purpose")
_DENIED: Final = Decision(False, "denied")
_NOT_IN_STAMP: Final = Decision(False, "not_in_stamp")
_DENIED_BY_DEFAULT: Final = Decision(False, "denied_by_default")
_UNKNOWN: Final = Decision(False, "unknown")


def may(purposes: Collection[str], stamp: ConsentStamp, defaults: Mapping[str, str]) -> Decision:
    """Whether an event with this stamp may be used for all of these purposes, and why (not)."""
    if not purposes:
        return _NO_PURPOSE
    if stamp.present:
        return _by_stamp(purposes, stamp.purposes)
    return _by_default(purposes, defaults)


def _by_stamp(purposes: Collection[str], stamped: Mapping[str, bool]) -> Decision:
    for purpose in purposes:
        if stamped.get(purpose) is not True:
            return _DENIED if purpose in stamped else _NOT_IN_STAMP
    return _GRANTED


def _by_default(purposes: Collection[str], defaults: Mapping[str, str]) -> Decision:
    for purpose in purposes:
        if defaults.get(purpose) != "granted":
            return _DENIED_BY_DEFAULT if purpose in defaults else _UNKNOWN
    return _GRANTED
