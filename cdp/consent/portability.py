"""Reads a person's document back into events, for another platform or for this one. Pure.

Every event that is in the document with its body comes back as it was. What only the profile
still knows, because the event that said it is past its retention, comes back as an `identify` of
the same time and id. Events of shared devices stay out: that they are this person's was a
judgement over several people's sign-ins, which one person's document does not hold.

The events of a source must be sent with that source's write key: a profile says where it learnt
what it knows. They carry no `sentAt`, so that no clock is corrected twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cdp.consent.access import SCHEMA, VERSION, Json

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_SENT: Final = ("sentAt", "receivedAt", "originalTimestamp")
_OWN_FIELD: Final = {"user_id": "userId", "anonymous_id": "anonymousId"}
_DERIVED: Final = "email_canonical"  # made from an e-mail by rule, and never sent by anybody


class Reimport(NamedTuple):
    """One event to send, and the name of the source whose write key must send it."""

    source: str
    event: Json


class UnknownDocument(ValueError):
    """It is no document of a person, or one of a later version."""


def reimport_events(document: Json) -> list[Reimport]:
    """What to send to `/v1/import`, in the order of the document.

    Raises:
        UnknownDocument: nothing is known of this schema or version.
    """
    if document.get("schema") != SCHEMA or document.get("version") != VERSION:
        raise UnknownDocument(
            f"expected a document of schema {SCHEMA}, version {VERSION}, "
            f"found {document.get('schema')!r}, version {document.get('version')!r}"
        )
    kept = [_sent_again(one) for one in document["events"] if _is_own(one)]
    known = {one.event["messageId"] for one in kept}
    return [*_remembered(document, known), *kept]


def _is_own(item: Json) -> bool:
    return not item["expired"] and "shared_device" not in item


def _sent_again(item: Json) -> Reimport:
    event = {name: value for name, value in item["event"].items() if name not in _NOT_SENT}
    return Reimport(item["source"], event)


def _remembered(document: Json, known: set[str]) -> Iterator[Reimport]:
    """An `identify` for each event that is gone and of which traits are left."""
    lost: dict[tuple[str, str, str], Json] = {}
    for name, trait in document["traits"].items():
        if trait["message_id"] not in known:
            said = (trait["message_id"], trait["updated_at"], trait["source"])
            lost.setdefault(said, {})[name] = trait["value"]
    named = _named(document["identifiers"]) if lost else {}
    for (message_id, time, source), traits in lost.items():
        event = {"type": "identify", "messageId": message_id, "timestamp": time, "traits": traits}
        yield Reimport(source, event | named)


def _named(identifiers: list[Json]) -> Json:
    """Fields that name the person by every identifier that is the person's alone."""
    fields: Json = {}
    others: list[Json] = []
    for one in identifiers:
        namespace, value = one["namespace"], one["value"]
        if one["shared_with_others"] or namespace == _DERIVED:
            continue
        field = _OWN_FIELD.get(namespace)
        if field is not None and field not in fields:
            fields[field] = value
        else:
            others.append(_external_id(namespace, value))
    return fields | ({"context": {"externalIds": others}} if others else {})


def _external_id(namespace: str, value: str) -> dict[str, Any]:
    if namespace == "external_id":
        namespace, _, value = value.partition(":")
    return {"collection": "users", "type": namespace, "id": value, "encoding": "none"}
