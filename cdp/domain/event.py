"""An event: an immutable fact, as it was received and normalised.

One struct for the six types of the tracking spec, stored as a MessagePack array. The schema
version is its first field; a field is only ever added at the end, with a default, so that every
release reads the logs of the releases before it.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final, Literal

import msgspec

from cdp.clock import isoformat

EventType = Literal["track", "identify", "page", "screen", "group", "alias"]

EVENT_TYPES: Final = ("track", "identify", "page", "screen", "group", "alias")
EVENT_SCHEMA: Final = 1


class ConsentStamp(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was known about consent when the event was collected. Never rewritten.

    `purposes` maps a category or purpose id to whether it was granted. `present` is False where
    the event made no statement at all, which is not the same as an empty one; `readable` is False
    where it made one that could not be read. `head` is the sequence number that the consent
    ledger would give next at that moment: what held then is what was recorded before it.
    `signals` maps tcf and gpp to the first 16 digits of the SHA-256 of the string.
    """

    present: bool = False
    purposes: dict[str, bool] = {}
    readable: bool = True
    head: int = 0
    jurisdiction: str = ""
    regime: str = ""  # name and version
    gpc: bool = False
    signals: dict[str, str] = {}
    policy: str = ""  # id@version


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


# Every optional field but the times: its name here and on the wire.
_WIRE_NAMES: Final = (
    ("user_id", "userId"),
    ("anonymous_id", "anonymousId"),
    ("previous_id", "previousId"),
    ("group_id", "groupId"),
    ("event", "event"),
    ("name", "name"),
    ("category", "category"),
    ("traits", "traits"),
    ("properties", "properties"),
    ("context", "context"),
    ("integrations", "integrations"),
)
_wire_values = attrgetter(*(field for field, _ in _WIRE_NAMES))
_wire_keys = tuple(wire for _, wire in _WIRE_NAMES)


def wire_form(event: Event) -> dict[str, Any]:
    """The event as the tracking spec writes it: camelCase, RFC 3339, absent fields left out."""
    body: dict[str, Any] = {
        "type": event.type,
        "messageId": event.message_id,
        "timestamp": isoformat(event.event_time_us),
        "receivedAt": isoformat(event.received_at_us),
    }
    if event.original_time_us:
        body["originalTimestamp"] = isoformat(event.original_time_us)
    if event.sent_at_us:
        body["sentAt"] = isoformat(event.sent_at_us)
    for key, value in zip(_wire_keys, _wire_values(event), strict=True):
        if value:
            body[key] = value
    return body
