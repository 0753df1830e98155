"""What people's rights ask of delivery: standing, recall, recipients, purge, erasure."""

from __future__ import annotations

import pytest
import trio

from cdp.delivery import Delivered, Rejected, Retry
from cdp.delivery.destination import (
    Erased,
    Erasure,
    ErasureAccepted,
    ErasureRetry,
    ErasureUnsupported,
)
from cdp.delivery.recipients import recipients_of
from cdp.domain.change import MERGED
from cdp.domain.consent import Latest, Standing
from cdp.domain.event import ConsentStamp

ONE, TWO, LEAF = ((n).to_bytes(16, "big") for n in (1, 2, 77))
WITHDRAWN = Standing({"marketing": Latest("denied", 9)})
GONE = Standing(suppressed=True)
ERASURE = Erasure(
    erasure_id="e1", profile_ids=(ONE.hex(),), identifiers=(("user_id", "ann"),), requested_at="now"
)


async def test_where_a_person_stands_decides_with_the_stamp(autojump_clock, world):
    world.standings.of[ONE] = WITHDRAWN
    world.standings.of[TWO] = GONE
    world.append(profiles=[1, 2, 3])
    await world.run_for(1)
    assert world.service.names == ["m2"]
    assert world.books().live.filtered == {"withdrawn": 1, "suppressed": 1}


async def test_what_is_nobodys_follows_the_device_that_it_came_from(autojump_clock, world):
    world.standings.of[b""] = WITHDRAWN
    world.append(profiles=[0, 1])
    await world.run_for(1)
    assert world.service.names == ["m1"]
    assert world.books().live.filtered == {"withdrawn": 1}


async def test_nothing_is_offered_or_filtered_while_nobody_knows_who_is_who(autojump_clock, world):
    world.standings.ready = False
    world.append(3)
    async with world.running():
        await trio.sleep(10)
        assert (world.service.names, world.books().live.offered) == ([], 0)
        world.standings.ready = True
        await trio.sleep(1)
        assert world.service.names == ["m0", "m1", "m2"]


async def test_a_withdrawal_calls_an_attempt_back_and_spares_who_flew_along(autojump_clock, world):
    first = trio.Event()

    async def hang_once(batch):
        if not first.is_set():
            first.set()
            await trio.sleep(20)
        return [Delivered()] * len(batch)

    world.service.answer = hang_once
    world.append(profiles=[1, 2])
    async with world.running() as deliveries:
        await trio.sleep(0.5)
        world.standings.of[ONE] = WITHDRAWN
        (recalled,) = deliveries.recall({ONE})
        assert (recalled.destination, list(recalled.event_offsets)) == ("out", [0])
        await trio.sleep(1)
    assert [[d.event["messageId"] for d in b] for b in world.service.attempts] == [
        ["m0", "m1"],
        ["m1"],
    ]
    counts = world.books().live
    assert (counts.delivered, counts.filtered, counts.pending) == (1, {"withdrawn": 1}, 0)
    assert [one.attempt for one in world.service.attempts[1]] == [1]


async def test_who_became_somebody_else_by_a_split_is_asked_for_what_waited(autojump_clock, world):
    """The event was resolved to ONE; while it waited, its identifier became a person of its own."""
    world.service.answer = lambda batch: [Retry("busy")] * len(batch)
    world.append(profiles=[1], leaf=LEAF)
    async with world.running():
        await trio.sleep(0.1)
        world.standings.apart[LEAF] = WITHDRAWN
        await trio.sleep(600)
    assert world.books().live.filtered == {"withdrawn": 1}
    assert len(world.service.attempts) == 1


async def test_a_withdrawal_calls_back_what_is_of_the_identifier_though_not_of_the_profile(
    autojump_clock, world
):
    async def slow(batch):
        await trio.sleep(20)
        return [Delivered()] * len(batch)

    world.service.answer = slow
    world.append(profiles=[1], leaf=LEAF)
    async with world.running() as deliveries:
        await trio.sleep(0.5)
        world.standings.apart[LEAF] = WITHDRAWN
        (recalled,) = deliveries.recall({LEAF})
        assert list(recalled.event_offsets) == [0]
        await trio.sleep(1)
    assert world.books().live.filtered == {"withdrawn": 1}


async def test_what_waits_and_what_died_is_still_of_its_identifier_after_a_restart(
    autojump_clock, world
):
    answers = iter([Rejected("no"), Retry("busy")])
    world.service.answer = lambda batch: [next(answers, Retry("busy"))] * len(batch)
    world.append(profiles=[1], leaf=LEAF)
    await world.run_for(1)
    world.append(profiles=[1], leaf=LEAF)
    await world.run_for(1)
    assert (world.rows("dead"), world.rows("pending")) == (1, 1)
    world.restart()
    async with world.running() as deliveries:
        await deliveries.purge({LEAF})
        await trio.sleep(1)
    assert (world.rows("dead"), world.rows("pending")) == (0, 0)


async def test_what_is_called_back_and_refused_in_one_turn_leaves_no_row(autojump_clock, world):
    tries = []

    async def busy_then_hang(batch):
        tries.append(len(batch))
        if len(tries) == 2:
            await trio.sleep(20)
        return [Retry("busy")] * len(batch)

    world.service.answer = busy_then_hang
    world.append(profiles=[1])
    async with world.running() as deliveries:
        while len(tries) < 2:  # noqa: ASYNC110 - nothing tells of an attempt
            await trio.sleep(0.1)
        assert world.rows("pending") == 1  # the first failure gave it a row
        world.standings.of[ONE] = WITHDRAWN
        assert deliveries.recall({ONE})
        await trio.sleep(5)
        assert (world.rows("pending"), world.books().live.pending) == (0, 0)
    assert world.books().live.filtered == {"withdrawn": 1}


async def test_a_recall_of_others_disturbs_nobody(autojump_clock, world):
    async def slow(batch):
        await trio.sleep(2)
        return [Delivered()] * len(batch)

    world.service.answer = slow
    world.append(profiles=[1])
    async with world.running() as deliveries:
        await trio.sleep(0.5)
        assert deliveries.recall({TWO}) == []
        await trio.sleep(5)
    assert len(world.service.attempts) == 1


async def test_who_got_something_is_known_before_the_first_attempt_ends(autojump_clock, world):
    async def never(batch):
        await trio.sleep(10_000)

    world.service.answer = never
    world.append(profiles=[1, 1, 2])
    async with world.running():
        await trio.sleep(0.1)
        world.restart()
    assert set(recipients_of(world.store, [ONE])) == {"out"}
    assert world.rows("recipients") == 2
    assert recipients_of(world.store, [(3).to_bytes(16, "big")]) == {}


async def test_what_is_filtered_makes_nobody_a_recipient(autojump_clock, world):
    world.standings.everybody = WITHDRAWN
    world.append(2)
    await world.run_for(1)
    assert world.rows("recipients") == 0


async def test_a_purge_ends_the_dead_letters_of_a_person_and_leaves_the_rest(autojump_clock, world):
    world.service.answer = lambda batch: [Rejected("no")] * len(batch)
    world.append(profiles=[1, 2, 1])
    async with world.running() as deliveries:
        await trio.sleep(1)
        assert world.rows("dead") == 3
        world.standings.of[ONE] = GONE
        assert await deliveries.purge({ONE}) == 2
        await trio.sleep(1)
    counts = world.books().live
    assert (counts.dead, counts.filtered) == (1, {"erased": 2})
    assert counts.holds()


async def test_an_event_whose_key_is_destroyed_is_told_from_one_that_retention_took(
    autojump_clock, world
):
    world.append(2)
    read = world.events.read
    world.events.read = lambda *place: [
        entry._replace(record=b"") if entry.offset == 0 else entry for entry in read(*place)
    ]
    await world.run_for(1)
    assert world.service.names == ["m1"]
    assert world.books().live.filtered == {"erased": 1}


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [
        (Erased("e"), Erased("e")),
        (ErasureAccepted("r"), ErasureAccepted("r")),
        (ErasureUnsupported("by hand"), ErasureUnsupported("by hand")),
        (None, ErasureRetry("broken_contract")),
        (ValueError("a bug"), ErasureRetry("exception:ValueError")),
    ],
)
async def test_a_destination_answers_an_erasure_or_is_asked_again(
    autojump_clock, world, answered, outcome
):
    async def erase(self, erasure):
        assert erasure == ERASURE
        if isinstance(answered, Exception):
            raise answered
        return answered

    world.type.erase = erase
    async with world.running() as deliveries:
        assert await deliveries.erase("out", {ONE}, ERASURE) == outcome


async def test_an_erasure_waits_until_the_person_has_landed(autojump_clock, world):
    order = []

    async def slow(batch):
        await trio.sleep(3)
        order.append("delivered")
        return [Delivered()] * len(batch)

    async def erase(self, erasure):
        order.append("erased")
        return Erased()

    world.service.answer, world.type.erase = slow, erase
    world.append(profiles=[1])
    async with world.running() as deliveries:
        await trio.sleep(1)
        await deliveries.erase("out", {ONE}, ERASURE)
    assert order == ["delivered", "erased"]


async def test_a_destination_that_does_not_run_is_asked_later(autojump_clock, world):
    async with world.running() as deliveries:
        assert await deliveries.erase("gone", {ONE}, ERASURE) == ErasureRetry("not_configured")
    assert await deliveries.erase("out", {ONE}, ERASURE) == ErasureRetry("not_running")


async def test_a_type_that_says_nothing_has_the_person_deleted_by_hand(autojump_clock, world):
    world.service.answer = lambda batch: [Retry("busy")] * len(batch)
    async with world.running() as deliveries:
        outcome = await deliveries.erase("out", {ONE}, ERASURE)
    assert isinstance(outcome, ErasureUnsupported)


async def test_no_attempt_starts_after_its_recall_even_one_that_was_decided(autojump_clock, world):
    # The loop decides on the batch and gives way before the attempt: the recall comes in between.
    world.append(profiles=[1])
    async with world.running() as deliveries:
        await trio.sleep(1)
        world.service.attempts.clear()
        delivering = deliveries._running["out"]
        world.append(profiles=[1])
        launch = delivering._launch

        def launch_and_withdraw(nursery, destination):
            launch(nursery, destination)
            if delivering.in_flight:
                world.standings.of[ONE] = WITHDRAWN
                deliveries.recall({ONE})

        delivering._launch = launch_and_withdraw
        await trio.sleep(1)
    assert world.service.attempts == []
    assert world.books().live.filtered == {"withdrawn": 1}


async def test_a_recall_in_a_half_open_circuit_lets_the_next_probe_go(autojump_clock, world):
    async def down(batch):
        if len(world.service.attempts) == 6:
            await trio.sleep(20)
        return [Retry("busy")] * len(batch)

    world.service.answer = down
    world.append(5, profiles=[1, 2, 3, 4, 5])
    async with world.running() as deliveries:
        while len(world.service.attempts) < 6:  # noqa: ASYNC110 - nothing tells of an attempt
            await trio.sleep(0.01)
        world.standings.of[ONE] = WITHDRAWN
        deliveries.recall({ONE})
        world.service.answer = lambda batch: [Delivered()] * len(batch)
        await trio.sleep(1_000)
    counts = world.books().live
    assert (counts.delivered, counts.filtered) == (4, {"withdrawn": 1})


async def test_no_tick_runs_beside_an_erasure(autojump_clock, make_world):
    erasing, ticks = [], []

    async def tick(self):
        assert not erasing
        ticks.append(trio.current_time())
        await trio.sleep(0.4)

    async def erase(self, erasure):
        erasing.append(1)
        await trio.sleep(5)
        erasing.pop()
        return Erased()

    world = make_world(batch_max=10, tick_s=1.0, tick=tick, erase=erase)
    async with world.running() as deliveries:
        await trio.sleep(1.2)  # a tick is under way
        assert await deliveries.erase("out", {ONE}, ERASURE) == Erased()
        before = len(ticks)
        await trio.sleep(3)
        assert len(ticks) > before


async def test_an_erasure_that_takes_too_long_is_asked_again(autojump_clock, make_world):
    async def erase(self, erasure):
        await trio.sleep_forever()

    world = make_world(batch_max=10, erase=erase)
    async with world.running() as deliveries:
        assert await deliveries.erase("out", {ONE}, ERASURE) == ErasureRetry("timeout")


@pytest.mark.parametrize("withdrawn", [ONE, TWO])
async def test_a_merge_is_told_only_where_both_people_allow_it(
    autojump_clock, make_world, withdrawn
):
    world = make_world(batch_max=10, receives=frozenset({"event", "merged"}))
    first = world.append(profiles=[3])
    world.append_change(MERGED, first, 1, 2)
    await world.run_for(1)
    world.standings.of[withdrawn] = WITHDRAWN
    world.append_change(MERGED, first, 1, 2)
    await world.run_for(1)
    kinds = [one.kind for batch in world.service.attempts for one in batch]
    assert sorted(kinds) == ["event", "merged"]
    assert world.books().live.filtered == {"withdrawn": 1}


async def test_a_merge_is_told_only_where_the_event_it_comes_from_allows_it(
    autojump_clock, make_world
):
    world = make_world(batch_max=10, receives=frozenset({"merged"}))
    refused = ConsentStamp(present=True, purposes={"marketing": False})
    first = world.append(profiles=[1], stamp=refused)
    world.append_change(MERGED, first, 1, 2)
    await world.run_for(1)
    assert world.service.attempts == []
    assert world.books().live.filtered == {"kind": 1, "denied": 1}
