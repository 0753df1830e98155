"""When a request is due, and that somebody is told while there is still time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
import trio

from cdp.clock import DAY_US, from_datetime, to_datetime
from cdp.consent.deadlines import after_business_days, alarms_us, due_at_us
from tests.unit.consent.erasure_world import ADA, BOB, DAY_S, World, asked

MONDAY = datetime(2026, 11, 23, 14, 30, tzinfo=UTC)
MONDAY_US = from_datetime(MONDAY)


@pytest.mark.parametrize(
    ("regulation", "kind", "days"),
    [
        ("gdpr", "erasure", 30),
        ("gdpr", "restriction", 30),
        ("", "access", 30),
        ("lgpd", "erasure", 30),
        ("ccpa", "erasure", 45),
        ("cpra", "portability", 45),
        ("ccpa", "restriction", 21),  # fifteen business days: three weeks from a Monday
        ("cpra", "suppression", 21),
    ],
)
def test_the_law_and_what_is_asked_decide_when_it_is_due(regulation, kind, days):
    assert due_at_us(regulation, MONDAY_US, kind) == MONDAY_US + days * DAY_US
    assert alarms_us(regulation, MONDAY_US, kind)[-1] == MONDAY_US + days * DAY_US


def test_the_alarms_of_the_gdpr_are_at_days_10_25_and_30():
    days = [(at - MONDAY_US) // DAY_US for at in alarms_us("gdpr", MONDAY_US)]
    assert days == [10, 25, 30]


def test_an_opt_out_has_no_alarm_after_it_is_due():
    days = [(at - MONDAY_US) // DAY_US for at in alarms_us("ccpa", MONDAY_US, "restriction")]
    assert days == [10, 21]


def test_business_days_are_counted_as_a_calendar_does():
    for start in range(14):
        begun = MONDAY + timedelta(days=start)
        for count in range(1, 30):
            day, left = begun, count
            while left:
                day += timedelta(days=1)
                left -= day.weekday() < 5
            assert to_datetime(after_business_days(from_datetime(begun), count)) == day


async def test_somebody_is_told_once_an_alarm_over_restarts_too(autojump_clock):
    world = World()
    world.settle(ADA)
    world.settle(BOB)
    told = await world.erasures.submit(asked(ADA, verified_by="", regulation="gdpr"))
    done = await world.ask(BOB)
    lines = []
    began = trio.current_time()
    for _ in range(8):  # a restart every five days
        with trio.move_on_after(5 * DAY_S):
            await world.run(lambda: False, within_s=6 * DAY_S)
        lines += map(json.loads, world.told)
        world = world.reopened()
    assert world.erasures.get(done)["state"] == "complete"
    assert [(one["level"], one["event"]) for one in lines] == [
        ("warn", "request_still_open"),
        ("warn", "request_still_open"),
        ("error", "request_overdue"),
    ]
    assert {one["request"] for one in lines} == {told["id"]}
    assert [one["due_s"] // DAY_S for one in lines] == [20, 5, 0]
    assert trio.current_time() - began == 40 * DAY_S


async def test_how_many_are_open_and_overdue_is_on_the_page(autojump_clock):
    world = World()
    await world.erasures.submit(asked(ADA, verified_by=""))
    await world.erasures.submit(asked(BOB, verified_by="", regulation="ccpa"))
    with trio.move_on_after(31 * DAY_S):
        await world.run(lambda: False, within_s=32 * DAY_S)
    page = world.metrics.exposition()
    assert "cdp_requests_open 2\n" in page
    assert "cdp_requests_overdue 1\n" in page
