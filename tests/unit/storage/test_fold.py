"""The loop of the folds: atomic, resumable, and polite to ingestion."""

from __future__ import annotations

import errno
import random
from typing import TYPE_CHECKING

import pytest
import trio

from cdp.errors import StoreFull
from cdp.storage.fold import Pace, run_fold
from cdp.storage.log import Cursors, Log
from cdp.storage.memory import MemoryStore

if TYPE_CHECKING:
    from trio.testing import MockClock


class World:
    """A source log, a fold that copies it, and its output."""

    def __init__(self, store=None):
        self.store = store or MemoryStore()
        self.source = Log(self.store, "events")
        self.output = Log(self.store, "changes")
        self.cursors = Cursors(self.store)
        self.stopping = trio.Event()
        self.steps = []
        self.on_step = lambda entries: None

    def feed(self, *records):
        batch = self.store.batch()
        self.source.append(batch, records)
        self.store.write(batch)
        self.source.publish()

    def step(self, batch, entries):
        self.on_step(entries)
        self.steps.append([entry.record for entry in entries])
        self.output.append(batch, [entry.record for entry in entries])

    async def run(self, batch_max=1000, pace=None):
        await run_fold(
            store=self.store,
            log=self.source,
            cursors=self.cursors,
            reader="copy",
            step=self.step,
            publishes=[self.output],
            stopping=self.stopping,
            batch_max=batch_max,
            pace=pace,
        )

    def copied(self):
        log = Log(self.store, "changes")
        return [entry.record for entry in log.read(0, 10**6)]


async def until(condition):
    while not condition():  # noqa: ASYNC110 - polls what has no event of its own
        await trio.sleep(0.001)


async def test_what_waits_and_what_comes_is_folded_once_in_order(autojump_clock):
    world = World()
    world.feed(*[b"%d" % i for i in range(700)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        for number in range(700, 720):
            await trio.sleep(1)
            world.feed(b"%d" % number)
        await until(lambda: world.output.head == 720)
        world.stopping.set()
    assert world.copied() == [b"%d" % i for i in range(720)]
    assert world.cursors.get("copy") == 720


async def test_the_output_is_published(autojump_clock):
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        world.feed(b"a")
        with trio.fail_after(5):
            await world.output.wait(0)
        world.stopping.set()


async def test_an_idle_fold_stops_at_once(autojump_clock):
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.run)
        await trio.sleep(5)
        world.stopping.set()
    assert trio.current_time() == 5.0


async def test_a_fold_stops_between_batches_and_goes_on_from_there():
    world = World()
    world.feed(*[b"%d" % i for i in range(100)])
    world.on_step = lambda entries: world.stopping.set() if len(world.steps) == 2 else None
    await world.run(batch_max=10)
    assert world.cursors.get("copy") == 30
    world.stopping = trio.Event()
    world.on_step = lambda entries: world.stopping.set() if entries[-1].offset == 99 else None
    await world.run(batch_max=10)
    assert world.copied() == [b"%d" % i for i in range(100)]


async def test_no_step_gets_more_than_the_batch_maximum():
    world = World()
    world.feed(*[b"%d" % i for i in range(100)])
    world.on_step = lambda entries: world.stopping.set() if entries[-1].offset == 99 else None
    await world.run(batch_max=32)
    assert [len(step) for step in world.steps] == [32, 32, 32, 4]


async def test_a_step_that_crashes_leaves_no_trace():
    world = World()
    world.feed(b"a", b"b")

    def crash(entries):
        world.output.append(world.store.batch(), [b"half done"])
        raise ValueError("bug")

    world.on_step = crash
    with pytest.raises(ValueError, match="bug"):
        await world.run()
    assert (world.cursors.get("copy"), world.copied()) == (0, [])
    world.on_step = lambda entries: world.stopping.set()
    await world.run()
    assert world.copied() == [b"a", b"b"]


async def test_a_write_that_the_disk_refused_is_done_again_by_the_next_run():
    faults = iter([0, errno.ENOSPC])
    world = World(MemoryStore(write_fault=lambda: next(faults, 0)))
    world.feed(b"a")
    with pytest.raises(StoreFull):
        await world.run()
    world.on_step = lambda entries: world.stopping.set()
    await world.run()
    assert world.copied() == [b"a"]
    assert world.cursors.get("copy") == 1


@pytest.mark.parametrize("seed", range(20))
async def test_a_power_cut_anywhere_gives_the_same_output_in_the_end(seed):
    rng = random.Random(seed)
    world = World()
    world.feed(*[b"%d" % i for i in range(200)])
    await world.store.sync()
    for _ in range(6):
        steps_left = rng.randint(1, 4)

        def stop_soon(entries, world=world, last=steps_left):
            if len(world.steps) + 1 >= last or entries[-1].offset == 199:
                world.stopping.set()

        world.on_step = stop_soon
        if world.cursors.get("copy") < 200:
            await world.run(batch_max=rng.randint(1, 30))
        if rng.random() < 0.5:
            await world.store.sync()
        world = World(world.store.power_cut(rng))
    world.on_step = lambda entries: world.stopping.set() if entries[-1].offset == 199 else None
    if world.cursors.get("copy") < 200:
        await world.run()
    assert world.copied() == [b"%d" % i for i in range(200)]


async def test_steps_shrink_until_they_hold_the_loop_for_five_milliseconds_or_less(autojump_clock):
    world = World()
    world.feed(*[b"%d" % i for i in range(2000)])

    def slow(entries):
        autojump_clock.jump(0.001 * len(entries))  # a millisecond an entry
        if entries[-1].offset == 1999:
            world.stopping.set()

    world.on_step = slow
    await world.run()
    sizes = [len(step) for step in world.steps]
    assert sizes[0] == 64
    assert max(sizes[3:]) <= 5
    assert world.copied() == [b"%d" % i for i in range(2000)]


async def test_steps_grow_to_the_maximum_while_they_are_fast():
    world = World()
    world.feed(*[b"%d" % i for i in range(4000)])
    world.on_step = lambda entries: world.stopping.set() if entries[-1].offset == 3999 else None
    await world.run(batch_max=512, pace=Pace(hold_s_max=60.0))
    assert [len(step) for step in world.steps][:3] == [64, 128, 256]
    assert max(len(step) for step in world.steps) == 512


async def share_of(clock: MockClock, *, busy, folds):
    """What share of the time the folds take when each entry costs a millisecond."""
    pace = Pace(busy=busy, share_max=0.25)
    worlds = [World() for _ in range(folds)]
    worked_s = 0.0

    def work(entries):
        nonlocal worked_s
        clock.jump(0.001 * len(entries))
        worked_s += 0.001 * len(entries)

    async with trio.open_nursery() as nursery:
        for world in worlds:
            world.feed(*[b"%d" % i for i in range(3000)])
            world.on_step = work
            nursery.start_soon(world.run, 1000, pace)
        began_s = trio.current_time()
        await until(lambda: trio.current_time() - began_s > 2.0)
        nursery.cancel_scope.cancel()
    return worked_s / (trio.current_time() - began_s)


@pytest.mark.parametrize("folds", [1, 3])
async def test_all_folds_together_take_their_share_while_ingestion_is_busy(autojump_clock, folds):
    assert 0.2 < await share_of(autojump_clock, busy=lambda: True, folds=folds) < 0.3


async def test_folds_take_what_is_left_while_ingestion_is_idle(autojump_clock):
    assert await share_of(autojump_clock, busy=lambda: False, folds=1) > 0.8


async def test_a_fold_that_waited_long_owes_nothing_for_the_time_before(autojump_clock):
    is_busy = False
    pace = Pace(busy=lambda: is_busy, share_max=0.25)
    for _ in range(1000):
        pace.took(1.0)
    is_busy = True
    await pace.turn()
    assert trio.current_time() == 0.0
