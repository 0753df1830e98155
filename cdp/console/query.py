"""Reads what a request says: parameters, cursors, names of profiles. Pure.

Everything that cannot be read is refused with a text that says what is allowed; nothing is
guessed and nothing is ignored silently.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from cdp.clock import from_datetime
from cdp.console.surface import Refused
from cdp.identity.history import TIME_US_END, Place, Question

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_DEFAULT: Final = 10
LIMIT_MAX: Final = 1_000
KEY_CHARS_MAX: Final = 1_024


def profile_key(text: str) -> tuple[str, str]:
    """`namespace:value` of a path, still percent-encoded, as its two parts."""
    namespace, colon, value = unquote(text).partition(":")
    if not colon or not namespace or not value or len(text) > KEY_CHARS_MAX:
        raise Refused("name a profile as namespace:value, such as user_id:42 or email:a%40b.test")
    return namespace.lower(), value


def limit_of(query: Mapping[str, str], default: int = LIMIT_DEFAULT) -> int:
    """How many items are asked for."""
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= LIMIT_MAX):
        raise Refused(f"limit must be a whole number from 1 to {LIMIT_MAX}")
    return int(text)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A parameter that is `true` or `false`; false where it is absent."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Refused(f"{name} must be true or false")
    return text == "true"


def names_of(query: Mapping[str, str], name: str) -> frozenset[str]:
    """A list with commas; empty where it is absent."""
    return frozenset(part.strip() for part in query.get(name, "").split(",") if part.strip())


def time_of(query: Mapping[str, str], name: str) -> int | None:
    """A time in RFC 3339, or a date, in microseconds; None where it is absent."""
    text = query.get(name)
    if not text:
        return None
    try:
        # A `+` of a time zone that was not percent-encoded has become a space.
        return from_datetime(datetime.fromisoformat(text.replace(" ", "+")))
    except (ValueError, OverflowError):
        raise Refused(f"{name} must be a time such as 2026-03-01T12:00:00Z, or a date") from None


def after_of(query: Mapping[str, str]) -> str | None:
    """Where to go on: the `next` of the page before, passed back as `next` or `cursor`."""
    return query.get("next") or query.get("cursor") or None


def encode_place(place: Place) -> str:
    """A place in a history as a cursor."""
    return encode_cursor(f"{place.time_us}.{place.offset}")


def place_of(query: Mapping[str, str]) -> Place | None:
    """The place that a cursor stands for."""
    text = after_of(query)
    if text is None:
        return None
    time_us, _, offset = decode_cursor(text).partition(".")
    if not (time_us.isdecimal() and offset.isdecimal() and len(time_us) < 20 and len(offset) < 20):
        raise _unknown_cursor()
    return Place(int(time_us), int(offset))


def encode_cursor(text: str) -> str:
    """A text as a cursor that needs no escaping in a URL."""
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The text of a cursor. Raises Refused for one that is none of ours."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise _unknown_cursor() from None


def count_of(cursor: str | None) -> int:
    """How many items came before, where a cursor counts them."""
    text = "0" if cursor is None else decode_cursor(cursor)
    if not (text.isdecimal() and len(text) < 10):
        raise _unknown_cursor()
    return int(text)


def question_of(query: Mapping[str, str]) -> Question:
    """The part of a history that is asked for. `as_of` shows the history as it ended then."""
    sort = query.get("sort", "desc")
    if sort not in ("asc", "desc"):
        raise Refused("sort must be asc or desc")
    end_us, as_of_us = time_of(query, "end"), time_of(query, "as_of")
    ends = [end_us, None if as_of_us is None else as_of_us + 1]
    return Question(
        start_us=max(0, time_of(query, "start") or 0),
        end_us=max(0, min(TIME_US_END if end is None else end for end in ends)),
        newest_first=sort == "desc",
        after=place_of(query),
        limit=limit_of(query),
        include=names_of(query, "include"),
        exclude=names_of(query, "exclude"),
    )


def _unknown_cursor() -> Refused:
    return Refused("the cursor is not one of ours: pass back what the page before gave as next")
