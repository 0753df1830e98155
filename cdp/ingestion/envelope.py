"""A decoded body to the events in it, each still as its own bytes, and what they share.

One event or a batch is told by the body, not by the path: clients mix the two. Nothing but the
shared parts is turned into objects here, so a body costs no more memory than its bytes until
each event has passed the limits of one event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from cdp.ingestion.decoding import DEPTH_MAX, JSON_ERRORS, cut_deep, decode_json, repair
from cdp.ingestion.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.config import Limits

_NULL: Final = Raw(b"null")
_SCALAR_BYTES_MAX: Final = 1_024
_ENVELOPE_LEVELS: Final = 3  # the object and its array around an event, and one to tell by


class Envelope(msgspec.Struct):
    """What stands around the events of a batch. Shared by all, and under what each says itself."""

    batch: list[Raw] | None = None
    sentAt: Raw = _NULL  # the wire's own names
    writeKey: Raw = _NULL
    context: Raw = _NULL
    integrations: Raw = _NULL
    type: Raw = _NULL


class Contents(msgspec.Struct):
    """The events of a body. `single` tells that the body itself was the one event."""

    raws: Sequence[bytes | Raw]
    single: bool = False
    sent_at: Any = None
    write_key: Any = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None


_decode_envelope = msgspec.json.Decoder(Envelope).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode


def open_body(body: bytes, limits: Limits, *, expects_batch: bool) -> Contents:
    """Finds the events in a body.

    Raises:
        Refusal: 400, the body is not JSON, not an object, or a batch without its array.
    """
    if b"\\u0000" in body:
        body = repair(body)
    try:
        return _open(body, limits, expects_batch)
    except RecursionError:
        body = cut_deep(body, min(limits.json_depth_max, DEPTH_MAX) + _ENVELOPE_LEVELS)
    except JSON_ERRORS:
        pass
    try:
        return _open(repair(body), limits, expects_batch)
    except msgspec.ValidationError as error:
        raise _misshapen(body) from error
    except JSON_ERRORS as error:
        raise Refusal(400, "invalid_json", "body is not json") from error


def _open(body: bytes, limits: Limits, expects_batch: bool) -> Contents:
    if not expects_batch and b'"batch"' not in body and body[:1] == b"{":
        return Contents([body], single=True, write_key=_scalar(_decode_envelope(body).writeKey))
    if body.lstrip()[:1] == b"[":
        return Contents(_decode_array(body))
    envelope = _decode_envelope(body)
    if envelope.batch is None:
        return _one_event(body, envelope, expects_batch)
    return Contents(
        envelope.batch,
        sent_at=_scalar(envelope.sentAt),
        write_key=_scalar(envelope.writeKey),
        context=_shared(envelope.context, limits, "context"),
        integrations=_shared(envelope.integrations, limits, "integrations"),
    )


def _one_event(body: bytes, envelope: Envelope, expects_batch: bool) -> Contents:
    if expects_batch and envelope.type is _NULL:
        raise Refusal(400, "invalid_request", "batch must be an array of events")
    return Contents([body], single=True)


def _misshapen(body: bytes) -> Refusal:
    try:
        whole = decode_json(repair(body))
    except JSON_ERRORS:
        whole = None
    if type(whole) is dict:
        return Refusal(400, "invalid_request", "batch must be an array of events")
    return Refusal(400, "invalid_json", "body must be a json object")


def _scalar(raw: Raw) -> Any:
    text = bytes(raw)
    return decode_json(text) if len(text) <= _SCALAR_BYTES_MAX else None


def _shared(raw: Raw, limits: Limits, name: str) -> dict[str, Any] | None:
    text = bytes(raw)
    if len(text) > limits.event_bytes_max:
        limit = limits.event_bytes_max
        raise Refusal(400, "invalid_request", f"{name} of the batch is longer than {limit} bytes")
    value = decode_json(text)
    return value if type(value) is dict and value else None


def write_key_in(raw: bytes | Raw) -> Any:
    """The `writeKey` of one event, without decoding the rest of it; None where it has none."""
    try:
        return _scalar(_decode_envelope(raw).writeKey)
    except JSON_ERRORS:
        return None
