"""Which identifiers an event names, in which order, and how strongly it links them. Pure.

The first identifier is the leaf: what the event says is stored under it. So the order is fixed:
user id, anonymous id, then what else was on the event. Values are passed as they came;
normalising, blocking and rejecting them is the resolver's work. Here only shape is judged: a
value that is no text, is empty or is longer than an identifier can be is left out, never an error.

A group id names a company, not a person, and is no identifier of a profile.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from cdp.domain.identifier import NAMESPACE_CODE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp.identity.facts import ContextFacts, EventFacts

Named = tuple[int, str]  # namespace code, value as it came
Observed = tuple[int, int, int, list[Named]]  # what the resolver takes

# The resolver's codes of evidence, in the order of `cdp/_matcher.pyi`; a test compares them.
CO_OCCUR: Final = 0
IDENTIFY: Final = 1
ALIAS: Final = 2

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


def observation(event: EventFacts) -> Observed:
    """The evidence in an event: when, of what kind, from which source, and whom it names."""
    time_us = max(0, event.event_time_us)
    source = source_ordinal(event.source)
    if event.type == "alias":
        return _alias(event, time_us, source)
    named: list[Named] = []
    if (user_id := event.user_id) and len(user_id) <= VALUE_CHARS_MAX:
        named.append((USER_ID, user_id))
    if (anonymous_id := event.anonymous_id) and len(anonymous_id) <= VALUE_CHARS_MAX:
        named.append((ANONYMOUS_ID, anonymous_id))
    if event.type == "identify":
        _add_reachable(named, event.traits, event.context.traits)
        _add_context(named, event.context)
        return (time_us, IDENTIFY, source, named)
    if event.type != "group":  # on a group call the traits around it may be the company's
        _add_reachable(named, None, event.context.traits)
    _add_context(named, event.context)
    return (time_us, CO_OCCUR, source, named)


@lru_cache(maxsize=1_024)
def source_ordinal(name: str) -> int:
    """The bit of a source in evidence, 0 to 31: a function of its name, not of arrival order.

    Two sources may share a bit; the set then shows one of them, and resolution does not change.
    """
    return blake2b(name.encode(), digest_size=1).digest()[0] & 31


def _alias(event: EventFacts, time_us: int, source: int) -> Observed:
    """The new id, then the previous id in both namespaces that it may be of.

    Browsers alias an id to itself once a user is known; that links nothing.
    """
    new, previous = _text(event.user_id), _text(event.previous_id)
    named = [(USER_ID, new)] if new else []
    if not new or not previous or new == previous:
        return (time_us, CO_OCCUR, source, named)
    named += [(USER_ID, previous), (ANONYMOUS_ID, previous)]
    return (time_us, ALIAS, source, named)


def _add_reachable(named: list[Named], first: Any, second: Any) -> None:
    """Adds e-mail and phone, each from the first of the two traits that has it."""
    if not first and not second:
        return
    for namespace, name in ((EMAIL, "email"), (PHONE, "phone")):
        value = _trait(first, name) or _trait(second, name)
        if value:
            named.append((namespace, value))


def _add_context(named: list[Named], context: ContextFacts) -> None:
    device = context.device
    if isinstance(device, dict):
        if device_id := _text(device.get("id")):
            named.append((DEVICE_ID, device_id))
        if ad_id := _text(device.get("advertisingId")):
            named.append((AD_ID, ad_id))
    if isinstance(context.external_ids, list):
        named.extend(_external(context.external_ids[:EXTERNAL_IDS_MAX]))


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
