"""An erasure that is killed anywhere, asked again for weeks, or met by a store from before it."""

from __future__ import annotations

from random import Random

import pytest
import trio

from cdp.clock import SECOND_US
from cdp.consent.destinations_told import Answer, backoff_us
from cdp.consent.reapplying import reapply
from cdp.consent.requests import RequestRefused
from tests.unit.consent.erasure_house import ADA, ADA_MAIL, BOB, ErasureHouse, node


@pytest.fixture
async def house(autojump_clock):
    return make_house()


def make_house():
    house = ErasureHouse()
    house.know(ADA, ADA_MAIL, at=["crm", "ads"])
    house.know(BOB, at=["crm"])
    return house


def states(receipt):
    return {one["destination"]: one["state"] for one in receipt["destinations"]}


@pytest.mark.slow
@pytest.mark.parametrize("power_cut", [False, True])
async def test_killed_at_any_call_to_a_disk_it_goes_on_and_forgets_nothing(
    autojump_clock, power_cut
):
    for calls in range(1, 200):
        house = make_house()
        request_id = await house.ask(ADA)
        house.faults.after(calls)
        killed = False
        try:
            await house.carry()
        except* Exception:
            killed = True
        if killed:
            store = house.store
            house.store = store.power_cut(Random(calls)) if power_cut else store.killed()
            house.keys = house.keys.survivor()
            house.faults.after(0)
            house.open()
            await house.carry()
        receipt = house.erasures.receipt(request_id)
        assert receipt["state"] == "complete", (calls, receipt)
        assert house.left_of(ADA, ADA_MAIL) == [], calls
        assert len(house.left_of(BOB)) == 8
        assert house.suppression.nodes == {node(ADA), node(ADA_MAIL)}
        assert {name for name, _ in house.outside.orders} == {"crm", "ads"}
        assert house.file.content.count(b"\n") == 1
        if not killed:
            break
    assert 25 < calls < 199


async def test_a_destination_that_cannot_now_is_asked_again_ever_more_rarely(house, autojump_clock):
    house.outside.answers["crm"] = [Answer(state="retry", text="busy")] * 4
    house.outside.answers["crm"].append(Answer(state="erased"))
    began = trio.current_time()
    receipt = await house.erase(ADA)
    assert receipt["state"] == "complete"
    assert [name for name, _ in house.outside.orders].count("crm") == 5
    assert 30 + 60 + 120 + 240 <= trio.current_time() - began < 500
    assert len({order.erasure_id for _, order in house.outside.orders}) == 1


async def test_a_destination_that_never_can_is_escalated_and_told_by_the_next_erasure(
    house, autojump_clock
):
    house.outside.answers["crm"] = [Answer(state="retry", text="busy")]
    receipt = await house.erase(ADA)
    assert receipt["state"] == "partially_complete"
    assert states(receipt) == {"ads": "confirmed", "crm": "escalated", "mail": "not_needed"}
    house.outside.answers.clear()
    again = states(await house.erase(ADA))
    assert again == {"ads": "not_needed", "crm": "confirmed", "mail": "not_needed"}


async def test_what_a_destination_accepted_is_asked_after_until_it_is_done(house, autojump_clock):
    accepted = Answer(state="accepted", remote_id="r-1")
    house.outside.answers["ads"] = [accepted, accepted, Answer(state="erased", text="done")]
    receipt = await house.erase(ADA)
    assert house.outside.statuses == [("ads", "r-1")] * 2
    ads = receipt["destinations"][0]
    assert list(ads["times"]) == ["queued", "sent", "accepted", "polling", "confirmed"]
    assert len(ads["evidence_sha256"]) == 64


async def test_what_is_done_by_hand_waits_for_somebody_to_say_so(house, autojump_clock):
    house.outside.answers["crm"] = [Answer(state="unsupported", text="use their form")]
    request_id = await house.ask(ADA)
    with trio.move_on_after(86_400):
        await house.carry()
    told = house.erasures.get(request_id)
    assert (told["state"], told["destinations"][1]["state"]) == ("downstream", "manual_task")
    with pytest.raises(RequestRefused):
        await house.erasures.attest(request_id, "ads", by="clerk", evidence_sha256="")
    await house.erasures.attest(request_id, "crm", by="clerk", evidence_sha256="a" * 64)
    await house.carry()
    receipt = house.erasures.receipt(request_id)
    assert (receipt["state"], states(receipt)["crm"]) == ("complete", "attested")


async def test_an_attestation_after_the_end_completes_what_was_partial(house, autojump_clock):
    house.outside.answers["crm"] = [Answer(state="unsupported", text="use their form")]
    receipt = await house.erase(ADA)
    assert receipt["state"] == "partially_complete"
    told = await house.erasures.attest(receipt["id"], "crm", by="clerk", evidence_sha256="")
    assert told["state"] == "complete"


@pytest.mark.parametrize("suppress", [True, False])
async def test_a_store_from_before_the_erasure_is_made_to_forget_again(
    house, suppress, autojump_clock
):
    backup = house.copy()
    await house.erase(ADA, suppress=suppress)
    house.people.make_one(ADA, ADA_MAIL)
    house.store = backup
    house.open()
    assert house.left_of(ADA) != []
    assert await reapply(house.erasures.steps) == 1
    house.people.profiles.clear()
    assert [one for one in house.left_of(ADA, ADA_MAIL) if not one.startswith("seen")] == []
    assert len(house.left_of(BOB)) == 8
    assert house.suppression.nodes == ({node(ADA), node(ADA_MAIL)} if suppress else set())
    assert house.actions()[-1] == "erasure_reapplied"
    assert await reapply(house.erasures.steps) == 0


async def test_keys_that_were_restored_too_are_destroyed_again_and_no_others(house, autojump_clock):
    backup = house.copy()
    slots, others = house.vault.slots_of(node(ADA)), house.vault.slots_of(node(BOB))
    restored = dict(zip(slots, house.keys.read(slots), strict=True))
    await house.erase(ADA)
    house.keys._content.update(restored)
    house.store = backup
    house.open()
    await reapply(house.erasures.steps)
    assert not any(map(any, house.keys.read(slots)))
    assert all(map(any, house.keys.read(others)))


async def test_a_suppression_is_applied_to_a_restored_store_without_erasing(house, autojump_clock):
    backup = house.copy()
    await house.erase(ADA, kind="suppression")
    house.store = backup
    house.open()
    await reapply(house.erasures.steps)
    assert house.suppression.nodes == {node(ADA), node(ADA_MAIL)}
    assert len(house.left_of(ADA, ADA_MAIL)) == 16


async def test_a_request_that_was_over_ends_in_a_restored_store_too(house, autojump_clock):
    request_id = await house.ask(ADA)
    backup = house.copy()
    await house.carry()
    house.store = backup
    house.open()
    await reapply(house.erasures.steps)
    await house.carry()
    receipt = house.erasures.receipt(request_id)
    assert receipt["state"] == "partially_complete"
    assert receipt["problems"] == ["restored_after_its_end"]
    assert node(ADA) in house.suppression.nodes


def test_waits_double_from_half_a_minute_to_six_hours():
    assert [backoff_us(n) // SECOND_US for n in (1, 2, 3, 9, 100)] == [30, 60, 120, 7_680, 21_600]
