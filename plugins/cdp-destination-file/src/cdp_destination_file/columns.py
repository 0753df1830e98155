"""Lines as a Parquet file: what is asked for most as columns, the rest as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cdp_destination_file.person import Person

_TEXT: Final = pa.string()  # RFC 3339 times too: they sort as text
SCHEMA: Final = pa.schema(
    [
        ("delivery_id", _TEXT),
        ("kind", _TEXT),
        ("profile_id", _TEXT),
        ("other_profile_id", _TEXT),
        ("type", _TEXT),
        ("event", _TEXT),
        ("message_id", _TEXT),
        ("user_id", _TEXT),
        ("anonymous_id", _TEXT),
        ("group_id", _TEXT),
        ("timestamp", _TEXT),
        ("received_at", _TEXT),
        ("traits", _TEXT),
        ("properties", _TEXT),
        ("context", _TEXT),
        ("body", _TEXT),
    ]
)

_EVENT_COLUMNS: Final = {
    "type": "type",
    "event": "event",
    "message_id": "messageId",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "group_id": "groupId",
    "timestamp": "timestamp",
    "received_at": "receivedAt",
}


class _Line(msgspec.Struct, rename="camel"):
    delivery_id: str
    kind: str
    profile_id: str | None = None
    other_profile_id: str | None = None
    event: dict[str, Any] | None = None


def write_parquet(lines: Sequence[bytes], path: Path) -> None:
    """Writes lines of the part file as one Parquet file."""
    rows = [_row(_decode(line)) for line in lines]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path, compression="zstd")


def rewrite_parquet(path: Path, target: Path, person: Person) -> int:
    """Writes the rows that are not about the person; how many are. No file where none is."""
    with pq.ParquetFile(path) as source:
        asked = source.read(columns=["profile_id", "other_profile_id", "body"])
        kept = [not _is_about(row, person) for row in asked.to_pylist()]
        if all(kept):
            return 0
        rows = source.read().filter(pa.array(kept, pa.bool_()))
    pq.write_table(rows, target, compression="zstd")
    return kept.count(False)


def _is_about(row: dict[str, Any], person: Person) -> bool:
    body = row["body"]
    event = None if body is None else msgspec.json.decode(body)
    return person.is_in(row["profile_id"], row["other_profile_id"], event)


def _row(line: _Line) -> dict[str, str | None]:
    event = line.event or {}
    row: dict[str, str | None] = {
        "delivery_id": line.delivery_id,
        "kind": line.kind,
        "profile_id": line.profile_id,
        "other_profile_id": line.other_profile_id,
        "body": _json(line.event) if line.event is not None else None,
    }
    for column, field in _EVENT_COLUMNS.items():
        value = event.get(field)
        row[column] = value if value is None or isinstance(value, str) else _json(value)
    for field in ("traits", "properties", "context"):
        row[field] = _json(event[field]) if field in event else None
    return row


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_decode = msgspec.json.Decoder(_Line).decode
