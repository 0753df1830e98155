"""An event in the query of an image: base64 JSON under `data`, or dotted keys.

A page cannot see what becomes of an image, so the answer is always the image; what is wrong with
the event is seen among the rejected ones.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from cdp.ingestion.decoding import JSON_ERRORS, decode_json, repair
from cdp.ingestion.refusal import Refusal

_FIELDS_MAX: Final = 1_000
_LEVELS_MAX: Final = 16
_KEY_NAMES: Final = ("writeKey", "writekey", "write_key")


def query_fields(query: bytes) -> dict[str, str]:
    """The fields of a query, without NUL; of a repeated one the last. Empty where it is not one."""
    try:
        pairs = parse_qsl(
            query.decode("latin-1"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError:
        return {}
    return {name.replace("\x00", ""): value.replace("\x00", "") for name, value in pairs}


def write_key_of(fields: dict[str, str]) -> str | None:
    """The write key of a query, under any of its names."""
    return next((fields[name] for name in _KEY_NAMES if fields.get(name)), None)


def pixel_body(fields: dict[str, str]) -> bytes:
    """The JSON text of the event in a query.

    Raises:
        Refusal: `data` is not base64 of JSON, or keys are nested too deep.
    """
    data = fields.get("data")
    event = _from_data(data) if data else {}
    for name, value in fields.items():
        if name != "data" and name not in _KEY_NAMES:
            _set(event, name.split("."), value)
    return msgspec.json.encode(event)


def _from_data(data: str) -> dict[str, Any]:
    try:
        text = data.replace("-", "+").replace("_", "/").replace(" ", "+").rstrip("=")
        event = decode_json(repair(b64decode(text + "=" * (-len(text) % 4), validate=True)))
        msgspec.json.encode(event)  # what is nested so deep that it cannot be written is refused
    except (binascii.Error, ValueError, RecursionError, *JSON_ERRORS) as error:
        raise Refusal(400, "invalid_json", "data is not base64 of json") from error
    if type(event) is not dict:
        raise Refusal(400, "invalid_json", "data is not a json object")
    return event


def _set(event: dict[str, Any], path: list[str], value: str) -> None:
    if len(path) > _LEVELS_MAX:
        raise Refusal(400, "invalid_request", f"keys may have at most {_LEVELS_MAX} parts")
    for part in path[:-1]:
        child = event.get(part)
        if type(child) is not dict:
            child = event[part] = {}
        event = child
    event[path[-1]] = value
