"""Whom an event names, and in which order. Pure.

The first identifier is the leaf: what the event says is stored under it. So the order is fixed:
user id, anonymous id, then what else was on the event; an alias names the new id, then the
previous one. Values are passed as they came; normalising, blocking and rejecting them is the
matcher's work. Here only shape is judged: a value that is no text, is empty or is longer than an
identifier can be is left out, never an error.

A group id names a company, not a person, and is no identifier of a profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from cdp.domain.identifier import NAMESPACE_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cdp.domain.event import Event

Named = tuple[int, str]  # namespace code, value as it came

VALUE_CHARS_MAX: Final = 512
EXTERNAL_IDS_MAX: Final = 20  # of one event

USER_ID: Final = NAMESPACE_CODE["user_id"]
ANONYMOUS_ID: Final = NAMESPACE_CODE["anonymous_id"]
EMAIL: Final = NAMESPACE_CODE["email"]
PHONE: Final = NAMESPACE_CODE["phone"]
CRM_ID: Final = NAMESPACE_CODE["crm_id"]
DEVICE_ID: Final = NAMESPACE_CODE["device_id"]
AD_ID: Final = NAMESPACE_CODE["ad_id"]
EXTERNAL_ID: Final = NAMESPACE_CODE["external_id"]

# What SDKs call the types of `context.externalIds` -> our namespace. Other types are external ids.
EXTERNAL_TYPES: Final = {
    "user_id": USER_ID,
    "anonymous_id": ANONYMOUS_ID,
    "email": EMAIL,
    "phone": PHONE,
    "phone_number": PHONE,
    "crm_id": CRM_ID,
    "device_id": DEVICE_ID,
    "android.id": DEVICE_ID,
    "ios.id": DEVICE_ID,
    "ad_id": AD_ID,
    "android.idfa": AD_ID,
    "ios.idfa": AD_ID,
    "click_id": NAMESPACE_CODE["click_id"],
}


class Naming(Protocol):
    """The fields of an event that name people, besides its context."""

    @property
    def type(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def anonymous_id(self) -> str | None: ...
    @property
    def previous_id(self) -> str | None: ...
    @property
    def traits(self) -> Mapping[str, Any]: ...


def named_in_event(event: Event) -> list[Named]:
    """The identifiers that an event names, the leaf first where it can be used."""
    context = event.context.get
    return named_in(event, context("traits"), context("device"), context("externalIds"))


def named_in(event: Naming, traits: Any, device: Any, external_ids: Any) -> list[Named]:
    """The identifiers in an event with these traits, device and external ids in its context."""
    kind = event.type
    if kind == "alias":
        return _named_by_alias(event)
    named: list[Named] = []
    if (user_id := event.user_id) and len(user_id) <= VALUE_CHARS_MAX:
        named.append((USER_ID, user_id))
    if (anonymous_id := event.anonymous_id) and len(anonymous_id) <= VALUE_CHARS_MAX:
        named.append((ANONYMOUS_ID, anonymous_id))
    if kind == "identify":
        _add_reachable(named, event.traits, traits)
    elif traits and kind != "group":  # on a group call they may be the company's
        _add_reachable(named, None, traits)
    if isinstance(device, dict):
        _add_device(named, device)
    if isinstance(external_ids, list):
        named.extend(_external(external_ids[:EXTERNAL_IDS_MAX]))
    return named


def _named_by_alias(event: Naming) -> list[Named]:
    """The new id, then the previous id in both namespaces that it may be of.

    Browsers alias an id to itself once a user is known; that links nothing.
    """
    new, previous = _text(event.user_id), _text(event.previous_id)
    if not new:
        return []
    if not previous or new == previous:
        return [(USER_ID, new)]
    return [(USER_ID, new), (USER_ID, previous), (ANONYMOUS_ID, previous)]


def _add_reachable(named: list[Named], first: Any, second: Any) -> None:
    """Adds e-mail and phone, each from the first of the two traits that has it."""
    if not first and not second:
        return
    for namespace, name in ((EMAIL, "email"), (PHONE, "phone")):
        value = _trait(first, name) or _trait(second, name)
        if value:
            named.append((namespace, value))


def _add_device(named: list[Named], device: dict[str, Any]) -> None:
    if device_id := _text(device.get("id")):
        named.append((DEVICE_ID, device_id))
    if ad_id := _text(device.get("advertisingId")):
        named.append((AD_ID, ad_id))


def _external(items: list[Any]) -> Iterator[Named]:
    """The external ids of persons; those of accounts and encoded ones are not identifiers here."""
    for item in items:
        if not isinstance(item, dict) or item.get("collection") != "users":
            continue
        kind, value = _text(item.get("type")), _text(item.get("id"))
        if kind and value and item.get("encoding", "none") == "none":
            yield external_identifier(kind, value)


def external_identifier(kind: str, value: str) -> Named:
    """The identifier of an external id: in its own namespace, else as `type:value`."""
    kind = kind.lower()
    namespace = EXTERNAL_TYPES.get(kind)
    return (EXTERNAL_ID, f"{kind}:{value}") if namespace is None else (namespace, value)


def _trait(traits: Any, name: str) -> str:
    return _text(traits.get(name)) if isinstance(traits, dict) else ""


def _text(value: Any) -> str:
    """The value where it can be an identifier's, else an empty text."""
    return value if isinstance(value, str) and len(value) <= VALUE_CHARS_MAX else ""
