"""How requests, receipts and answers about rights look in a terminal. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.text import Text

from cdp.cli.profile import value_text
from cdp.cli.shell import plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

Json = dict[str, Any]

_STYLES: Final = {
    "complete": "green",
    "confirmed": "green",
    "attested": "green",
    "erased": "green",
    "not_needed": "dim",
    "partially_complete": "yellow",
    "manual_task": "yellow",
    "unsupported": "yellow",
    "denied": "red",
    "escalated": "red",
    "failed": "red",
}


def requests_table(requests: Sequence[Json]) -> Table:
    """Requests, one a line."""
    table = plain_table("request", "kind", "state", "received", "due", "regulation", "external id")
    for one in requests:
        table.add_row(
            one["id"],
            one["kind"],
            _state(one["state"]),
            one["received_at"],
            one.get("due_at") or "",
            one.get("regulation") or "",
            Text(one.get("external_id") or ""),
        )
    return table


def request_table(request: Json) -> RenderableType:
    """One request: what it is, when each stage was reached, every store, every destination."""
    parts: list[RenderableType] = [requests_table([request])]
    if stages := request.get("stages"):
        parts += ["", _fields(stages, "stages")]
    if stores := request.get("stores"):
        parts += ["", _rows(stores, "stores")]
    if jobs := request.get("destinations"):
        parts += ["", _destinations_table(jobs)]
    return Group(*parts)


def _destinations_table(jobs: Sequence[Json]) -> Table:
    """Each tool: where it stands, since when, and what somebody has to do or what went wrong."""
    table = plain_table("destination", "state", "since", "attempts", "note", title="destinations")
    for job in jobs:
        note = job.get("instructions") or job.get("error") or ""
        if by := job.get("attested_by"):
            note = f"attested by {by}"
        since = (job.get("times") or {}).get(job["state"], "")
        attempts = str(job.get("attempts") or "")
        table.add_row(job["destination"], _state(job["state"]), since, attempts, Text(note))
    return table


def document_table(document: Mapping[str, Any], *, title: str = "") -> RenderableType:
    """Any answer: its plain members first, then a table for each list or object in it."""
    plain = {name: value for name, value in document.items() if not _is_table(value)}
    parts: list[RenderableType] = [_fields(plain, title)] if plain else []
    for name, value in document.items():
        if _is_table(value):
            shown = (
                _rows(value, _words(name))
                if isinstance(value, list)
                else _fields(value, _words(name))
            )
            parts += ["", shown] if parts else [shown]
    return Group(*parts)


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, dict) for one in value)
    return isinstance(value, dict) and bool(value)


def _fields(values: Mapping[str, Any], title: str) -> Table:
    table = plain_table("", "", title=title or None)
    table.show_header = False
    for name, value in values.items():
        table.add_row(Text(_words(name), "dim"), _value(value))
    return table


def _rows(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = plain_table(*(_words(name) for name in columns), title=title)
    for row in rows:
        table.add_row(*(_value(row.get(name)) for name in columns))
    return table


def _value(value: Any) -> Text:
    if value is None:
        return Text("")
    return _state(value) if isinstance(value, str) else Text(value_text(value))


def _state(value: str) -> Text:
    return Text(value, _STYLES.get(value, ""))


def _words(name: str) -> str:
    return name.replace("_", " ")
