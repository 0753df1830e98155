"""One event in the words of its sender to one `Event`, or the reason why not. Pure.

What differs between SDKs ends here: where traits stand, how an absent id is written, who defines
the type, which clock is right. `Scope` carries what the events of one request have in common.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.domain.event import EVENT_SCHEMA, EVENT_TYPES, Event
from cdp.ingestion.decoding import (
    DEPTH_MAX,
    JSON_ERRORS,
    TOO_DEEP,
    count_keys,
    decode_json,
    exceeds_depth,
    repair,
)
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.stamp import NO_SENDER, Sender
from cdp.ingestion.timestamps import event_time_us, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp.config import Limits
    from cdp.ingestion.collaborators import Namer
    from cdp.ingestion.plan import PlanCheck

_TYPES: Final = frozenset(EVENT_TYPES)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_KEY_BYTES_MIN: Final = 4  # `"":1`: no object has more keys than a fourth of its bytes
_TOO_DEEP: Final = TOO_DEEP.encode()


class Scope(msgspec.Struct, kw_only=True):
    """What is the same for all events of a request.

    `path_type` is the type that a single-event path names; `fallback_type` is used only where an
    event names none. `address` and `user_agent` are those of a browser's request, to fill in
    where the event lacks them; `direct_address` is the peer's, for servers that ask for it.
    `sender` makes the stamps; `namer` makes nodes of identifiers, where anybody is to be known.
    `plan` is the tracking plan, which holds after normalisation.
    """

    source: str
    received_at_us: int
    new_id: Callable[[], str]
    limits: Limits
    sent_at_us: int | None = None
    path_type: str | None = None
    fallback_type: str | None = None
    context: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None
    address: str | None = None
    direct_address: str | None = None
    user_agent: str | None = None
    sender: Sender = NO_SENDER
    namer: Namer | None = None
    plan: PlanCheck | None = None


def read_wire(raw: bytes, limits: Limits) -> dict[str, Any]:
    """The JSON object of one event, within the limits of one event.

    Raises:
        Rejection: too large, too deep, too many keys, or not an object.
    """
    if len(raw) > limits.event_bytes_max:
        text = f"event is longer than {limits.event_bytes_max} bytes; shorten it"
        raise Rejection("event_too_large", text)
    wire = _decode(raw)
    if type(wire) is not dict:
        raise Rejection("invalid_event", "event must be a json object")
    check_shape(wire, raw, limits)
    return wire


def check_shape(wire: dict[str, Any], raw: bytes, limits: Limits) -> None:
    """Refuses what is too deep or has too many keys; looks closely only where it could be.

    Raises:
        Rejection: one of the two.
    """
    depth_max = min(limits.json_depth_max, DEPTH_MAX)
    # To look for a byte takes a tenth of counting it, and few events have arrays.
    opened = raw.count(b"{") + (raw.count(b"[") if b"[" in raw else 0)
    if opened > depth_max and (_TOO_DEEP in raw or exceeds_depth(wire, depth_max)):
        raise _too_deep(depth_max)
    if len(raw) > _KEY_BYTES_MIN * limits.event_keys_max and (
        count_keys(wire) > limits.event_keys_max
    ):
        text = f"event has more than {limits.event_keys_max} keys; split or shorten it"
        raise Rejection("too_many_keys", text)


def _decode(raw: bytes) -> Any:
    try:
        return decode_json(raw)
    except RecursionError:
        raise Rejection("event_too_deep", "event is nested too deep; flatten it") from None
    except JSON_ERRORS:
        pass
    try:
        return decode_json(repair(raw))
    except JSON_ERRORS as error:
        raise Rejection("invalid_event", "event is not json") from error


def _too_deep(depth_max: int) -> Rejection:
    text = f"event is nested deeper than {depth_max} levels; flatten it"
    return Rejection("event_too_deep", text)


def normalise(wire: dict[str, Any], scope: Scope) -> Event:
    """The event, with `wire` used up: what is left in it becomes `extra`.

    Raises:
        Rejection: the event is not one of the six types, or lacks what its type needs.
    """
    take = wire.pop
    kind = _type_of(take("type", None), scope)
    message_id = _message_id(take("messageId", None), scope)
    # Most of these are absent from most events; the tests here save a call for each that is.
    user_id = read_id(value) if (value := take("userId", None)) is not None else None
    anonymous_id = read_id(value) if (value := take("anonymousId", None)) is not None else None
    previous_id = read_id(value) if (value := take("previousId", None)) is not None else None
    group_id = read_id(value) if (value := take("groupId", None)) is not None else None
    event = _text(value) if (value := take("event", None)) is not None else None
    if type(context := take("context", None)) is not dict:
        context = _object(context, "context")
    if type(integrations := take("integrations", None)) is not dict:
        integrations = _object(integrations, "integrations")
    if type(traits := take("traits", None)) is not dict:
        traits = _object(traits, "traits")
    if type(properties := take("properties", None)) is not dict:
        properties = _object(properties, "properties")
    if scope.context is not None:
        context = merge_under(scope.context, context)
    if scope.integrations is not None:
        integrations = merge_under(scope.integrations, integrations)
    integrations.pop("Segment.io", None)
    _require(kind, user_id, anonymous_id, previous_id, group_id, event)
    if kind == "identify" and not traits:
        traits = _object(context.get("traits"), "context.traits")
    stamped = wire.get("channel") == "web" or context.get("direct") is True
    if stamped or scope.address or scope.user_agent:
        _fill(context, scope, stamped)
    event_time, client_us, sent_us = _times(wire, scope)
    take("writeKey", None)  # a credential
    take("receivedAt", None)  # our own word
    name, category = _names(wire, kind, properties)
    return Event(
        EVENT_SCHEMA,
        kind,  # type: ignore[arg-type]  # checked against EVENT_TYPES
        message_id,
        scope.source,
        event_time,
        scope.received_at_us,
        sent_us,
        client_us,
        user_id,
        anonymous_id,
        previous_id,
        group_id,
        event,
        name,
        category,
        traits,
        properties,
        context,
        integrations,
        scope.sender.stamp_of(context),
        wire,
    )


def merge_under(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both objects, one level deep; `over` wins. Neither is changed."""
    merged = {**under, **over}
    for key, value in over.items():
        below = under.get(key)
        if type(value) is dict and type(below) is dict:
            merged[key] = {**below, **value}
    return merged


def _type_of(value: Any, scope: Scope) -> str:
    kind = scope.path_type or value or scope.fallback_type
    if type(kind) is str and kind in _TYPES:
        return kind
    text = "type must be one of track, identify, page, screen, group, alias"
    raise Rejection("invalid_type", text, path="type")


def _message_id(value: Any, scope: Scope) -> str:
    text = read_id(value)
    if text is not None and not text.isprintable():
        text = _CONTROL.sub("", text).strip()
    if not text:
        return scope.new_id()
    if len(text) > scope.limits.message_id_chars_max:
        limit = scope.limits.message_id_chars_max
        message = f"messageId is longer than {limit} characters; shorten it"
        raise Rejection("invalid_message_id", message, path="messageId")
    return text


def read_id(value: Any) -> str | None:
    """An identifier as text. Numbers are written out; the many ways to say "none" are None."""
    if type(value) is str:
        return value.strip() or None
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return str(int(value)) if value.is_integer() else repr(value)
    return None


_text = read_id  # names follow the same rule: text or number, trimmed, and nothing is None


def _object(value: Any, path: str) -> dict[str, Any]:
    if type(value) is dict:
        return value
    if not value:  # null, and the empty list that PHP writes for an empty object
        return {}
    raise Rejection("invalid_event", f"{path} must be an object", path=path)


def _require(
    kind: str,
    user_id: str | None,
    anonymous_id: str | None,
    previous_id: str | None,
    group_id: str | None,
    name: str | None,
) -> None:
    if kind == "alias":
        if not (user_id and previous_id):
            text = "alias needs userId and previousId"
            raise Rejection("no_user_anon_id", text, path="userId")
        return
    if not (user_id or anonymous_id):
        text = "event needs userId or anonymousId"
        raise Rejection("no_user_anon_id", text, path="userId")
    if kind == "track" and not name:
        raise Rejection("missing_event", "track needs a non-empty event", path="event")
    if kind == "group" and not group_id:
        raise Rejection("missing_group_id", "group needs a groupId", path="groupId")


def _names(
    wire: dict[str, Any], kind: str, properties: dict[str, Any]
) -> tuple[str | None, str | None]:
    """(name, category): at the top, or of a page or screen among its properties."""
    name, category = wire.pop("name", None), wire.pop("category", None)
    if kind == "page" or kind == "screen":
        return (
            _text(name) or _text(properties.get("name")),
            _text(category) or _text(properties.get("category")),
        )
    if name is None and category is None:
        return None, None
    return _text(name), _text(category)


def _fill(context: dict[str, Any], scope: Scope, stamped: bool) -> None:
    address = scope.address or (scope.direct_address if stamped else None)
    if address and not context.get("ip"):
        context["ip"] = address
    if scope.user_agent and not context.get("userAgent"):
        context["userAgent"] = scope.user_agent


def _times(wire: dict[str, Any], scope: Scope) -> tuple[int, int | None, int | None]:
    """(event time, sender's own time, sent at). What cannot be read stays in `extra`, as sent."""
    client_us: int | None = None
    for key in ("timestamp", "originalTimestamp"):
        value = wire.pop(key, None)
        if value is None:
            continue
        time_us = parse_time(value)
        if time_us is None:
            wire[key] = value
        elif client_us is None:
            client_us = time_us
    sent = wire.pop("sentAt", None)
    sent_us = parse_time(sent) if sent is not None else None
    if sent_us is None:
        sent_us = scope.sent_at_us
        if sent is not None:
            wire["sentAt"] = sent
    return event_time_us(client_us, sent_us, scope.received_at_us), client_us, sent_us
