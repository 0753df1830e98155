"""Redrive and replay: the same delivery ids, through the gate, and the books still balance."""

from __future__ import annotations

import pytest
import trio

from cdp.clock import SECOND_US
from cdp.config import Limits
from cdp.delivery import Delivered, Rejected, Retry
from cdp.delivery.control import DestinationUnknown, ReplayRefused
from cdp.delivery.jobs import DeadLetterFilter
from cdp.delivery.outcomes import explain_event
from cdp.domain.event import ConsentStamp


def refuse(batch):
    return [Rejected("http_400")] * len(batch)


def accept(batch):
    return [Delivered()] * len(batch)


async def test_a_redrive_sends_dead_letters_again_under_their_ids(autojump_clock, world):
    world.service.answer = refuse
    world.append(25)
    async with world.running() as deliveries:
        await trio.sleep(1)
        first = set(world.service.ids)
        world.service.answer = accept
        assert await deliveries.count_dead_letters("out", DeadLetterFilter()) == 25
        assert await deliveries.redrive("out", DeadLetterFilter()) == 25
        await trio.sleep(1)
        assert deliveries.dead_letters("out") == []
    assert set(world.service.ids) == first
    assert len(world.service.ids) == 50
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.dead, counts.pending) == (25, 25, 0, 0)
    states = [one.state for one in explain_event(world.store, 3)]
    assert states == ["dead", "redriven", "delivered"]


async def test_a_redrive_moves_only_what_its_filter_names(autojump_clock, world):
    world.service.answer = lambda batch: [
        Rejected("bad_email" if int(one.event["messageId"][1:]) % 2 else "bad_phone")
        for one in batch
    ]
    world.append(10)
    async with world.running() as deliveries:
        await trio.sleep(1)
        world.service.answer = accept
        assert await deliveries.redrive("out", DeadLetterFilter(reason="email")) == 5
        await trio.sleep(1)
        assert await deliveries.redrive("out", DeadLetterFilter(offsets=frozenset({2, 4}))) == 2
        await trio.sleep(1)
        left = [letter.activation_offset for letter in deliveries.dead_letters("out")]
    assert left == [0, 6, 8]


async def test_what_dies_again_is_not_redriven_twice(autojump_clock, world):
    world.service.answer = refuse
    world.append(3)
    async with world.running() as deliveries:
        await trio.sleep(1)
        await deliveries.redrive("out", DeadLetterFilter())
        await trio.sleep(100)
        assert deliveries.status()[0].redriving is None
    assert len(world.service.ids) == 6
    assert world.books().live.dead == 3


async def test_a_redrive_larger_than_the_room_goes_on_as_room_comes(autojump_clock, world):
    world.service.answer = refuse
    world.limits = Limits(pending_max=7)
    world.append(40)
    async with world.running() as deliveries:
        await trio.sleep(1)
        world.service.answer = accept
        assert await deliveries.redrive("out", DeadLetterFilter()) == 40
        await trio.sleep(10)
    assert world.books().live.delivered == 40
    assert max(world.service.sizes) <= 7


async def test_a_redrive_goes_on_after_a_crash(autojump_clock, world):
    world.service.answer = refuse
    world.limits = Limits(pending_max=5)
    world.append(40)

    async def hang(batch):
        await trio.sleep_forever()

    async with world.running() as deliveries:
        await trio.sleep(1)
        world.service.answer = hang
        await deliveries.redrive("out", DeadLetterFilter())
        await trio.sleep(1)
    assert world.books().live.pending == 5
    world.restart()
    world.service.answer = accept
    await world.run_for(100)
    assert world.books().live.delivered == 40


async def test_a_redrive_asks_for_consent_again(autojump_clock, world):
    world.defaults = {"marketing": "granted"}
    world.service.answer = refuse
    world.append(2, stamp=ConsentStamp())
    await world.run_for(1)
    world.restart()
    world.defaults = {}
    world.service.answer = accept
    async with world.running() as deliveries:
        await deliveries.redrive("out", DeadLetterFilter())
        await trio.sleep(1)
    counts = world.books().live
    assert (counts.delivered, counts.dead, counts.filtered) == (0, 0, {"granted_later": 2})


async def test_a_replay_offers_a_stretch_again_under_the_same_ids_and_its_own_count(
    autojump_clock, world
):
    world.append(25)
    async with world.running() as deliveries:
        await trio.sleep(1)
        deliveries.replay("out", start=5, until=20)
        await trio.sleep(10)
        assert deliveries.status()[0].replaying is None
    again = world.service.ids[25:]
    assert again == world.service.ids[5:20]
    books = world.books()
    assert (books.live.offered, books.live.delivered) == (25, 25)
    assert (books.replay.offered, books.replay.delivered) == (15, 15)
    assert world.store.get("meta", b"cursor:replay:out") is None
    assert world.store.get("meta", b"replay:out") is None


async def test_a_replay_runs_no_faster_than_asked_and_beside_what_is_new(autojump_clock, world):
    world.append(25)
    async with world.running() as deliveries:
        await trio.sleep(1)
        deliveries.replay("out", start=0, per_s_max=2.0)
        await trio.sleep(5)
        world.append(1)
        await trio.sleep(0.01)
        assert world.service.names[-1] == "m25"
        replayed = world.books().replay.offered
        assert 10 <= replayed <= 12
        await trio.sleep(20)
    assert world.books().replay.delivered == 25


async def test_a_replay_passes_the_gate(autojump_clock, world):
    world.defaults = {"marketing": "granted"}
    world.append(4, stamp=ConsentStamp())
    await world.run_for(1)
    world.restart()
    world.defaults = {}
    async with world.running() as deliveries:
        deliveries.replay("out", start=0)
        await trio.sleep(5)
    assert len(world.service.ids) == 4
    assert world.books().replay.filtered == {"granted_later": 4}


async def test_a_replay_leaves_alone_what_is_owed_already(autojump_clock, world):
    world.service.answer = lambda batch: [
        Rejected("no") if one.event["messageId"] == "m1" else Delivered() for one in batch
    ]
    world.append(3)
    async with world.running() as deliveries:
        await trio.sleep(1)
        deliveries.replay("out", start=0)
        await trio.sleep(5)
    books = world.books()
    assert books.replay.filtered == {"already_owed": 1}
    assert (books.replay.delivered, books.live.dead) == (2, 1)


async def test_a_replay_goes_on_after_a_crash(autojump_clock, world):
    world.append(100)
    async with world.running() as deliveries:
        await trio.sleep(1)
        deliveries.replay("out", start=0, per_s_max=10.0)
        await trio.sleep(3)
    world.restart()
    await world.run_for(60)
    assert world.books().replay.delivered == 100
    assert world.books().replay.offered == 100


async def test_a_replay_can_be_stopped(autojump_clock, world):
    world.append(100)
    async with world.running() as deliveries:
        await trio.sleep(1)
        deliveries.replay("out", start=0, per_s_max=10.0)
        await trio.sleep(2)
        assert deliveries.stop_replay("out")
        await trio.sleep(60)
        assert not deliveries.stop_replay("out")
    assert world.books().replay.offered < 40
    assert world.books().replay.holds()


async def test_a_replay_from_a_time_begins_with_the_first_event_received_then(
    autojump_clock, world
):
    world.append(10)
    async with world.running() as deliveries:
        await trio.sleep(100)
        middle = world.clock.now_us()
        world.append(10)
        await trio.sleep(100)
        assert deliveries.offset_at("out", middle) == 10
        assert deliveries.offset_at("out", 0) == 0
        assert deliveries.offset_at("out", middle + 500 * SECOND_US) == 20


async def test_a_replay_of_nothing_or_of_nobody_is_refused(autojump_clock, world):
    world.append(5)
    async with world.running() as deliveries:
        await trio.sleep(1)
        with pytest.raises(ReplayRefused, match="nothing to replay"):
            deliveries.replay("out", start=5)
        with pytest.raises(DestinationUnknown, match="no destination 'other'"):
            deliveries.replay("other", start=0)
        deliveries.replay("out", start=0, per_s_max=0.001)
        with pytest.raises(ReplayRefused, match="replaying already"):
            deliveries.replay("out", start=0)


async def test_a_pause_holds_over_a_restart_and_resume_ends_it(autojump_clock, world):
    async with world.running() as deliveries:
        deliveries.pause("out")
        world.append(5)
        await trio.sleep(10)
        assert deliveries.status()[0].state == "paused"
    world.restart()
    world.append(5)
    async with world.running() as deliveries:
        await trio.sleep(10)
        assert world.service.ids == []
        assert deliveries.status()[0].lag == 10
        deliveries.resume("out")
        await trio.sleep(10)
        assert deliveries.status()[0].state == "running"
    assert len(world.service.ids) == 10


async def test_the_oldest_event_that_is_needed_is_that_of_the_first_row(autojump_clock, world):
    world.service.answer = lambda batch: [
        Delivered() if one.event["messageId"] == "m0" else world.retry for one in batch
    ]
    world.retry = Retry("busy", after_s=1000)
    async with world.running() as deliveries:
        assert deliveries.oldest_event_needed() is None
        world.append(3)
        await trio.sleep(1)
        assert deliveries.oldest_event_needed() == 1
    assert world.deliveries.oldest_event_needed() == 1
