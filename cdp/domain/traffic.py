"""What events look like: which kinds there are, with which fields of which types. Never a value.

Senders choose names, and some objects have people or ids for keys. So an object with many
different keys is taken for a map and its keys are forgotten, and there is a limit to everything.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdp.domain.event import Event

KINDS_MAX: Final = 500  # kinds of events; further ones are only counted
KEYS_MAX: Final = 60  # different keys of one object; with more it is a map
DEPTH_MAX: Final = 6
ITEMS_MAX: Final = 20  # items of a list that are looked at
ROOTS: Final = ("properties", "traits", "context", "extra")

_TIME: Final = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d)T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z"
)
_NAMES: Final = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    list: "list",
    dict: "object",
}


class Traffic:
    """Counts kinds and fields of events as they are added."""

    def __init__(self) -> None:
        self.events = 0
        self.uncounted = 0  # events of kinds beyond the limit
        self._kinds: dict[tuple[str, str | None], _Place] = {}

    def add(self, event: Event) -> None:
        """Counts one event."""
        self.events += 1
        key = (event.type, event.event if event.type == "track" else None)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= KINDS_MAX:
                self.uncounted += 1
                return
            kind = self._kinds[key] = _Place()
        kind.count += 1
        for root in ROOTS:
            value = getattr(event, root)
            if value:
                kind.child(root).see(value, 1)

    def as_json(self) -> dict[str, Any]:
        """Everything that was counted, the kinds with most events first."""
        kinds = sorted(self._kinds.items(), key=lambda item: -item[1].count)
        return {
            "events": self.events,
            "uncounted": self.uncounted,
            "kinds": [
                {
                    "type": type_,
                    "event": name,
                    "count": kind.count,
                    "fields": [
                        {"path": path, "count": place.count, "types": dict(place.types)}
                        for root, child in kind.children.items()
                        for path, place in child.leaves(root)
                    ],
                }
                for (type_, name), kind in kinds
            ],
        }


class _Place:
    """One place in events of a kind: how often it was there, and what it held."""

    __slots__ = ("children", "count", "is_map", "items", "types")

    def __init__(self) -> None:
        self.count = 0
        self.types: Counter[str] = Counter()
        self.children: dict[str, _Place] = {}
        self.items: _Place | None = None
        self.is_map = False

    def child(self, key: str) -> _Place:
        found = self.children.get(key)
        if found is None:
            found = self.children[key] = _Place()
        return found

    def see(self, value: Any, depth: int) -> None:
        self.count += 1
        self.types[_name(value)] += 1
        if depth >= DEPTH_MAX:
            return
        if type(value) is dict and not self.is_map:
            for key, one in value.items():
                if _can_be_planned(key):
                    self.child(key).see(one, depth + 1)
                elif depth > 1:  # at the top one odd key says nothing about the others
                    self.is_map = True
            if self.is_map or len(self.children) > KEYS_MAX:
                self.is_map = True
                self.children = {}
        elif type(value) is list:
            self.items = self.items or _Place()
            for one in value[:ITEMS_MAX]:
                self.items.see(one, depth + 1)

    def leaves(self, path: str) -> Iterator[tuple[str, _Place]]:
        """The places that a plan would name, below this one."""
        held = self.types.keys() - {"null"}
        nullable = "null" in self.types and path.endswith("[]")
        if self.children and held == {"object"} and not nullable:
            for key, child in self.children.items():
                yield from child.leaves(f"{path}.{key}")
        elif self.items and self.items.count and held == {"list"} and not path.endswith("[]"):
            yield from self.items.leaves(f"{path}[]")
        else:
            yield path, self


def _can_be_planned(key: str) -> bool:
    """Whether a path could name this key."""
    return bool(key) and not any(one in key for one in ".[]@")


def _name(value: Any) -> str:
    if type(value) is str:
        return "time" if _TIME.fullmatch(value) else "string"
    return _NAMES.get(type(value), "any")
