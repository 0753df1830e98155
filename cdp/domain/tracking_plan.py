"""A tracking plan: which events and fields there may be, of what type, for what, and how long.

    version: 1
    events:
      Order Completed:                  # the name of a track event, or page, screen, group, alias
        purpose: orders                 # of the fields that name none themselves
        fields:
          properties.order_id: {type: string, required: true}
          properties.total: {type: number, purpose: [orders, analytics], retention_days: 365}
          properties.products[].sku: {type: string, pattern: "[A-Z]{3}-[0-9]+"}
    identify:
      traits:
        email: {type: string, purpose: email}
    context:                            # of every event; without it the context is not planned
      page.url: {type: string, purpose: none}

Every field has a documented purpose; `none` says that it serves none that anybody consents to.
Reading a plan is strict: what is not known is an error that names its place and what is allowed.
Holding events against it is `cdp.ingestion.plan`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import yaml

from cdp.domain.event import EVENT_TYPES
from cdp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

PLAN_VERSION: Final = 1
FIELD_TYPES: Final = ("string", "number", "integer", "boolean", "time", "list", "object", "any")
ROOTS: Final = ("properties", "traits", "context", "extra")
NO_PURPOSE: Final = "none"
UNDECIDED: Final = "todo".upper()  # the purpose that `infer` writes, and that no plan may keep

_TOP_KEYS: Final = ("version", "description", "events", "identify", "context")
_EVENT_KEYS: Final = ("description", "purpose", "retention_days", "fields")
_IDENTIFY_KEYS: Final = ("description", "purpose", "retention_days", "traits", "fields")
_FIELD_KEYS: Final = (
    *("type", "required", "purpose", "retention_days"),
    *("enum", "pattern", "description"),
)
_PARTS: Final = re.compile(r"[^.\[\]]+(?:\[\])?(?:\.[^.\[\]]+(?:\[\])?)*")


@dataclass(frozen=True, slots=True)
class Field:
    """One planned field. `path` is dotted, `[]` stands for every item of a list."""

    path: str
    type: str
    required: bool
    purposes: tuple[str, ...]  # empty: documented as `none`
    retention_days: float | None
    enum: tuple[Hashable, ...]
    pattern: str | None


@dataclass(frozen=True, slots=True)
class EventPlan:
    """What one kind of event may hold. `name` is that of a track event, else None."""

    type: str
    name: str | None
    fields: tuple[Field, ...]

    @property
    def key(self) -> str:
        """How the plan names it."""
        return self.type if self.name is None else self.name


@dataclass(frozen=True, slots=True)
class TrackingPlan:
    """A whole plan. `context` is None where the context of events is not planned."""

    events: tuple[EventPlan, ...]
    context: tuple[Field, ...] | None
    digest: str  # SHA-256 of the text, to tell which plan held

    def fields(self) -> Iterator[tuple[str, Field]]:
        """Every field, with the name of its event; the context's under `context`."""
        for event in self.events:
            for field in event.fields:
                yield event.key, field
        for field in self.context or ():
            yield "context", field


def parse_plan(text: str, file: str) -> TrackingPlan:
    """The plan in a YAML text. `file` is for error texts.

    Raises:
        ConfigError: names every problem, one a line.
    """
    try:
        raw = yaml.load(text, Loader=_StrictLoader)  # a safe loader that refuses duplicate keys
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be read"
        raise ConfigError(f"{file}{place}: not a plan in yaml: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{file}: not a plan in yaml: nested too deep") from error
    reader = _Reader(file)
    plan = reader.plan(raw, sha256(text.encode()).hexdigest())
    if reader.problems:
        raise ConfigError("\n".join(reader.problems))
    return plan


class _StrictLoader(yaml.SafeLoader):
    """Plain values only. A key that stands twice is an error: yaml would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"the key {key!r} must be text: put it in quotes",
                    key_node.start_mark,
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Reader:
    """Turns plain values into a plan, and collects what is wrong with them."""

    def __init__(self, file: str) -> None:
        self.problems: list[str] = []
        self._file = file

    def plan(self, raw: Any, digest: str) -> TrackingPlan:
        top = self._table(raw, "", _TOP_KEYS)
        if top.get("version") != PLAN_VERSION:
            self._wrong("version", f"must be {PLAN_VERSION}")
        events = [
            self._event(key, one, f"events.{key}")
            for key, one in self._table(top.get("events"), "events", None).items()
        ]
        if "identify" in top:
            events.append(self._identify(top["identify"]))
        kinds = [(one.type, one.name) for one in events]
        for kind in {kind for kind in kinds if kinds.count(kind) > 1}:
            self._wrong(f"events.{kind[1] or kind[0]}", "is planned twice")
        context = None
        if "context" in top:
            context = self._fields(top["context"], "context", {}, root="context.")
        return TrackingPlan(tuple(events), context, digest)

    def _event(self, key: str, raw: Any, at: str) -> EventPlan:
        table = self._table(raw, at, _EVENT_KEYS)
        if key == "track":
            self._wrong(at, "name the track event; a track event called so is `track/track`")
        is_type = key in EVENT_TYPES
        name = None if is_type else key.removeprefix("track/")
        fields = self._fields(table.get("fields"), f"{at}.fields", table)
        return EventPlan(key if is_type else "track", name, fields)

    def _identify(self, raw: Any) -> EventPlan:
        table = self._table(raw, "identify", _IDENTIFY_KEYS)
        traits = self._fields(table.get("traits"), "identify.traits", table, root="traits.")
        more = self._fields(table.get("fields"), "identify.fields", table)
        return EventPlan("identify", None, traits + more)

    def _fields(
        self, raw: Any, at: str, above: dict[str, Any], root: str = ""
    ) -> tuple[Field, ...]:
        found: dict[str, Field] = {}
        for path, one in self._table(raw, at, None).items():
            place = f"{at}.{path}"
            full = root + path
            if not _PARTS.fullmatch(full):
                self._wrong(place, "must be names with dots between them, such as a.b or a[].b")
            elif full.partition(".")[0] not in ROOTS or "." not in full:
                self._wrong(place, f"must begin with one of {', '.join(f'{r}.' for r in ROOTS)}")
            else:
                found[full] = self._field(full, one, place, above)
        for path, field in found.items():
            self._check_parents(path, field, found, at)
        return tuple(found.values())

    def _check_parents(self, path: str, field: Field, all_: dict[str, Field], at: str) -> None:
        """What lies in a field that is planned too must fit the type of that field."""
        for other, above in all_.items():
            inside = path.startswith((f"{other}.", f"{other}[]"))
            needed = "list" if path.startswith(f"{other}[]") else "object"
            if inside and path != other and above.type != needed:
                self._wrong(f"{at}.{other}.type", f"must be {needed}, as {field.path} lies in it")

    def _field(self, path: str, raw: Any, at: str, above: dict[str, Any]) -> Field:
        table = self._table(raw, at, _FIELD_KEYS)
        type_ = table.get("type")
        if type_ not in FIELD_TYPES:
            self._wrong(f"{at}.type", f"must be one of {', '.join(FIELD_TYPES)}")
        required = table.get("required", False)
        if not isinstance(required, bool):
            self._wrong(f"{at}.required", "must be true or false")
        enum = table.get("enum", [])
        if not isinstance(enum, list) or not all(_is_scalar(one) for one in enum):
            self._wrong(f"{at}.enum", "must be a list of texts, numbers or true and false")
            enum = []
        purpose = table.get("purpose", above.get("purpose"))
        return Field(
            path=path,
            type=str(type_),
            required=required is True,
            purposes=self._purposes(purpose, f"{at}.purpose"),
            retention_days=self._days(
                table.get("retention_days", above.get("retention_days")), f"{at}.retention_days"
            ),
            enum=tuple(enum),
            pattern=self._pattern(table.get("pattern"), type_, f"{at}.pattern"),
        )

    def _purposes(self, raw: Any, at: str) -> tuple[str, ...]:
        names = raw if isinstance(raw, list) else [raw]
        if not names or not all(isinstance(one, str) and one.strip() for one in names):
            self._wrong(at, f"must be a purpose or a list of them, or `{NO_PURPOSE}`")
            return ()
        if any(one.strip().upper() == UNDECIDED for one in names):
            self._wrong(at, f"is still {UNDECIDED}: say what the field is for, or `{NO_PURPOSE}`")
            return ()
        if NO_PURPOSE in names and len(names) > 1:
            self._wrong(at, f"`{NO_PURPOSE}` stands alone")
        return tuple(one for one in names if one != NO_PURPOSE)

    def _days(self, raw: Any, at: str) -> float | None:
        if raw is None:
            return None
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw < 1e6:
            self._wrong(at, "must be a number of days above 0")
            return None
        return float(raw)

    def _pattern(self, raw: Any, type_: Any, at: str) -> str | None:
        if raw is None:
            return None
        try:
            re.compile(raw)
        except (TypeError, re.error) as error:
            self._wrong(at, f"must be a regular expression: {error}")
            return None
        if type_ != "string":
            self._wrong(at, "is only for fields of type string")
        return str(raw)

    def _table(self, raw: Any, at: str, allowed: tuple[str, ...] | None) -> dict[str, Any]:
        if raw is None and at:
            return {}
        if not isinstance(raw, dict):
            self._wrong(at, "must be a table of keys and values")
            return {}
        for key in raw if allowed is not None else ():
            if key not in allowed:  # type: ignore[operator]  # it is not None: see above
                place = f"{at}.{key}" if at else key
                self._wrong(place, f"is not known; known are {', '.join(allowed or ())}")
        return raw

    def _wrong(self, at: str, text: str) -> None:
        self.problems.append(f"{self._file}: {at}: {text}" if at else f"{self._file}: {text}")


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)
