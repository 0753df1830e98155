"""A crash at every write, and between an effect and its record: nothing lost or counted twice."""

from __future__ import annotations

import errno
from random import Random

import pytest
import trio

from cdp.config import Limits
from cdp.delivery import Delivered, Rejected, Retry
from cdp.domain.change import MERGED
from cdp.domain.consent import Latest, Standing
from cdp.domain.event import ConsentStamp
from cdp.errors import StorageError
from cdp.storage.memory import MemoryStore


class Faults:
    """Lets a number of writes pass and fails the next."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self) -> int:
        if self.left is None:
            return 0
        self.left -= 1
        return errno.EIO if self.left < 0 else 0


def moody(seed):
    rng = Random(seed)

    def answer(batch):
        kinds = [Delivered(), Delivered(), Retry("busy"), Rejected("no")]
        return [rng.choice(kinds) for _ in batch]

    return answer


def agreed(*, seq):
    return Standing({"marketing": Latest("granted", seq, 4_000_000_000_000_000)})


def ended(world):
    counts = world.books().live
    return counts.delivered + counts.dead + counts.filtered_total()


async def run_until_it_dies(world, seconds):
    died = False
    try:
        await world.run_for(seconds)
    except* StorageError:
        died = True
    return died


@pytest.mark.parametrize("writes", range(14))
async def test_a_write_that_fails_crashes_the_run_and_the_next_one_goes_on(
    autojump_clock, make_world, writes
):
    world = make_world(batch_max=5, concurrency_max=2)
    faults = Faults()
    world.store = MemoryStore(write_fault=faults)
    world.open_logs()
    world.limits = Limits(backoff_s_max=5.0)
    world.service.answer = moody(writes)
    world.append(profiles=[1, 2, 3, 1, 2, 4, 5, 1] * 3)
    world.append(5, stamp=ConsentStamp())
    faults.left = writes
    assert await run_until_it_dies(world, 100)
    faults.left = None
    survivor = world.store.killed()
    world.restart(survivor)
    assert world.books().live.holds()
    assert world.rows("pending") == world.books().live.pending
    await world.run_for(10_000)
    counts = world.books().live
    assert (counts.offered, counts.pending) == (29, 0)
    assert ended(world) == 29
    assert world.rows("dead") == counts.dead
    assert counts.filtered == {"granted_later": 5}


@pytest.mark.parametrize("seed", range(40))
async def test_killed_at_any_moment_everything_ends_exactly_once(autojump_clock, make_world, seed):
    rng = Random(seed)
    world = make_world(
        batch_max=rng.randint(1, 8),
        concurrency_max=rng.randint(1, 4),
        batch_atomic=rng.random() < 0.5,
    )
    world.limits = Limits(backoff_s_max=5.0, pending_max=rng.randint(3, 30))
    moods = moody(seed)
    delivered = []

    async def slow(batch):
        await trio.sleep(rng.random())
        outcomes = moods(batch)
        delivered.extend(
            one.delivery_id
            for one, outcome in zip(batch, outcomes, strict=True)
            if isinstance(outcome, Delivered)
        )
        return outcomes

    world.service.answer = slow
    expected = 0
    for _ in range(6):
        profiles = [rng.randint(0, 4) for _ in range(rng.randint(1, 20))]
        world.append(profiles=profiles)
        expected += len(profiles)
        await world.run_for(rng.random() * 5)
        world.restart()
        assert world.books().live.holds()
        assert world.rows("pending") == world.books().live.pending
        assert world.books().live.pending <= world.limits.pending_max
    await world.run_for(10_000)
    counts = world.books().live
    assert (counts.offered, counts.pending) == (expected, 0)
    assert ended(world) == expected
    # What was delivered and not recorded before a kill came again; never less than what counts.
    assert len(set(delivered)) >= counts.delivered


@pytest.mark.parametrize("seed", range(20))
async def test_a_profile_is_told_in_log_order_whatever_happens(autojump_clock, make_world, seed):
    rng = Random(seed)
    world = make_world(
        batch_max=rng.randint(1, 6),
        concurrency_max=rng.randint(1, 4),
        batch_atomic=rng.random() < 0.5,
    )
    world.limits = Limits(backoff_s_max=3.0)
    told: dict[str, list[int]] = {}

    async def flaky(batch):
        await trio.sleep(rng.random())
        whole = Retry("busy") if rng.random() < 0.4 else Delivered()
        outcomes = [
            whole if world.type.batch_atomic or rng.random() < 0.5 else Retry("busy") for _ in batch
        ]
        for one, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Delivered):
                told.setdefault(one.profile_id, []).append(int(one.event["messageId"][1:]))
        return outcomes

    world.service.answer = flaky
    world.append(profiles=[rng.randint(1, 5) for _ in range(60)])
    for _ in range(3):
        await world.run_for(rng.random() * 6)
        world.restart()
    await world.run_for(10_000)
    assert world.books().live.delivered == 60
    for names in told.values():
        seen_once = list(dict.fromkeys(names))
        assert seen_once == sorted(seen_once)


async def test_a_drain_waits_for_what_flies_without_spinning_on_what_is_due(
    autojump_clock, make_world
):
    world = make_world(batch_max=1, concurrency_max=2)
    world.limits = Limits(deliver_timeout_s=30.0, backoff_s_min=1.0, backoff_s_max=1.0)

    async def answer(batch):
        if batch[0].event["messageId"] != "m0":
            await trio.sleep_forever()
        return [Retry("busy")]

    world.service.answer = answer
    world.append(2)
    async with world.running() as deliveries:
        world.stopping.set()  # m1 hangs, and m0 becomes due long before m1 times out
        with trio.fail_after(60):
            while deliveries._running:  # noqa: ASYNC110 - nothing tells of an actor's end
                await trio.sleep(10)
    assert world.rows("pending") == 2


async def test_a_death_is_on_disk_before_the_profile_goes_on(autojump_clock, make_world):
    world = make_world(batch_max=1)
    world.limits = Limits(attempts_max=1)
    syncs_before: dict[str, int] = {}

    def answer(batch):
        name = batch[0].event["messageId"]
        syncs_before[name] = world.store.sync_count
        return [Rejected("no")] if name == "m0" else [Delivered()]

    world.service.answer = answer
    world.append(2, profiles=[7, 7])
    await world.run_for(5)
    assert syncs_before == {"m0": 1, "m1": 2}  # the first before it is told of anybody
    assert world.rows("dead") == 1


async def test_the_taking_goes_on_when_all_that_was_taken_is_filtered_at_its_attempt(
    autojump_clock, make_world
):
    world = make_world(batch_max=10)
    world.limits = Limits(pending_max=2)
    first = world.append(1, profiles=[1])
    world.append_change(MERGED, first, 1, 2)
    world.append_change(MERGED, first, 1, 3)
    world.append(1, profiles=[5])
    await world.run_for(60)
    assert world.service.names == ["m0", "m1"]


async def test_a_profile_goes_on_when_one_of_a_mixed_batch_is_filtered_at_its_attempt(
    autojump_clock, make_world
):
    world = make_world(batch_max=10)
    one = (1).to_bytes(16, "big")
    world.standings.of[one] = agreed(seq=-1)
    answers = [[Retry("busy"), Retry("busy")]]
    world.service.answer = lambda batch: answers.pop() if answers else [Delivered()] * len(batch)
    world.append(1, profiles=[1], stamp=ConsentStamp())  # m0, on what was said before
    world.append(2, profiles=[2, 1])  # m1, and m2 behind m0
    async with world.running():
        world.standings.of[one] = agreed(seq=1)  # withdrawn in between, and granted again
        await trio.sleep(60)
    assert world.service.names == ["m0", "m1", "m1", "m2"]
    assert world.books().live.filtered == {"granted_later": 1}
    assert world.rows("pending") == 0
