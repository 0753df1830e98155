"""An erasure that is killed, at every thing it does to a disk, and goes on in the next process."""

from __future__ import annotations

import errno
from random import Random

import pytest
import trio

from tests.unit.consent.erasure_world import (
    ADA,
    BOB,
    DAY_S,
    Faults,
    World,
    asked,
    is_storage_error,
    nodes,
)

AFTER = {"kill": lambda _: None, "power cut": Random}
STEPS_MIN = 25  # an erasure that does less to its disks than this skips something


async def begin(world):
    """Asks for Ada's erasure and runs as far as the faults let it."""
    try:
        request_id = await world.ask(ADA[:2], external_id="ticket 9")
        await world.run_to_end(request_id)
    except Exception as error:
        if not is_storage_error(error):
            raise


async def finish(world):
    """What the next process does, and the sender, who got no answer and asks again."""
    await world.reapply()
    told = await world.erasures.submit(asked(ADA[:2], external_id="ticket 9"))
    if told["state"] == "verified":
        await world.erasures.approve(told["id"], by="Eve")
    (told,) = await world.run_to_end(told["id"])
    return told


async def settled_world():
    world = World()
    world.settle(ADA, received=("crm", "mailer"))
    world.settle(BOB)
    await world.store.sync()
    world.faults.done.clear()
    return world


def check(world, told, slots, bobs):
    assert told["state"] == "complete", told["problems"]
    assert world.traces_of(ADA) == []
    assert world.traces_of(BOB) == bobs
    assert len(world.readable_events(BOB)) == 3
    assert world.live_slots(slots) == []
    assert world.suppression.nodes == set(nodes(ADA))
    assert {key for key, _ in world.store.items("suppressed")} == set(nodes(ADA))
    assert [one["state"] for one in told["destinations"]] == ["confirmed", "confirmed"]
    assert {name for name, _ in world.services.orders} == {"crm", "mailer"}
    assert len({order.erasure_id for _, order in world.services.orders}) == 1
    assert all(len(order.identifiers) == 3 for _, order in world.services.orders)
    assert len(list(world.store.items("requests"))) == 1
    assert not world.book.open, "its own key is destroyed"
    actions = world.audit_actions()
    for action in ("erasure_sealed", "key_destroyed", "erasure_complete"):
        assert action in actions


async def kill_at(place, cut):
    """One history: a fault at one place, a death, and a second life. Whether the fault struck."""
    world = await settled_world()
    world.faults.at = place
    slots, bobs = world.slots_of(ADA), world.traces_of(BOB)
    await begin(world)
    struck = world.faults.struck
    world = world.reopened(power_cut=cut)
    check(world, await finish(world), slots, bobs)
    return struck


@pytest.mark.parametrize("after", AFTER)
async def test_killed_at_every_step_it_ends_and_leaves_nothing(after, autojump_clock):
    place = 0
    while True:
        place += 1
        if not await kill_at(place, AFTER[after](place)):
            break
    assert place > STEPS_MIN


async def test_killed_again_and_again_it_still_ends(autojump_clock):
    """Each life dies at the next place, so none ever does the whole."""
    world = await settled_world()
    slots, bobs = world.slots_of(ADA), world.traces_of(BOB)
    lives = 0
    told = None
    while told is None:
        lives += 1
        world = world.reopened(power_cut=Random(lives), faults=Faults())
        world.faults.at = lives
        world.break_disks()
        try:
            told = await finish(world)
        except BaseException as error:
            if not is_storage_error(error):
                raise
    assert lives > 3
    check(world, told, slots, bobs)


async def test_an_actor_that_is_stopped_at_any_moment_goes_on(autojump_clock):
    """Not a crash: told to stop, cancelled where it waits, and started again."""
    world = await settled_world()
    slots, bobs = world.slots_of(ADA), world.traces_of(BOB)
    request_id = await world.ask(ADA)
    stops = 0
    while bytes.fromhex(request_id) in world.book.open:
        stops += 1
        with trio.move_on_after(DAY_S):
            async with trio.open_nursery() as nursery:
                stopping = trio.Event()
                nursery.start_soon(world.erasures.run, stopping)
                for _ in range(stops):
                    await trio.lowlevel.checkpoint()
                stopping.set()
    assert stops > 5
    check(world, world.erasures.get(request_id), slots, bobs)


async def test_a_torn_line_of_the_erasure_ledger_is_written_anew(autojump_clock):
    world = await settled_world()
    request_id = await world.ask(ADA)
    append = world.file.append

    def torn(line):
        world.file.append = append
        world.file.content += line[: len(line) // 2]
        raise OSError(5, "a fault")

    world.file.append = torn
    with pytest.raises(BaseExceptionGroup) as failed:
        await world.run_to_end(request_id)
    assert is_storage_error(failed.value)
    assert not world.file.content.endswith(b"\n")
    world = world.reopened()
    await world.run_to_end(request_id)
    assert world.file.content.endswith(b"\n")
    assert world.file.content.count(b"\n") == 1
    assert world.tombstones.has(request_id)


async def test_a_disk_that_was_full_for_once_at_any_step_stops_nothing(autojump_clock):
    """The process lives on; what was in memory is as the store again."""
    place = 0
    while True:
        place += 1
        world = await settled_world()
        slots, bobs = world.slots_of(ADA), world.traces_of(BOB)
        request_id = await world.ask(ADA)
        world.faults.done.clear()
        world.faults.at, world.faults.errno = place, errno.ENOSPC
        await world.run_to_end(request_id)
        check(world, world.erasures.get(request_id), slots, bobs)
        if not world.faults.struck:
            break
    assert place > STEPS_MIN
