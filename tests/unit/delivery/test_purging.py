"""What erased people are owed ends everywhere, exactly once, and nobody else's is touched."""

from __future__ import annotations

import errno
from random import Random

import pytest
import trio

from cdp.config import Limits
from cdp.delivery import Delivered, Rejected, Retry
from cdp.delivery.control import Deliveries
from cdp.delivery.jobs import DeadLetterFilter
from cdp.delivery.ledger import read_books
from cdp.delivery.outcomes import explain_event
from cdp.delivery.owed import decode_dead, owed_from_row
from cdp.delivery.purging import ROWS_STEP
from cdp.domain.change import MERGED
from cdp.domain.consent import Standing
from cdp.errors import StorageError
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Metrics

ONE, TWO = ((n).to_bytes(16, "big") for n in (1, 2))
GONE = Standing(suppressed=True)


def rows_of(world, nodes=frozenset({ONE})):
    """How many rows of `pending` and `dead` are about them."""
    waiting = [owed_from_row(key, row, 0, 0.0) for key, row in world.store.scan("pending")]
    dead = [decode_dead(row) for _, row in world.store.scan("dead")]
    return sum(o.profile_id in nodes or o.other_profile_id in nodes for o in [*waiting, *dead])


def busy(batch):
    """Nothing gets through for hours."""
    return [Retry("busy", after_s=50_000.0)] * len(batch)


async def test_what_waits_for_hours_ends_at_once(autojump_clock, world):
    world.service.answer = busy
    world.append(profiles=[1, 2, 1, 2])
    async with world.running() as deliveries:
        await trio.sleep(1)
        assert rows_of(world) == 1  # the second waits behind it in memory
        world.standings.of[ONE] = GONE
        assert await deliveries.purge({ONE}) == 2
        assert rows_of(world) == 0
        counts = world.books().live
        assert (counts.filtered, counts.pending) == ({"erased": 2}, 1)
        world.service.answer = lambda batch: [Delivered()] * len(batch)
        await trio.sleep(60_000)
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.pending) == (4, 2, 0)
    (told,) = explain_event(world.store, 0)
    assert (told.state, told.reason) == ("filtered", "erased")


async def test_what_is_only_in_memory_is_dropped_and_others_go_on_in_order(
    autojump_clock, make_world
):
    world = make_world(batch_max=1, concurrency_max=1)
    gate = trio.Event()

    async def slow(batch):
        if not gate.is_set():
            await gate.wait()
        return [Delivered()]

    world.service.answer = slow
    world.append(profiles=[3, 1, 2, 1, 2])
    async with world.running() as deliveries:
        await trio.sleep(0.5)
        world.standings.of[ONE] = GONE
        assert await deliveries.purge({ONE}) >= 0
        gate.set()
        await trio.sleep(10)
    assert world.service.names == ["m0", "m2", "m4"]
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.pending) == (5, 3, 0)
    assert counts.filtered_total() == 2
    assert world.rows("pending") == 0


async def test_what_flies_is_called_back_and_ends_too(autojump_clock, world):
    async def hang(batch):
        if len(world.service.attempts) == 1:
            await trio.sleep(25)
        return [Delivered()] * len(batch)

    world.service.answer = hang
    world.append(profiles=[1, 2])
    async with world.running() as deliveries:
        await trio.sleep(0.5)
        world.standings.of[ONE] = GONE
        await deliveries.purge({ONE})
        assert rows_of(world) == 0
        await trio.sleep(1)
    counts = world.books().live
    assert (counts.delivered, counts.filtered_total(), counts.pending) == (1, 1, 0)


async def test_a_merge_with_the_person_ends_and_the_other_profile_goes_on(
    autojump_clock, make_world
):
    world = make_world(batch_max=1, receives=frozenset({"event", "merged"}))
    answers = [[Retry("busy", after_s=30.0)]]
    world.service.answer = lambda batch: answers.pop() if answers else [Delivered()]
    first = world.append(profiles=[1])
    world.append_change(MERGED, first, 2, 1)
    world.append(profiles=[2])
    async with world.running() as deliveries:
        await trio.sleep(1)
        world.standings.of[ONE] = GONE
        await deliveries.purge({ONE})
        await trio.sleep(1)
    assert world.service.names[-1] == "m1"
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.filtered_total()) == (3, 1, 2)


async def test_dead_letters_end_step_by_step_however_many(autojump_clock, world):
    world.service.answer = lambda batch: [Rejected("no")] * len(batch)
    count = 2 * ROWS_STEP + 20
    world.append(profiles=[1 if n % 3 else 2 for n in range(count)])
    async with world.running() as deliveries:
        await trio.sleep(10)
        assert world.books().live.dead == count
        world.standings.of[ONE] = GONE
        ended = await deliveries.purge({ONE})
        assert rows_of(world) == 0
    counts = world.books().live
    assert counts.filtered == {"erased": ended}
    assert (counts.dead, world.rows("dead")) == (count - ended, count - ended)
    assert counts.holds()


async def test_a_redrive_and_a_purge_count_each_dead_letter_once(autojump_clock, world):
    world.service.answer = lambda batch: [Rejected("no")] * len(batch)
    world.append(profiles=[1, 2] * 400)
    async with world.running() as deliveries:
        await trio.sleep(10)
        world.service.answer = lambda batch: [Delivered()] * len(batch)
        world.standings.of[ONE] = GONE
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliveries.redrive, "out", DeadLetterFilter())
            nursery.start_soon(deliveries.purge, {ONE})
        await trio.sleep(10)
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.dead, counts.pending) == (800, 400, 0, 0)
    assert counts.filtered_total() == 400


@pytest.mark.parametrize("state", ["stopped", "removed", "paused", "starting"])
async def test_a_destination_that_attempts_nothing_is_purged_all_the_same(
    autojump_clock, make_world, state
):
    fails = []

    async def start(self):
        if fails:
            raise OSError("not yet")

    world = make_world(batch_max=10, start=start)
    answers = iter([[Rejected("no")] * 4, [Retry("busy", after_s=50_000.0)] * 4])
    world.service.answer = lambda batch: next(answers)
    world.append(profiles=[1, 2, 1, 3])
    world.append(profiles=[4, 5, 6, 7])
    world.append(profiles=[1])  # not taken yet when the run ends, or refused by the gate
    async with world.running() as deliveries:
        await trio.sleep(0.001)
        deliveries.pause("out")
        await trio.sleep(1)
    world.restart()
    nodes = {ONE, (4).to_bytes(16, "big")}
    for node in nodes:
        world.standings.of[node] = GONE
    left = rows_of(world, nodes)
    assert left >= 2
    if state in ("paused", "starting"):
        if state == "starting":
            fails.append(1)
        async with world.running() as deliveries:
            await trio.sleep(1)
            assert await deliveries.purge(nodes) >= left
            assert rows_of(world, nodes) == 0
            assert world.books().live.holds()
            assert deliveries.status()[0].state == "paused"
            return
    outlets = [world.outlet()] if state == "stopped" else []
    deliveries = Deliveries(outlets, Metrics(), store=world.store, clock=world.clock)
    assert await deliveries.purge(nodes) == left
    assert await deliveries.purge(nodes) == 0
    assert rows_of(world, nodes) == 0
    books = read_books(world.store, "out")
    assert books.live.filtered["erased"] == left
    assert (books.live.pending, books.live.dead) == (world.rows("pending"), world.rows("dead"))


async def test_a_destination_that_comes_up_during_its_purge_is_purged_to_the_end(
    autojump_clock, world
):
    world.service.answer = lambda batch: [Rejected("no")] * len(batch)
    world.append(profiles=[1] * (3 * ROWS_STEP))
    await world.run_for(1_000)
    world.standings.of[ONE] = GONE
    deliveries = Deliveries([world.outlet()], Metrics())
    dead = world.rows("dead")
    assert dead > 2 * ROWS_STEP
    async with trio.open_nursery() as nursery:
        ended = []

        async def purge():
            ended.append(await deliveries.purge({ONE}))

        nursery.start_soon(purge)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(deliveries.run, "out", trio.Event())
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert world.rows("dead") == 0
    assert ended == [dead]
    assert world.books().live.filtered == {"erased": dead}


@pytest.mark.parametrize("seed", range(40))
async def test_killed_at_any_moment_of_a_purge_everything_ends_once(
    autojump_clock, make_world, seed
):
    rng = Random(seed)
    world = make_world(
        batch_max=rng.randint(1, 8),
        concurrency_max=rng.randint(1, 4),
        batch_atomic=rng.random() < 0.5,
    )
    world.limits = Limits(backoff_s_max=5.0, pending_max=rng.randint(3, 30))

    async def moody(batch):
        await trio.sleep(rng.random())
        kinds = [Delivered(), Delivered(), Retry("busy"), Rejected("no")]
        return [rng.choice(kinds) for _ in batch]

    world.service.answer = moody
    expected = 0
    for round_ in range(5):
        profiles = [rng.randint(0, 4) for _ in range(rng.randint(1, 25))]
        world.append(profiles=profiles)
        expected += len(profiles)
        node = rng.randint(1, 4).to_bytes(16, "big")
        with trio.move_on_after(rng.random() * 4):
            async with world.running() as deliveries:
                await trio.sleep(rng.random() * 2)
                world.standings.of[node] = GONE
                await deliveries.purge({node})
                assert rows_of(world, {node}) == 0
                await trio.sleep(rng.random() * 2)
        world.restart()
        counts = world.books().live
        assert counts.holds()
        assert (world.rows("pending"), world.rows("dead")) == (counts.pending, counts.dead)
        if round_ == 3:
            world.standings.of.clear()
    await world.run_for(10_000)
    counts = world.books().live
    assert (counts.offered, counts.pending) == (expected, 0)
    assert counts.delivered + counts.dead + counts.filtered_total() == expected


@pytest.mark.parametrize("starts", [True, False])
async def test_a_commit_that_fails_ends_the_run_and_counts_nothing_twice(
    autojump_clock, make_world, starts
):
    failing = []

    async def start(self):
        if not starts and failing:
            raise OSError("not yet")

    world = make_world(batch_max=10, start=start)
    world.store = MemoryStore(write_fault=lambda: errno.EIO if 2 in failing else 0)
    world.open_logs()
    world.service.answer = lambda batch: [Rejected("no")] * len(batch)
    world.append(profiles=[1, 2])
    await world.run_for(5)
    world.standings.of[ONE] = GONE
    failing.append(1)

    async def purge_as_the_disk_fails():
        async with world.running() as deliveries:
            await trio.sleep(1)
            failing.append(2)
            await deliveries.purge({ONE})
            await trio.sleep(100)

    with pytest.raises(ExceptionGroup) as raised:
        await purge_as_the_disk_fails()
    assert raised.group_contains(StorageError)
    failing.clear()
    world.restart()
    async with world.running() as deliveries:
        assert await deliveries.purge({ONE}) == 1
    counts = world.books().live
    assert (counts.filtered, counts.dead, counts.offered) == ({"erased": 1}, 1, 2)
