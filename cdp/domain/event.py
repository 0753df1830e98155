"""An event: an immutable fact, as it was received and normalised.

One struct for the six types of the tracking spec, stored as a MessagePack array. The schema
version is its first field; a field is only ever added at the end, with a default, so that every
release reads the logs of the releases before it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

EventType = Literal["track", "identify", "page", "screen", "group", "alias"]

EVENT_TYPES: Final = ("track", "identify", "page", "screen", "group", "alias")
EVENT_SCHEMA: Final = 1


class ConsentStamp(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the event itself said about consent when it was collected. Never rewritten.

    `purposes` maps a category or purpose id to whether it was granted. `present` is False where
    the event carried no consent object at all, which is not the same as an empty one.
    """

    present: bool = False
    purposes: dict[str, bool] = {}


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A normalised event, as it stands in the event log. Times are microseconds, UTC.

    `traits` are those of an identify or a group, wherever the sender put them. `extra` keeps
    top-level fields that the spec does not name. `original_time_us` is the sender's own clock,
    before skew correction; None where it sent none.
    """

    schema: int
    type: EventType
    message_id: str
    source: str
    event_time_us: int
    received_at_us: int
    sent_at_us: int | None = None
    original_time_us: int | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    previous_id: str | None = None
    group_id: str | None = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    traits: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    context: dict[str, Any] = {}
    integrations: dict[str, Any] = {}
    stamp: ConsentStamp = ConsentStamp()
    extra: dict[str, Any] = {}


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)

encode_event = _encoder.encode
decode_event = _decoder.decode


def wire_form(event: Event) -> dict[str, Any]:
    """The event as the tracking spec writes it: camelCase, RFC 3339 times, absent fields left out."""
    from cdp.clock import isoformat

    body: dict[str, Any] = {
        "type": event.type,
        "messageId": event.message_id,
        "timestamp": isoformat(event.event_time_us),
        "receivedAt": isoformat(event.received_at_us),
    }
    optional = {
        "originalTimestamp": event.original_time_us and isoformat(event.original_time_us),
        "sentAt": event.sent_at_us and isoformat(event.sent_at_us),
        "userId": event.user_id,
        "anonymousId": event.anonymous_id,
        "previousId": event.previous_id,
        "groupId": event.group_id,
        "event": event.event,
        "name": event.name,
        "category": event.category,
        "traits": event.traits,
        "properties": event.properties,
        "context": event.context,
        "integrations": event.integrations,
    }
    body.update({name: value for name, value in optional.items() if value})
    return body
