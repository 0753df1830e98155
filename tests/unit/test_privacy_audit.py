"""What is kept without need: each finding by its kind, place and count."""

from __future__ import annotations

from typing import Any

import msgspec

from cdp.clock import DAY_US
from cdp.config import Retention
from cdp.delivery.owed import DeadLetter, row_key
from cdp.domain.event import EVENT_SCHEMA, Event, encode_event
from cdp.domain.tracking_plan import TrackingPlan, parse_plan
from cdp.privacy_audit import (
    NO_PLAN,
    NO_PURPOSE,
    PAST_RETENTION,
    UNPLANNED,
    UNUSED,
    Finding,
    privacy_audit,
)
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore

NOW_US = 1_000 * DAY_US
PLAN = """
version: 1
events:
  Bought:
    fields:
      properties.total: {type: number, purpose: orders}
      properties.card: {type: string, purpose: [fraud, orders], retention_days: 2}
      properties.mood: {type: string, purpose: none}
      properties.face: {type: string, purpose: biometrics}
      properties.lines[].sku: {type: string, purpose: orders, retention_days: 1}
identify:
  traits: {email: {type: string, purpose: orders, retention_days: 3}}
"""


def event(
    age_days: float, type_: Any = "track", name: str | None = "Bought", **fields: Any
) -> Event:
    received_us = NOW_US - int(age_days * DAY_US)
    return Event(EVENT_SCHEMA, type_, "m", "web", 1, received_us, event=name, **fields)


class Held:
    """A store with these events in its log."""

    def __init__(self, *events: Event) -> None:
        self.store = MemoryStore()
        self.log = Log(self.store, "events")
        batch = self.store.batch()
        self.log.append(batch, [encode_event(one) for one in events])
        self.store.write(batch)
        self.log.publish()

    async def audit(
        self, plan: TrackingPlan | None, uses: dict[str, frozenset[str]] | None = None
    ) -> list[Finding]:
        return await privacy_audit(
            plan=plan,
            uses={"crm": frozenset({"orders"})} if uses is None else uses,
            destinations=["crm", "off"],
            retention=Retention(age_days_max=90.0, rejected_age_days_max=30.0),
            store=self.store,
            events=self.log,
            now_us=NOW_US,
        )


def of(kind: str, findings: list[Finding]) -> dict[str, int]:
    return {one.where: one.count for one in findings if one.kind == kind}


async def test_fields_without_a_purpose_and_those_that_nobody_uses_are_listed() -> None:
    findings = await Held().audit(parse_plan(PLAN, "plan"))
    assert of(NO_PURPOSE, findings) == {"Bought: properties.mood": 0}
    assert of(UNUSED, findings) == {"Bought: properties.face": 0}
    assert "(biometrics)" in findings[-1].text
    nobody = await Held().audit(parse_plan(PLAN, "plan"), {})
    assert len(of(UNUSED, nobody)) == 5


async def test_what_comes_in_without_being_planned_is_listed_with_how_often() -> None:
    held = Held(
        event(0, properties={"total": 1, "shoe size": 40, "lines": [{"sku": "a", "pid": "b"}]}),
        event(0, properties={"shoe size": 41, "lines": []}),
        event(0, name="Sneezed"),
        event(0, properties={"lines": "odd"}, context={"ip": "1.2.3.4"}),
    )
    plan = parse_plan(PLAN, "plan")
    assert of(UNPLANNED, await held.audit(plan)) == {
        "Bought: properties.shoe size": 2,
        "Sneezed": 1,
    }
    strict = parse_plan(PLAN + "context: {os.name: {type: string, purpose: orders}}", "plan")
    assert of(UNPLANNED, await held.audit(strict))["Bought: context.ip"] == 1


async def test_without_a_plan_no_field_has_a_purpose() -> None:
    findings = await Held(event(0, properties={"a": 1, "b": 2})).audit(None)
    assert [(one.kind, one.count) for one in findings] == [(NO_PLAN, 2)]
    assert await Held().audit(None) == []


async def test_data_past_its_retention_is_counted_by_field_and_store() -> None:
    held = Held(
        event(91, properties={"total": 1}),
        event(90.5, "identify", None, traits={"email": "e"}),
        event(2.5, properties={"card": "c", "lines": [{"sku": "a"}]}),
        event(2.5, properties={"card": None, "lines": [{}]}),
        event(1.5, properties={"card": "c", "lines": [{"sku": "a"}]}),
        event(0.5, properties={"card": "c", "lines": [{"sku": "a"}]}),
    )
    assert of(PAST_RETENTION, await held.audit(parse_plan(PLAN, "plan"))) == {
        "event log": 2,
        "identify: traits.email": 1,
        "Bought: properties.card": 1,
        "Bought: properties.lines[].sku": 2,
    }
    assert of(PAST_RETENTION, await held.audit(None)) == {"event log": 2}


async def test_rejected_events_and_dead_letters_past_their_time_are_counted() -> None:
    held = Held()
    batch = held.store.batch()
    for days in (31, 40, 29):
        batch.put("rejected", (NOW_US - days * DAY_US).to_bytes(8, "big") + bytes(4), b"x")
    for offset, (name, days) in enumerate([("crm", 91), ("crm", 89), ("off", 100)]):
        dead = DeadLetter(0, 0, b"", b"", 0, 1, 0, NOW_US - days * DAY_US, "gone", False)
        batch.put("dead", row_key(name, offset), msgspec.msgpack.encode(dead))
    held.store.write(batch)
    assert of(PAST_RETENTION, await held.audit(None)) == {
        "rejected events": 2,
        "dead letters of crm": 1,
        "dead letters of off": 1,
    }


async def test_nothing_is_found_where_all_is_as_it_should_be() -> None:
    plan = parse_plan(PLAN.replace("none", "orders").replace("biometrics", "orders"), "plan")
    held = Held(event(0.5, properties={"total": 1, "card": "c"}))
    assert await held.audit(plan) == []
    assert Finding(NO_PLAN, "events", "x", 2).as_json() == {
        "kind": NO_PLAN,
        "where": "events",
        "text": "x",
        "count": 2,
    }
