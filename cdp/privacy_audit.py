"""What is kept without need: fields without a purpose, fields that nobody uses, data past its time.

Reads the tracking plan, the destinations' purposes, a sample of live traffic and the old end of the
event log, a few events at a time. Names of fields and counts only, never a value.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from cdp.clock import DAY_US
from cdp.delivery.owed import decode_dead, end_of, prefix_of
from cdp.domain.event import decode_event
from cdp.domain.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from cdp.config import Retention
    from cdp.domain.event import Event
    from cdp.domain.tracking_plan import Field, TrackingPlan
    from cdp.storage.log import Log
    from cdp.storage.store import Store

SAMPLED_EVENTS: Final = 2_000  # of the latest, to see which fields there are
OLD_EVENTS_MAX: Final = 100_000  # looked at, from the oldest on
ROWS_MAX: Final = 100_000  # of rejected events and dead letters that are counted
_STEP: Final = 64

NO_PLAN: Final = "no_plan"
NO_PURPOSE: Final = "no_purpose"
UNPLANNED: Final = "unplanned"
UNUSED: Final = "unused"
PAST_RETENTION: Final = "past_retention"

# What each kind of finding means, in words that a data-protection officer can use.
KINDS: Final[Mapping[str, str]] = {
    NO_PLAN: "no tracking plan is in force, so no field has a documented purpose",
    NO_PURPOSE: "the plan documents no purpose for the field",
    UNPLANNED: "the field comes in and is stored, and the plan does not know it",
    UNUSED: "no destination that is switched on is used for a purpose of the field",
    PAST_RETENTION: "kept longer than it should be",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to see to. `where` is a field of an event, or a store; `count` 0: not countable."""

    kind: str
    where: str
    text: str
    count: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the control plane."""
        return asdict(self)


async def privacy_audit(
    *,
    plan: TrackingPlan | None,
    uses: Mapping[str, Collection[str]],
    destinations: Iterable[str],
    retention: Retention,
    store: Store,
    events: Log,
    now_us: int,
) -> list[Finding]:
    """Everything that was found.

    `uses` are the purposes of each destination that is switched on; `destinations` the names of
    all of them.
    """
    found = list(_about_plan(plan, uses)) if plan is not None else []
    found += await _about_traffic(plan, events)
    found += await _about_old_events(plan, retention, events, now_us)
    found += _about_old_rows(retention, store, destinations, now_us)
    return found


def _about_plan(plan: TrackingPlan, uses: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    used = {purpose for purposes in uses.values() for purpose in purposes}
    for event, field in plan.fields():
        where = f"{event}: {field.path}"
        if not field.purposes:
            yield Finding(NO_PURPOSE, where, KINDS[NO_PURPOSE])
        elif used.isdisjoint(field.purposes):
            text = f"{KINDS[UNUSED]} ({', '.join(field.purposes)})"
            yield Finding(UNUSED, where, text)


async def _about_traffic(plan: TrackingPlan | None, events: Log) -> list[Finding]:
    """Fields that come in and that no plan knows, with how many of the latest events have them."""
    traffic = Traffic()
    start = max(events.start, events.published - SAMPLED_EVENTS)
    for batch in _batches(events, start, SAMPLED_EVENTS):
        for event in batch:
            traffic.add(event)
        await trio.lowlevel.checkpoint()
    kinds = traffic.as_json()["kinds"]
    if plan is None:
        if not kinds:
            return []
        fields = sum(len(kind["fields"]) for kind in kinds)
        return [Finding(NO_PLAN, "events", KINDS[NO_PLAN], fields)]
    return list(_unplanned(plan, kinds))


def _unplanned(plan: TrackingPlan, kinds: list[dict[str, Any]]) -> Iterator[Finding]:
    planned = {(one.type, one.name): _paths(one.fields) for one in plan.events}
    context = None if plan.context is None else _paths(plan.context)
    for kind in kinds:
        name = kind["event"] or kind["type"]
        paths = planned.get((kind["type"], kind["event"]))
        if paths is None:
            yield Finding(UNPLANNED, name, "the plan does not know this event", kind["count"])
            continue
        for field in kind["fields"]:
            path = field["path"]
            if path.startswith("context."):
                known = context is None or _is_planned(path, context | paths)
            else:
                known = _is_planned(path, paths)
            if not known:
                yield Finding(UNPLANNED, f"{name}: {path}", KINDS[UNPLANNED], field["count"])


def _paths(fields: Iterable[Field]) -> set[str]:
    return {field.path for field in fields}


def _is_planned(path: str, planned: set[str]) -> bool:
    """Whether a plan knows a path, what it lies in, or something in it."""
    bare = path.replace("[]", "")
    return any(
        bare == one or bare.startswith(f"{one}.") or one.startswith(f"{bare}.")
        for one in (path.replace("[]", "") for path in planned)
    )


async def _about_old_events(
    plan: TrackingPlan | None, retention: Retention, events: Log, now_us: int
) -> list[Finding]:
    """What is past its retention in the log: whole events, and planned fields of them."""
    limit_us = int(retention.age_days_max * DAY_US)
    kept_us = _kept_us(plan)
    youngest_us = min([limit_us, *(us for fields in kept_us.values() for _, us in fields)])
    too_old, expired = 0, Counter[tuple[str, str]]()
    for batch in _batches(events, events.start, OLD_EVENTS_MAX):
        for event in batch:
            age_us = now_us - event.received_at_us
            too_old += age_us > limit_us
            for path, field_us in kept_us.get(_kind(event), ()):
                if age_us > field_us and _has(event, path):
                    expired[(event.event if event.type == "track" else event.type) or "", path] += 1
        if batch and now_us - batch[-1].received_at_us <= youngest_us:
            break  # the log is in the order of receiving
        await trio.lowlevel.checkpoint()
    found = []
    if too_old:
        days = f"{retention.age_days_max:g} days"
        text = (
            f"events older than {days}: {KINDS[PAST_RETENTION]}; a reader that is behind holds them"
        )
        found.append(Finding(PAST_RETENTION, "event log", text, too_old))
    for (name, path), count in sorted(expired.items()):
        found.append(Finding(PAST_RETENTION, f"{name}: {path}", KINDS[PAST_RETENTION], count))
    return found


_Kind = tuple[str, str | None]


def _kept_us(plan: TrackingPlan | None) -> dict[_Kind, list[tuple[str, int]]]:
    """How long the fields of each kind of event may be kept, where the plan says so."""
    kept: dict[_Kind, list[tuple[str, int]]] = {}
    for event in plan.events if plan is not None else ():
        for field in (*event.fields, *((plan and plan.context) or ())):
            if field.retention_days is not None:
                days_us = int(field.retention_days * DAY_US)
                kept.setdefault((event.type, event.name), []).append((field.path, days_us))
    return kept


def _kind(event: Event) -> _Kind:
    return event.type, event.event if event.type == "track" else None


def _has(event: Event, path: str) -> bool:
    """Whether an event holds anything at a planned path."""
    root, _, rest = path.partition(".")
    return _holds(getattr(event, root), rest.split("."))


def _holds(value: Any, parts: list[str]) -> bool:
    if not parts:
        return value is not None
    name = parts[0].removesuffix("[]")
    inner = value.get(name) if type(value) is dict else None
    if inner is None or not parts[0].endswith("[]"):
        return inner is not None and _holds(inner, parts[1:])
    return type(inner) is list and any(_holds(one, parts[1:]) for one in inner)


def _about_old_rows(
    retention: Retention, store: Store, destinations: Iterable[str], now_us: int
) -> Iterator[Finding]:
    """Rejected events and dead letters that should be gone."""
    days = retention.rejected_age_days_max
    end = max(0, now_us - int(days * DAY_US)).to_bytes(8, "big")
    old = len(store.scan("rejected", b"", end, limit=ROWS_MAX))
    if old:
        text = f"rejected events older than {days:g} days: {KINDS[PAST_RETENTION]}"
        yield Finding(PAST_RETENTION, "rejected events", text, old)
    since_us = now_us - int(retention.age_days_max * DAY_US)
    for name in destinations:
        rows = store.scan("dead", prefix_of(name), end_of(name), limit=ROWS_MAX)
        dead = sum(decode_dead(value).died_at_us < since_us for _, value in rows)
        if dead:
            text = f"dead letters older than {retention.age_days_max:g} days: redrive or drop them"
            yield Finding(PAST_RETENTION, f"dead letters of {name}", text, dead)


def _batches(events: Log, offset: int, count: int) -> Iterator[list[Event]]:
    """Events from an offset on, a few at a time; erased ones are passed over."""
    end = min(events.published, offset + count)
    while offset < end:
        entries = [one for one in events.read(offset, _STEP) if one.offset < end]
        if not entries:
            return
        for index in range(0, len(entries), _STEP):
            part = entries[index : index + _STEP]
            yield [decode_event(entry.record) for entry in part if entry.record]
        offset = entries[-1].offset + 1
