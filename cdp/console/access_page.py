"""A person's document as a page that the person can read, print and keep. No scripts, one file.

Everything that came from an event passes through `text`, which escapes it and isolates the
direction of its writing; there is no other way into the page. The page's own policy allows its
style sheet and nothing else, so that even a page that is opened from a disk loads nothing and
runs nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Json = dict[str, Any]

_STYLE: Final = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;"
    "color:#111;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #ccc;"
    "overflow-wrap:anywhere}"
    "code{white-space:pre-wrap;font-size:.9em}.quiet{color:#555}"
    "@media print{body{margin:0;max-width:none}tr{break-inside:avoid}}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'"

# What no page shows as itself: control characters, and those that turn the writing around.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_encode = msgspec.json.Encoder().encode


def text(value: Any) -> str:
    """Any value as a piece of the page: escaped, isolated, and visible."""
    if value is None:
        return '<span class="quiet">none</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return f"<bdi>{_escaped(value)}</bdi>"
    if isinstance(value, int | float):
        return _escaped(str(value))
    return f"<code>{_escaped(_encode(value).decode())}</code>"


def _escaped(value: str) -> str:
    return escape(_UNSEEN.sub("\N{REPLACEMENT CHARACTER}", value), quote=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of values, or a word that there are none."""
    body = "".join(_row(row) for row in rows)
    if not body:
        return '<p class="quiet">Nothing.</p>'
    return f"{_table_head(columns)}{body}</tbody></table>"


def _table_head(columns: Sequence[str]) -> str:
    cells = "".join(f"<th>{_escaped(column)}</th>" for column in columns)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>"


def _row(values: Sequence[Any]) -> str:
    cells = "".join(f"<td>{text(value)}</td>" for value in values)
    return f"<tr>{cells}</tr>\n"


class PageForm:
    """The document for people (`cdp.consent.access.Form`)."""

    name = "html"

    def head(self, head: Json) -> bytes:
        """Everything but the events, and the head of their table."""
        return "".join(_head(head)).encode()

    def events(self, events: Sequence[Json]) -> bytes:
        """One row an event."""
        return "".join(_row(_event(one)) for one in events).encode()

    def tail(self, tail: Json) -> bytes:
        """The end of the table, and whether anything is missing from it."""
        expired = tail["events_expired"]
        note = f"<p>{tail['events_total']} events."
        if expired:
            note += f" Of {expired} of them only the kind and the time are still kept."
        return f"</tbody></table>{note}</p></body></html>\n".encode()


def _head(head: Json) -> Iterable[str]:
    yield (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY, quote=True)}">'
        '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">'
        f"<title>What is held about one person</title><style>{_STYLE}</style></head><body>"
        "<h1>What is held about one person</h1>"
    )
    yield table(("", ""), _about(head))
    yield "<h2>Known as</h2>" + table(_IDENTIFIER_COLUMNS, map(_identifier, head["identifiers"]))
    yield "<h2>Traits</h2>" + table(_TRAIT_COLUMNS, map(_trait, head["traits"].items()))
    yield "<h2>Groups</h2>" + table(("group", "last seen"), map(_values, head["groups"]))
    yield "<h2>Audiences</h2>" + _any_table(head["audiences"])
    yield "<h2>Consent now</h2>" + table(("", ""), head["consent"]["now"].items())
    yield "<h2>What was said about consent</h2>" + _any_table(head["consent"]["records"])
    yield "<h2>Who received something</h2>" + _any_table(head["recipients"])
    yield "<h2>What was asked</h2>" + _any_table(head["requests"])
    yield "<h2>Events</h2>" + _table_head(_EVENT_COLUMNS)


_IDENTIFIER_COLUMNS: Final = ("kind", "value", "since", "from", "shared with others")
_TRAIT_COLUMNS: Final = ("trait", "value", "since", "from", "given for", "refused for")
_EVENT_COLUMNS: Final = ("time", "event", "from", "what it said", "given for", "where it went")


def _about(head: Json) -> Iterable[tuple[str, Any]]:
    for label, name in (
        ("profile", "profile_id"),
        ("state", "state"),
        ("first seen", "first_seen_at"),
        ("last seen", "last_seen_at"),
        ("made", "made_at"),
        ("for request", "request_id"),
    ):
        yield label, head[name]


def _identifier(one: Json) -> tuple[Any, ...]:
    return (
        one["namespace"],
        one["value"],
        one["first_seen_at"],
        one["first_source"],
        one["shared_with_others"],
    )


def _trait(item: tuple[str, Json]) -> tuple[Any, ...]:
    name, trait = item
    stamp = trait["given_for"]
    value = "(removed)" if trait["removed"] else trait["value"]
    granted = None if stamp is None else _granted(stamp)
    refused = None if stamp is None else ", ".join(stamp["denied"]) or None
    return name, value, trait["updated_at"], trait["source"], granted, refused


def _granted(stamp: Mapping[str, Any]) -> str:
    if not stamp["readable"]:
        return "what it said about consent cannot be read"
    if not stamp["stated"]:
        return "it said nothing about consent"
    return ", ".join(stamp["granted"]) or "nothing"


def _event(item: Json) -> tuple[Any, ...]:
    event = dict(item["event"])
    time, kind = event.pop("timestamp"), event.pop("type")
    name = event.pop("event", None) or event.pop("name", None)
    title = f"{kind} {name}" if name else kind
    if item["expired"]:
        return time, title, None, "past its retention", None, _went(item)
    return time, title, item["source"], event, _granted(item["consent"]), _went(item)


def _went(item: Json) -> str:
    return "; ".join(
        f"{fate['destination']}: {fate['state']} {fate['at']}"
        + (f" ({fate['reason']})" if fate["reason"] else "")
        for fate in item["sent_to"]
    )


def _any_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows whose columns are whatever their members are called."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    shown = [name.replace("_", " ") for name in columns]
    return table(shown, ([row.get(name) for name in columns] for row in rows))


def _values(row: Mapping[str, Any]) -> list[Any]:
    return list(row.values())
