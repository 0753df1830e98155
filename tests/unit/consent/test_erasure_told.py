"""Telling destinations: who is told, that none waits for another, and what the matrix says."""

from __future__ import annotations

import pytest
import trio

from cdp.consent.destinations_told import Answer
from tests.unit.consent.erasure_world import ADA, BOB, DAY_S, World, node


def people(count):
    return [(("user_id", f"person-{number:04d}"),) for number in range(count)]


async def test_every_destination_that_ever_got_the_person_has_a_job_and_no_other(autojump_clock):
    """Set equality with the rows of delivery, for anybody, over the names that are configured."""
    world = World()
    received = {0: (), 1: ("crm",), 2: ("crm", "mailer"), 3: ("gone",), 4: ("mailer", "gone")}
    for (number, names), person in zip(received.items(), people(5), strict=True):
        world.settle(person, received=names)
        receipt = await world.erase(person, external_id=str(number))
        jobs = {one["destination"]: one["state"] for one in receipt["destinations"]}
        assert {name for name, state in jobs.items() if state != "not_needed"} == set(names)
        assert set(jobs) == {"crm", "mailer", *names}
    assert world.recipients() == set()


async def test_what_a_destination_is_told_is_what_it_can_know_the_person_by(autojump_clock):
    world = World()
    world.settle(ADA, received=("crm",))
    receipt = await world.erase([ADA[1]])
    ((name, order),) = world.services.orders
    assert name == "crm"
    assert order.erasure_id == receipt["id"]
    assert order.profile_ids == (node(*ADA[0]).hex(),)
    assert set(order.identifiers) == set(ADA)
    assert order.requested_at == receipt["times"]["t_request"]


async def test_a_destination_that_hangs_holds_up_nobody_else(autojump_clock):
    """Thirty seconds a call, for each of a hundred people: it alone would take fifty minutes."""
    world = World()
    hung = [0]
    erase_at = world.services.erase_at

    async def hang(name, order):
        if name == "crm":
            hung[0] += 1
            await trio.sleep(30)
            return Answer(state="retry", text="timeout")
        return await erase_at(name, order)

    world.services.erase_at = hang
    ids = []
    for person in people(99):
        world.settle(person, received=("crm", "mailer"))
        ids.append(await world.ask(person))

    def told(request_id):
        jobs = world.erasures.get(request_id)["destinations"]
        return "confirmed" in [job["state"] for job in jobs]

    began = trio.current_time()
    await world.run(lambda: all(map(told, ids)))
    assert trio.current_time() - began < 120
    world.settle(ADA, received=("mailer",))
    late = await world.ask(ADA)
    began = trio.current_time()
    await world.run(lambda: told(late))
    assert trio.current_time() - began < 40, "it waits for one call of the other at most"
    assert hung[0] > 1


async def test_the_matrix_is_never_one_word(autojump_clock):
    """One that cannot, one that will not, one that did: each is told by its own state."""
    world = World()
    world.services.configured = ["crm", "mailer", "paper", "ads"]
    world.services.answers["paper"] = [Answer(state="unsupported", text="shred it")]
    world.services.answers["ads"] = [Answer(state="retry", text="busy")] * 1_000
    world.settle(ADA, received=("crm", "paper", "ads"))
    request_id = await world.ask(ADA)

    def matrix():
        jobs = world.erasures.get(request_id)["destinations"]
        return {job["destination"]: job["state"] for job in jobs}

    with trio.move_on_after(DAY_S):
        await world.run(lambda: False, within_s=2 * DAY_S)
    waiting = {"ads": "retry", "crm": "confirmed", "mailer": "not_needed", "paper": "manual_task"}
    assert matrix() == waiting
    await world.erasures.attest(request_id, "paper", by="Eve", evidence_sha256="a" * 64)
    (told,) = await world.run_to_end(request_id)
    assert matrix() == waiting | {"ads": "escalated", "paper": "attested"}
    assert told["state"] == "partially_complete"
    assert world.recipients() == {(node(*ADA[0]), "ads")}
    assert world.traces_of(ADA) == []


@pytest.mark.parametrize("downstream", [True, False])
async def test_only_who_is_to_be_told_is_told(downstream, autojump_clock):
    world = World()
    world.settle(ADA)
    world.settle(BOB)
    receipt = await world.erase(ADA, downstream=downstream)
    assert receipt["state"] == "complete"
    assert [name for name, _ in world.services.orders] == (["crm"] if downstream else [])
    assert ((node(*ADA[0]), "crm") in world.recipients()) is not downstream


async def test_the_time_to_each_destination_is_measured(autojump_clock):
    world = World()
    world.services.answers["crm"] = [
        Answer(state="accepted", remote_id="r-1"),
        Answer(state="erased", text="done"),
    ]
    world.settle(ADA, received=("crm",))
    await world.erase(ADA)
    page = world.metrics.exposition()
    assert 'cdp_erasure_destination_seconds_count{destination="crm"} 1' in page
    assert 'destination="mailer"' not in page
    assert world.services.polled == [("crm", "r-1")]
