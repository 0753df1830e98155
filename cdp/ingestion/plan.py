"""Holds events against the tracking plan: allowed, without some fields, or quarantined.

A plan is compiled once into one table for each kind of event, from a key to the types it may have
and what else to look at, so that a planned field costs one lookup. A field that is not planned is
taken out of the event before it is stored; an event that breaks the plan becomes a rejected event
with the code `quarantined`, which can be repaired and sent again.

Names of dropped fields are counted here, and not in the metrics: senders choose them, and there
are objects whose keys are people.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cdp.domain.tracking_plan import parse_plan
from cdp.errors import ConfigError
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.timestamps import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.config_consent import TrackingPlanConfig
    from cdp.domain.event import Event
    from cdp.domain.tracking_plan import Field, TrackingPlan
    from cdp.telemetry import Counter, Metrics

QUARANTINED: Final = "quarantined"
NAMES_MAX: Final = 200  # names of dropped fields that are counted apart; the rest is `other`
PATTERN_CHARS_MAX: Final = 4_096  # a longer text matches no pattern

_INDEX: Final = re.compile(r"\[[0-9]+\]")
_SCALARS: Final = frozenset({str, int, float, bool})
_TYPES: Final[dict[str, frozenset[type]]] = {
    "string": frozenset({str}),
    "number": frozenset({int, float}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "time": frozenset({str}),
    "list": frozenset({list}),
    "object": frozenset({dict}),
    "any": _SCALARS | {list, dict, type(None)},
}

# What the stamp was read from: the proof of it stays with the event.
_ALWAYS_KEPT: Final = frozenset({"consent"})

# Looks closer at a value whose type is right; the path is where it stands.
_Look: TypeAlias = Callable[[Any, str], None]


def read_plan(config: TrackingPlanConfig) -> TrackingPlan | None:
    """The plan that the configuration names; None where it names none. Raises ConfigError."""
    file = config.file
    if file is None:
        return None
    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text in utf-8"
        raise ConfigError(f"tracking_plan.file: {file}: {reason}; name a readable plan") from error
    return parse_plan(text, str(file))


def open_plan(config: TrackingPlanConfig, metrics: Metrics) -> PlanCheck | None:
    """What events are held against; None where there is no plan. Raises ConfigError."""
    plan = read_plan(config)
    if plan is None:
        return None
    return PlanCheck(
        plan,
        quarantine_unplanned=config.unplanned_events == "quarantine",
        drop_unplanned=config.unplanned_fields == "drop",
        metrics=metrics,
    )


class PlanCheck:
    """The plan, ready for events. `dropped` counts the fields that were taken out, by path."""

    def __init__(
        self,
        plan: TrackingPlan,
        *,
        quarantine_unplanned: bool,
        drop_unplanned: bool,
        metrics: Metrics,
    ) -> None:
        self.plan = plan
        self.dropped: dict[str, int] = {}
        self._quarantine = quarantine_unplanned
        self._drop = drop_unplanned
        self._metrics = metrics
        self._tracks: dict[str | None, _Kind] = {}
        self._types: dict[str, _Kind] = {}
        for event in plan.events:
            kind = self._compile(event.key, (*event.fields, *(plan.context or ())), plan)
            if event.type == "track":
                self._tracks[event.name] = kind
            else:
                self._types[event.type] = kind
        self._unplanned = self._compile("other", plan.context or (), plan, planned=False)

    def hold(self, event: Event) -> None:
        """Takes unplanned fields out of an event.

        Raises:
            Rejection: the event or a field of it is not as planned.
        """
        kind = self._types.get(event.type)
        if kind is None:
            kind = self._tracks.get(event.event) if event.type == "track" else None
        if kind is None:
            if self._quarantine:
                raise Rejection(QUARANTINED, "event is not in the tracking plan", path="event")
            kind = self._unplanned
        if kind.properties is not None:
            kind.properties(event.properties, "properties")
        if kind.traits is not None:
            kind.traits(event.traits, "traits")
        if kind.context is not None:
            kind.context(event.context, "context")
        if kind.context_traits is not None:
            traits = event.context.get("traits")
            if type(traits) is dict and traits is not event.traits:
                kind.context_traits(traits, "context.traits")
        if kind.extra is not None:
            kind.extra(event.extra, "")

    def _compile(
        self, key: str, fields: Iterable[Field], plan: TrackingPlan, *, planned: bool = True
    ) -> _Kind:
        counter = self._metrics.counter("cdp_ingestion_dropped_fields_total", event=key)
        tree, kind = _tree(fields), _Kind()
        for root in ("properties", "traits", "extra"):
            node = tree.children.get(root)
            if planned and (node or self._drop):
                setattr(kind, root, self._object(node or _Node(), counter, drop=self._drop))
        node = tree.children.get("context") or _Node()
        drop = self._drop and plan.context is not None
        if drop or node.children:
            kind.context = self._object(node, counter, drop=drop, kept=_ALWAYS_KEPT)
        if self._drop and plan.context is None:
            kind.context_traits = self._object(_traits(plan), counter, drop=True, whole=False)
        return kind

    def _object(
        self,
        node: _Node,
        counter: Counter,
        *,
        drop: bool,
        kept: frozenset[str] = frozenset(),
        whole: bool = True,
    ) -> _Look:
        """Looks at an object: each key's type, what is missing if `whole`, what is not planned."""
        table = {key: self._entry(child, counter, drop) for key, child in node.children.items()}
        find = table.get
        required = tuple(key for key, child in node.children.items() if whole and child.required)

        def look(value: dict[str, Any], path: str) -> None:
            surplus: list[str] | None = None
            for key, one in value.items():
                entry = find(key)
                if entry is None:
                    if drop and key not in kept:
                        surplus = [key] if surplus is None else [*surplus, key]
                    continue
                types, closer, wanted = entry
                if type(one) not in types:
                    if one is not None:
                        raise _wrong_type(path, key, wanted)
                elif closer is not None:
                    closer(one, f"{path}.{key}" if path else key)
            for key in required:
                if value.get(key) is None:
                    place = f"{path}.{key}" if path else key
                    raise Rejection(QUARANTINED, f"{place} is missing; add it", path=place)
            if surplus:
                self._take_out(value, surplus, path, counter)

        return look

    def _entry(
        self, node: _Node, counter: Counter, drop: bool
    ) -> tuple[frozenset[type], _Look | None, str]:
        return _TYPES[node.type], self._closer(node, counter, drop), node.type

    def _closer(self, node: _Node, counter: Counter, drop: bool) -> _Look | None:
        if node.items is not None:
            return self._list(node.items, counter, drop)
        if node.children:
            return self._object(node, counter, drop=drop)
        if node.enum:
            return _enum(frozenset((type(one), one) for one in node.enum))
        if node.pattern is not None:
            return _pattern(node.pattern)
        return _time if node.type == "time" else None

    def _list(self, node: _Node, counter: Counter, drop: bool) -> _Look:
        types, closer, wanted = self._entry(node, counter, drop)

        def look(value: list[Any], path: str) -> None:
            for index, one in enumerate(value):
                if type(one) not in types:
                    raise _wrong_type(path, f"[{index}]", wanted)
                if closer is not None:
                    closer(one, f"{path}[{index}]")

        return look

    def _take_out(
        self, value: dict[str, Any], keys: list[str], path: str, counter: Counter
    ) -> None:
        counts = self.dropped
        for key in keys:
            del value[key]
            name = _INDEX.sub("[]", f"{path}.{key}" if path else key)
            if name not in counts and len(counts) >= NAMES_MAX:
                name = "other"
            counts[name] = counts.get(name, 0) + 1
        counter.add(len(keys))


class _Kind:
    """What to look at in one kind of event; None: nothing."""

    __slots__ = ("context", "context_traits", "extra", "properties", "traits")

    def __init__(self) -> None:
        self.properties: _Look | None = None
        self.traits: _Look | None = None
        self.context: _Look | None = None
        self.context_traits: _Look | None = None  # some senders repeat a person's traits there
        self.extra: _Look | None = None


class _Node:
    """A place in the tree of planned fields. What only lies above a field is an object or list."""

    __slots__ = ("children", "enum", "items", "pattern", "required", "type")

    def __init__(self) -> None:
        self.type = "object"
        self.required = False
        self.enum: tuple[Any, ...] = ()
        self.pattern: str | None = None
        self.children: dict[str, _Node] = {}
        self.items: _Node | None = None


def _traits(plan: TrackingPlan) -> _Node:
    """What an identify may say of a person, wherever it is said."""
    fields = (field for event in plan.events if event.type == "identify" for field in event.fields)
    return _tree(fields).children.get("traits") or _Node()


def _tree(fields: Iterable[Field]) -> _Node:
    root = _Node()
    for field in fields:
        node = root
        for part in field.path.split("."):
            name = part.removesuffix("[]")
            node = node.children.setdefault(name, _Node())
            if part.endswith("[]"):
                node.type = "list"
                node.items = node.items or _Node()
                node = node.items
        node.type, node.required = field.type, field.required
        node.enum, node.pattern = field.enum, field.pattern
    return root


def _wrong_type(path: str, key: str, wanted: str) -> Rejection:
    place = f"{path}{key}" if key.startswith("[") else f"{path}.{key}" if path else key
    article = "an" if wanted[0] in "aio" else "a"
    return Rejection(QUARANTINED, f"{place} must be {article} {wanted}", path=place)


def _enum(allowed: frozenset[tuple[type, Any]]) -> _Look:
    def look(value: Any, path: str) -> None:
        if type(value) in (list, dict) or (type(value), value) not in allowed:
            text = f"{path} is not one of the values that are planned"
            raise Rejection(QUARANTINED, text, path=path)

    return look


def _pattern(pattern: str) -> _Look:
    matches = re.compile(pattern).fullmatch

    def look(value: str, path: str) -> None:
        if len(value) > PATTERN_CHARS_MAX or matches(value) is None:
            raise Rejection(QUARANTINED, f"{path} does not match its pattern", path=path)

    return look


def _time(value: str, path: str) -> None:
    if parse_time(value) is None:
        raise Rejection(QUARANTINED, f"{path} must be a time (RFC 3339)", path=path)
