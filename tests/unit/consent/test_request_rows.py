"""Requests before they run: states, dates, and whom they are about under a key of their own."""

from __future__ import annotations

import pytest

from cdp.clock import DAY_US
from cdp.consent.deadlines import alarms_us, due_at_us
from cdp.consent.requests import RequestRefused, RequestUnknown
from cdp.errors import Overloaded
from tests.unit.consent.erasure_house import ADA, BOB, ErasureHouse, asked, node


@pytest.fixture
async def house(autojump_clock):
    return ErasureHouse()


def test_dates_follow_from_the_law():
    assert due_at_us("gdpr", 5) == 5 + 30 * DAY_US
    assert due_at_us("ccpa", 5) == 5 + 45 * DAY_US
    assert alarms_us("gdpr", 0) == [10 * DAY_US, 25 * DAY_US, 30 * DAY_US]


async def test_the_same_external_id_is_the_same_request(house, autojump_clock):
    first = await house.erasures.submit(asked(ADA, external_id="t-1"))
    assert await house.erasures.submit(asked(ADA, external_id="t-1")) == first
    with pytest.raises(RequestRefused, match="kind erasure"):
        await house.erasures.submit(asked(ADA, external_id="t-1", kind="access"))


async def test_it_runs_only_when_verified_approved_and_not_held(house, autojump_clock):
    erasures = house.erasures
    told = await erasures.submit(asked(ADA, verified_by="", hold="legal claim"))
    assert told["state"] == "on_hold"
    with pytest.raises(RequestRefused, match="release"):
        await erasures.approve(told["id"], by="clerk")
    assert (await erasures.release(told["id"], by="clerk"))["state"] == "received"
    with pytest.raises(RequestRefused, match="verify"):
        await erasures.approve(told["id"], by="clerk")
    await erasures.verify(told["id"], by="clerk", method="call")
    assert (await erasures.approve(told["id"], by="clerk"))["state"] == "approved"


@pytest.mark.parametrize("end", ["cancelled", "denied"])
async def test_one_that_ends_early_forgets_whom_it_was_about(house, end, autojump_clock):
    request_id = await house.ask(ADA)
    slots = house.vault.slots_of(bytes.fromhex(request_id))
    if end == "denied":
        await house.erasures.deny(request_id, by="clerk", reason="not them")
    else:
        await house.erasures.cancel(request_id, by="clerk")
    await house.carry()
    assert house.erasures.get(request_id)["state"] == end
    assert not any(map(any, house.keys.read(slots)))
    assert house.suppression.nodes == set()


async def test_nobody_can_read_from_a_row_whom_it_is_about(house, autojump_clock):
    await house.ask(ADA)
    rows = b"".join(value for _, value in house.store.items("requests"))
    assert ADA[1].encode() not in rows
    assert node(ADA) not in rows


async def test_requests_are_listed_newest_first_in_parts(house, autojump_clock):
    ids = [await house.ask(one, kind=kind) for one in (ADA, BOB) for kind in ("erasure", "access")]
    found, after = house.erasures.listing(None, 3)
    assert after == found[-1]["id"]
    found += house.erasures.listing(after, 3)[0]
    assert sorted(one["id"] for one in found) == sorted(ids)
    times = [one["received_at"] for one in found]
    assert times == sorted(times, reverse=True)
    assert len(house.erasures.listing(None, 9, kind="access")[0]) == 2


async def test_there_is_a_limit_to_open_requests(house, autojump_clock):
    for _ in range(20):
        await house.erasures.submit(asked(ADA))
    with pytest.raises(Overloaded):
        await house.erasures.submit(asked(ADA))


async def test_what_cannot_be_named_is_refused(house, autojump_clock):
    with pytest.raises(RequestRefused, match="tell people apart"):
        await house.erasures.submit(asked(("email", "x")))
    for unknown in ("00" * 16, "nonsense"):
        with pytest.raises(RequestUnknown):
            house.erasures.get(unknown)
