"""Which lines are about a person who must be forgotten. Pure.

A line is about the person where its profile is theirs, or where its event names them: by an
identifier in the field that names people with it. What merely looks like one elsewhere (an order
number that is also somebody's user id) is left alone, or others would lose their lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cdp.delivery import Erasure

# Fields of an event that name people, by the namespace of what stands in them.
_FIELDS: Final = {
    "user_id": ("userId", "previousId"),
    "anonymous_id": ("anonymousId", "previousId"),
}
# Namespaces whose values stand in traits and properties, under these names.
_TRAITS: Final = {
    "email": ("email",),
    "email_canonical": ("email",),
    "phone": ("phone",),
    "crm_id": ("crm_id", "crmId"),
}
_DEVICE: Final = {"device_id": ("id",), "ad_id": ("advertisingId",)}
_CONTAINERS: Final = ("traits", "properties")


class _Line(msgspec.Struct, rename="camel"):
    profile_id: str | None = None
    other_profile_id: str | None = None
    event: dict[str, Any] | None = None


class Person:
    """Whom an erasure is about."""

    def __init__(self, erasure: Erasure) -> None:
        self._profile_ids = frozenset(erasure.profile_ids)
        self._values: dict[str, set[str]] = {}
        for namespace, value in erasure.identifiers:
            self._values.setdefault(namespace, set()).add(_comparable(namespace, value))

    def is_in_line(self, line: bytes) -> bool:
        """Whether a line of a file is about the person."""
        read = _decode(line)
        return self.is_in(read.profile_id, read.other_profile_id, read.event)

    def is_in(
        self, profile_id: str | None, other_profile_id: str | None, event: dict[str, Any] | None
    ) -> bool:
        """Whether a delivery was about the person."""
        if profile_id in self._profile_ids or other_profile_id in self._profile_ids:
            return True
        return event is not None and any(
            _comparable(namespace, value) in self._values.get(namespace, ())
            for namespace, value in _named(event, self._values)
        )


def _named(event: dict[str, Any], namespaces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What an event names in these namespaces, wherever senders put it."""
    context = _table(event.get("context"))
    containers = [_table(event.get(name)) for name in _CONTAINERS]
    containers.append(_table(context.get("traits")))
    device = _table(context.get("device"))
    external_ids = context.get("externalIds")
    for namespace in namespaces:
        yield from _texts(namespace, event, _FIELDS.get(namespace, ()))
        for container in containers:
            yield from _texts(namespace, container, _TRAITS.get(namespace, ()))
        yield from _texts(namespace, device, _DEVICE.get(namespace, ()))
        if isinstance(external_ids, list):
            yield from _external(namespace, external_ids)


def _texts(
    namespace: str, container: dict[str, Any], names: Iterable[str]
) -> Iterator[tuple[str, str]]:
    for name in names:
        value = container.get(name)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            yield namespace, str(value)


def _external(namespace: str, items: list[Any]) -> Iterator[tuple[str, str]]:
    """An external id counts whatever its type is called: senders' names for types differ."""
    for item in items:
        value = item.get("id") if isinstance(item, dict) else None
        if isinstance(value, str):
            yield namespace, value
            yield namespace, f"{item.get('type')}:{value}"


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _comparable(namespace: str, value: str) -> str:
    """The form in which two spellings of one identifier are equal."""
    if namespace == "phone":
        return "".join(letter for letter in value if letter.isdigit()).lstrip("0")
    return value.strip().casefold()


_decode = msgspec.json.Decoder(_Line).decode
