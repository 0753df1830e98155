"""The tracking plan where events come in: dropped before storing, quarantined and repaired."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdp._matcher import Namer
from cdp.config import Identity, Limits
from cdp.domain.tracking_plan import parse_plan
from cdp.ingestion.admission import admit
from cdp.ingestion.normalisation import Scope
from cdp.ingestion.plan import PlanCheck
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.rejected import list_rejected, resubmit
from cdp.ingestion.submission import ALONE, Submission
from cdp.telemetry import Metrics
from tests.unit.ingestion.consent_door import IDENTITY_KEY, naming_rules
from tests.unit.ingestion.front_door import FrontDoor, open_front_door, track

PLAN = """
version: 1
events:
  Bought:
    purpose: orders
    fields: {properties.total: {type: number, required: true}}
"""


def plan() -> PlanCheck:
    return PlanCheck(
        parse_plan(PLAN, "plan.yaml"),
        quarantine_unplanned=True,
        drop_unplanned=True,
        metrics=Metrics(),
    )


async def again(door: FrontDoor, row_id: str, wire: dict[str, Any]) -> None:
    await resubmit(
        store=door.store,
        intake=door.intake,
        limits=door.limits,
        new_id=lambda: "new",
        row_id=row_id,
        body=json.dumps(wire).encode(),
    )


async def test_a_field_that_is_not_planned_is_in_no_byte_of_the_store() -> None:
    async with open_front_door() as door:
        door.intake.plan = plan()
        properties = {"total": 3, "maiden name": "Lovelace"}
        reply = await door.send(track(1, properties=properties, nickname="Lovelace"))
        assert reply.json["accepted"] == 1
        [event] = door.events()
        assert event.properties == {"total": 3}
        assert event.extra == {}
        for family in ("events", "rejected", "meta"):
            assert all(b"Lovelace" not in value for _, value in door.store.items(family))


async def test_an_event_that_breaks_the_plan_is_quarantined_repaired_and_stored() -> None:
    async with open_front_door() as door:
        door.intake.plan = plan()
        bad = track(1, properties={"total": "3"})
        reply = await door.send(bad, track(2, properties={"total": 3}))
        assert reply.rejections == [(0, "quarantined")]
        [row] = list_rejected(door.store)
        assert (row.event.code, row.event.path) == ("quarantined", "properties.total")
        with pytest.raises(Rejection, match=r"properties\.total is missing"):
            await again(door, row.id, track(1))
        await again(door, row.id, track(1, properties={"total": 3, "note": "x"}))
        assert [one.properties for one in door.events()] == [{"total": 3}, {"total": 3}]
        assert list_rejected(door.store) == []


def test_what_a_quarantined_event_says_of_consent_is_taken_all_the_same() -> None:
    namer = Namer(IDENTITY_KEY, naming_rules(Identity()))
    scope = Scope(
        source="web",
        received_at_us=1,
        new_id=lambda: "id",
        limits=Limits(),
        plan=plan(),
        namer=namer,
    )
    submission = Submission("web", 1)
    good = json.dumps(track(1, properties={"total": 3})).encode()
    consent = {"consent": {"categoryPreferences": {"ads": False}}}
    bad = json.dumps(track(2, properties={"total": "3"}, context=consent)).encode()
    admit(submission, [bad, good], 0, scope)
    node = namer.nodes([[(0, "u1")]])[0]
    (said,) = submission.said
    assert (said.place, said.nodes, said.statement.purposes) == (ALONE, node, {"ads": False})
    assert (len(submission.records), submission.rejected_count) == (1, 1)
