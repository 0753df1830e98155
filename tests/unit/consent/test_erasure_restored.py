"""An old store, an old key file, or both: what was erased since is erased again at the start."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest

from cdp.errors import StoreDamaged
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.memory import MemoryStore
from cdp.storage.store import FAMILIES
from tests.unit.consent.erasure_world import ADA, BOB, World, nodes

STAGES = ("sealed", "shredding", "purging", "verifying", "downstream")
CARL = (("user_id", "carl-1111"), ("email", "carl@example.com"))


def copy_of_store(world):
    """A backup of the store, from now."""
    store = MemoryStore()
    batch = store.batch()
    for family in FAMILIES:
        for key, value in world.store.items(family):
            batch.put(family, key, value)
    store.write(batch)
    return store


def copy_of_keys(world):
    """A copy of the key file, from now."""
    keys = MemoryKeys()
    keys._content = deepcopy(world.keys._content)
    keys._header, keys._count = world.keys._header, len(world.keys._content)
    return keys


@pytest.fixture
def world():
    world = World()
    world.settle(ADA)
    world.settle(BOB)
    return world


async def test_an_old_store_is_made_to_forget_before_it_is_read(world, autojump_clock):
    old, slots, bobs = copy_of_store(world), world.slots_of(ADA), world.traces_of(BOB)
    await world.erase(ADA)
    world = world.restored(store=old)
    assert world.traces_of(ADA) != []
    assert world.readable_events(ADA) == [], "its key is gone, whatever the store says"
    assert await world.reapply() == 1
    # The ledger of erasures keeps no names, so what only names could find is not looked for: a
    # rejected event without a key of its own; it goes with its day.
    left = [one for one in world.traces_of(ADA) if one != "rejected event"]
    assert left == ["message id"] * 3, "keyed hashes; the events that they came from are dark"
    assert world.traces_of(BOB) == bobs
    assert world.live_slots(slots) == []
    assert world.suppression.nodes == set(nodes(ADA))
    assert world.audit_actions()[-1] == "erasure_reapplied"
    assert await world.reapply() == 0


async def test_an_old_key_file_alone_brings_nobody_back(world, autojump_clock):
    old, slots, bobs = copy_of_keys(world), world.slots_of(ADA), world.slots_of(BOB)
    await world.erase(ADA)
    world = world.restored(keys=old)
    assert world.live_slots(slots) == slots
    assert world.readable_events(ADA) == [0, 1, 2], "the log of the store is readable again"
    assert await world.reapply() == 1
    assert world.live_slots(slots) == []
    assert world.live_slots(bobs) == bobs
    assert world.readable_events(ADA) == []
    assert world.audit_actions()[-1] == "erasure_reapplied"
    assert await world.reapply() == 0


async def test_an_old_store_with_its_old_key_file_forgets_too(world, autojump_clock):
    old_store, old_keys = copy_of_store(world), copy_of_keys(world)
    slots, bobs = world.slots_of(ADA), world.traces_of(BOB)
    await world.erase(ADA)
    world = world.restored(store=old_store, keys=old_keys)
    assert world.readable_events(ADA) == [0, 1, 2]
    assert await world.reapply() == 1
    assert world.traces_of(ADA) == []
    assert world.traces_of(BOB) == bobs
    assert world.live_slots(slots) == []
    assert await world.reapply() == 0


async def test_the_key_of_somebody_new_under_an_old_number_is_left_alone(autojump_clock):
    """Both were restored from before Ada came, so the numbers of her keys were given again."""
    world = World()
    old_store, old_keys = copy_of_store(world), copy_of_keys(world)
    world.settle(ADA)
    slots = world.slots_of(ADA)
    await world.erase(ADA)
    world = world.restored(store=old_store, keys=old_keys)
    assert await world.reapply() == 1
    world.settle(CARL)
    carls = world.slots_of(CARL)
    assert set(carls) <= set(slots)
    for _ in range(2):
        world = world.restored()
        assert await world.reapply() == 0
        assert world.live_slots(carls) == carls
        assert world.readable_events(CARL) == [0, 1, 2]


async def test_a_store_from_the_middle_of_an_erasure_goes_on_with_it(world, autojump_clock):
    states, copies = [], []
    request_id = await world.ask(ADA)

    def look():
        state = world.erasures.get(request_id)["state"]
        if state not in states:
            states.append(state)
            copies.append((copy_of_store(world), copy_of_keys(world)))
        return state == "complete"

    write = world.store.write

    def write_and_look(batch):
        write(batch)
        look()

    world.store.write = write_and_look
    await world.run_to_end(request_id)
    del world.store.write
    assert states == [*STAGES, "complete"]
    content = world.file.content
    for store, keys in copies:
        again = world._next(store, keys, content)
        await again.reapply()
        await again.run_to_end(request_id)
        assert again.traces_of(ADA) == []
        assert again.suppression.nodes == set(nodes(ADA))
        assert len(again.readable_events(BOB)) == 3


async def test_a_request_that_was_over_holds_nobody_in_a_restored_store(world, autojump_clock):
    """Its own key is gone, so it cannot say whom it held: the ledger of erasures can."""
    copies = []
    request_id = await world.ask(ADA, suppress=False)
    write = world.store.write

    def write_and_copy(batch):
        write(batch)
        if world.erasures.get(request_id)["state"] == "sealed" and not copies:
            copies.append(copy_of_store(world))

    world.store.write = write_and_copy
    await world.run_to_end(request_id)
    del world.store.write
    assert world.suppression.nodes == set()
    world = world.restored(store=copies[0])
    assert world.suppression.nodes == set(nodes(ADA))
    await world.reapply()
    await world.run_to_end(request_id)
    assert world.erasures.get(request_id)["problems"] == ["restored_after_its_end"]
    assert world.suppression.nodes == set()


async def test_somebody_who_may_come_back_may_after_a_restore_too(world, autojump_clock):
    old = copy_of_store(world)
    await world.erase(ADA, suppress=False)
    world = world.restored(store=old)
    assert await world.reapply() == 1
    assert world.suppression.nodes == set()
    assert list(world.store.items("suppressed")) == []
    world.settle(ADA)
    assert len(world.readable_events(ADA)) == 3


async def test_reapplying_is_killed_and_repeated(world, autojump_clock):
    old, bobs = copy_of_store(world), world.traces_of(BOB)
    await world.erase(ADA)
    await world.erase([("email", "stranger@example.com")])
    lives = 0
    world = world.restored(store=old)
    while True:
        lives += 1
        world.break_disks()
        world.faults.at, world.faults.done = lives, []
        try:
            await world.reapply()
        except Exception as error:
            assert world.faults.struck, error  # noqa: PT017 - nothing else may fail
        else:
            break
        world = world.reopened(power_cut=Random(lives))
    assert lives > 5
    assert "fragments" not in "".join(world.traces_of(ADA))
    assert world.traces_of(BOB) == bobs
    assert world.suppression.nodes >= set(nodes(ADA))
    assert await world.reapply() == 0


async def test_a_ledger_that_is_shorter_than_what_was_applied_is_refused(world, autojump_clock):
    await world.erase(ADA)
    world = world.restored(content=b"")
    with pytest.raises(StoreDamaged, match="restore the file from its newest copy"):
        await world.reapply()


async def test_a_ledger_in_which_a_line_was_changed_is_refused(world, autojump_clock):
    await world.erase(ADA)
    await world.erase(BOB)
    lines = world.file.content.splitlines(keepends=True)
    assert len(lines) == 2
    damaged = [
        lines[1],
        lines[0].replace(b'"suppress":true', b'"suppress":false') + lines[1],
        lines[1] + lines[0],
        b"\n" + lines[0] + lines[1],
        lines[0] + lines[0] + lines[1],
    ]
    for content in damaged:
        with pytest.raises(StoreDamaged, match=r"line [12] is not what was written; restore"):
            world._next(MemoryStore(), MemoryKeys(), content)
