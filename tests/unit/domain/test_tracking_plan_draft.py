"""A plan drafted from events: of names and types, never values, and fit for those events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.domain.event import EVENT_SCHEMA, EVENT_TYPES, Event
from cdp.domain.plan_draft import draft
from cdp.domain.tracking_plan import UNDECIDED, parse_plan
from cdp.domain.traffic import KEYS_MAX, KINDS_MAX, Traffic
from cdp.errors import ConfigError
from cdp.ingestion.plan import PlanCheck
from cdp.telemetry import Metrics


def event(type_: Any = "track", name: str | None = "Bought", **fields: Any) -> Event:
    return Event(EVENT_SCHEMA, type_, "m", "web", 1, 1, event=name, **fields)


def counted(*events: Event) -> dict[str, Any]:
    traffic = Traffic()
    for one in events:
        traffic.add(one)
    return traffic.as_json()


def fields(*events: Event) -> dict[str, tuple[int, dict[str, int]]]:
    found = counted(*events)["kinds"][0]["fields"]
    return {one["path"]: (one["count"], one["types"]) for one in found}


def test_fields_are_counted_by_path_and_type_and_no_value_is_kept() -> None:
    first = {"total": 3, "at": "2026-03-01T12:00:00Z", "lines": [{"sku": "secret"}, {"sku": 2}]}
    second = {"total": None, "tags": ["secret"], "shop": {"name": "secret", "open": True}}
    found = fields(event(properties=first), event(properties=second))
    assert found == {
        "properties.total": (2, {"number": 1, "null": 1}),
        "properties.at": (1, {"time": 1}),
        "properties.lines[].sku": (2, {"string": 1, "number": 1}),
        "properties.tags[]": (1, {"string": 1}),
        "properties.shop.name": (1, {"string": 1}),
        "properties.shop.open": (1, {"boolean": 1}),
    }
    assert "secret" not in json.dumps(counted(event(properties=first), event(properties=second)))


def test_an_object_with_many_keys_or_odd_ones_is_a_map_and_its_keys_are_forgotten() -> None:
    ratings = {f"person {place}": 1 for place in range(KEYS_MAX + 1)}
    found = fields(event(properties={"ratings": ratings, "by": {"ada@example.com": 1}}))
    assert found == {"properties.ratings": (1, {"object": 1}), "properties.by": (1, {"object": 1})}


def test_kinds_of_events_have_a_limit() -> None:
    found = counted(*(event(name=f"e{place}") for place in range(KINDS_MAX + 7)))
    assert (len(found["kinds"]), found["uncounted"]) == (KINDS_MAX, 7)
    assert found["events"] == KINDS_MAX + 7


def test_a_draft_is_a_plan_but_for_its_purposes() -> None:
    events = [event(properties={"total": place, "note": "x"}) for place in range(30)]
    events += [event(properties={"total": 1}), event("page", None), event(name="page")]
    events += [event("identify", None, traits={"email": "e"}, extra={"channel": "web"})]
    text = draft(counted(*events))
    with pytest.raises(ConfigError) as caught:
        parse_plan(text, "draft")
    problems = str(caught.value).splitlines()
    assert len(problems) == 4
    assert all(f"is still {UNDECIDED}" in one for one in problems)
    plan = parse_plan(text.replace(UNDECIDED, "none"), "draft")
    assert [one.key for one in plan.events] == ["Bought", "page", "page", "identify"]
    bought = {one.path: (one.type, one.required) for one in plan.events[0].fields}
    assert bought == {"properties.total": ("number", True), "properties.note": ("string", False)}
    assert {one.path for one in plan.events[3].fields} == {"traits.email", "extra.channel"}
    assert "in 97 % of 31 events" in text


_keys = st.text("abc .[@é", min_size=1, max_size=3)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(0, 1), st.text(max_size=4),
    st.just("2026-03-01T12:00:00Z"),
)  # fmt: skip
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
_objects = st.dictionaries(_keys, _values, max_size=5)
_events = st.builds(
    event,
    st.sampled_from(EVENT_TYPES),
    st.sampled_from(["Bought", "page", "track/x", "Ä: b"]),
    properties=_objects,
    traits=_objects,
    extra=_objects,
)


@settings(max_examples=120, deadline=None)
@given(st.lists(_events, min_size=1, max_size=8))
def test_a_finished_draft_lets_the_events_pass_that_it_was_drafted_from(
    events: list[Event],
) -> None:
    plan = parse_plan(draft(counted(*events)).replace(UNDECIDED, "none"), "draft")
    check = PlanCheck(plan, quarantine_unplanned=True, drop_unplanned=False, metrics=Metrics())
    for one in events:
        check.hold(one)
