"""One destination over a log: everything ends once, in order, in the batches it asked for."""

from __future__ import annotations

import httpx
import trio

from cdp.clock import SECOND_US
from cdp.config import DestinationConfig, Limits
from cdp.consent import policy
from cdp.delivery import Delivered, Rejected, Retry
from cdp.delivery.backlog import PASSED_MAX
from cdp.delivery.control import Deliveries
from cdp.delivery.outcomes import explain_event
from cdp.domain.change import MERGED
from cdp.domain.event import ConsentStamp
from cdp.telemetry import Metrics


def script(*answers):
    """Answers to attempts in turn, the last one for ever; one for every delivery of a batch."""
    left = list(answers)

    def answer(batch):
        one = left.pop(0) if len(left) > 1 else left[0]
        return one if isinstance(one, list) else [one] * len(batch)

    return answer


async def test_everything_that_was_granted_is_delivered_once_in_batches(autojump_clock, world):
    world.append(25)
    await world.run_for(1)
    assert world.service.sizes == [10, 10, 5]
    assert world.service.names == [f"m{n}" for n in range(25)]
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.pending, counts.dead) == (25, 25, 0, 0)
    assert world.rows("pending") == 0


async def test_an_event_that_arrives_later_is_delivered_without_a_restart(autojump_clock, world):
    async with world.running():
        await trio.sleep(5)
        world.append(3)
        await trio.sleep(0.01)
        assert world.service.names == ["m0", "m1", "m2"]


async def test_a_restart_repeats_nothing_that_was_committed(autojump_clock, world):
    world.append(25)
    await world.run_for(1)
    world.restart()
    world.append(1)
    await world.run_for(1)
    assert world.service.names == [f"m{n}" for n in range(26)]
    assert world.books().live.delivered == 26


async def test_retries_keep_the_delivery_id_and_count_their_attempts(autojump_clock, world):
    world.service.answer = script(Retry("http_500"), Retry("http_500"), Delivered())
    world.append(1)
    await world.run_for(300)
    assert [one.attempt for batch in world.service.attempts for one in batch] == [1, 2, 3]
    assert len(set(world.service.ids)) == 1
    assert world.books().live.delivered == 1


async def test_a_refusal_is_final_and_leaves_a_dead_letter_with_its_reason(autojump_clock, world):
    world.service.answer = script(Rejected("http_400"))
    world.append(1)
    async with world.running() as deliveries:
        await trio.sleep(600)
        (letter,) = deliveries.dead_letters("out")
    assert world.service.sizes == [1]
    assert (letter.reason, letter.attempts, letter.event_offset) == ("rejected: http_400", 1, 0)
    counts = world.books().live
    assert (counts.offered, counts.dead, counts.pending) == (1, 1, 0)


async def test_a_lost_answer_is_unknown_and_is_asked_again_under_the_same_id(autojump_clock, world):
    effects = []

    async def slow_once(batch):
        effects.extend(one.delivery_id for one in batch)
        if len(effects) == 1:
            await trio.sleep_forever()
        return [Delivered() for _ in batch]

    world.service.answer = slow_once
    world.append(1)
    await world.run_for(300)
    assert len(effects) == 2
    assert effects[0] == effects[1]
    assert world.books().live.delivered == 1


async def test_order_of_a_profile_holds_while_an_earlier_delivery_waits_for_its_retry(
    autojump_clock, world
):
    first_two = iter([[Retry("http_500"), Delivered()], [Retry("http_500")]])
    world.service.answer = lambda batch: next(first_two, [Delivered()] * len(batch))
    world.append(profiles=[7, 8, 7, 7, 8])
    await world.run_for(600)
    done = [
        (one.profile_id, one.event["messageId"])
        for number, batch in enumerate(world.service.attempts)
        for place, one in enumerate(batch)
        if not (number == 0 and place == 0) and number != 1
    ]
    of_seven = [name for who, name in done if who == (7).to_bytes(16, "big").hex()]
    assert of_seven == ["m0", "m2", "m3"]
    assert world.books().live.delivered == 5


async def test_one_profile_is_never_twice_in_a_batch_that_may_fail_in_parts(autojump_clock, world):
    world.append(profiles=[1, 1, 2, 1])
    await world.run_for(1)
    assert world.service.names == ["m0", "m2", "m1", "m3"]
    assert world.service.sizes == [2, 1, 1]


async def test_an_atomic_batch_takes_a_profile_as_often_as_it_occurs(autojump_clock, make_world):
    world = make_world(batch_max=10, batch_atomic=True)
    world.append(profiles=[1, 1, 2, 1])
    world.service.answer = script(Retry("http_500"), Delivered())
    await world.run_for(60)
    assert world.service.sizes == [4, 4]
    assert world.service.names == ["m0", "m1", "m2", "m3"] * 2


async def test_one_profile_is_never_in_two_batches_that_fly_together(autojump_clock, make_world):
    world = make_world(batch_max=2, batch_atomic=True, concurrency_max=4)
    flying: list[set] = []

    async def slow(batch):
        mine = {one.profile_id for one in batch}
        assert all(not mine & other for other in flying)
        flying.append(mine)
        await trio.sleep(1 + len(flying) % 3)
        flying.remove(mine)
        return [Delivered() for _ in batch]

    world.service.answer = slow
    world.append(profiles=[1, 2, 1, 3, 2, 1, 4, 5, 5, 1, 6, 7] * 5)
    await world.run_for(600)
    assert world.books().live.delivered == 60
    for number in range(1, 8):
        who = number.to_bytes(16, "big").hex()
        names = [
            int(one.event["messageId"][1:])
            for batch in world.service.attempts
            for one in batch
            if one.profile_id == who
        ]
        assert names == sorted(names)


async def test_at_most_concurrency_max_batches_fly(autojump_clock, make_world):
    world = make_world(batch_max=1, concurrency_max=3)
    flying = peak = 0

    async def slow(batch):
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await trio.sleep(1)
        flying -= 1
        return [Delivered() for _ in batch]

    world.service.answer = slow
    world.append(9)
    await world.run_for(3.5)
    assert peak == 3
    assert world.books().live.delivered == 9


async def test_a_batch_that_hangs_does_not_stop_those_that_fly_beside_it(
    autojump_clock, make_world
):
    world = make_world(batch_max=1, concurrency_max=2)

    async def first_hangs(batch):
        if batch[0].event["messageId"] == "m0":
            await trio.sleep_forever()
        return [Delivered()]

    world.service.answer = first_hangs
    world.append(20)
    await world.run_for(10)
    counts = world.books().live
    assert (counts.delivered, counts.pending, counts.offered) == (19, 1, 20)


async def test_a_destination_that_hangs_never_delays_another(autojump_clock, world):
    world.names = ["hanging", "healthy"]
    arrived = []

    async def by_name(batch):
        if len(arrived) == 0 and not hung:
            hung.append(1)
            await trio.sleep_forever()
        arrived.append(trio.current_time())
        return [Delivered() for _ in batch]

    hung: list[int] = []
    world.service.answer = by_name
    world.append(10)
    began = trio.current_time()
    await world.run_for(1)
    assert arrived == [began]


async def test_the_taking_stops_at_pending_max_and_nothing_is_dropped(autojump_clock, world):
    world.limits = Limits(pending_max=37, backoff_s_min=3600.0, backoff_s_max=3600.0)

    def one_of_each(batch):  # something gets through, so the circuit stays closed
        return [Retry("busy")] * (len(batch) - 1) + [Delivered() if batch[1:] else Retry("busy")]

    world.service.answer = one_of_each
    world.append(500)
    async with world.running():
        await trio.sleep(1)
        counts = world.books().live
        assert counts.pending == 37
        assert world.rows("pending") == 37
        assert counts.offered == 37 + counts.delivered
        world.service.answer = lambda batch: [Delivered()] * len(batch)
        await trio.sleep(80_000)
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.pending) == (500, 500, 0)


async def test_an_open_circuit_spends_no_attempts_and_takes_nothing(autojump_clock, world):
    world.service.answer = script(Retry("http_503"))
    world.append(500)
    await world.run_for(20)
    counts = world.books().live
    assert counts.offered == 50  # five batches of ten opened it
    assert len(world.service.attempts) < 15  # and then only probes


async def test_a_service_that_comes_back_gets_everything(autojump_clock, world):
    up_at = trio.current_time() + 500

    def down_then_up(batch):
        up = trio.current_time() >= up_at
        return [Delivered() if up else Retry("http_503")] * len(batch)

    world.service.answer = down_then_up
    world.append(500)
    await world.run_for(2_000)
    assert world.books().live.delivered == 500


async def test_an_exception_is_one_failed_attempt_of_each_delivery(autojump_clock, world):
    def explode(batch):
        raise ValueError("secret in here")

    answers = [explode, lambda batch: [Delivered()] * len(batch)]
    world.service.answer = lambda batch: (
        answers.pop(0)(batch) if answers else [Delivered()] * len(batch)
    )
    world.append(2)
    await world.run_for(60)
    attempts = {one.delivery_id: one.attempt for batch in world.service.attempts for one in batch}
    assert set(attempts.values()) == {2}
    assert "secret" not in "".join(world.journal)


async def test_a_wrong_number_of_outcomes_is_a_failed_attempt(autojump_clock, world):
    world.service.answer = script([Delivered()], Delivered())
    world.append(3)
    await world.run_for(60)
    assert world.service.sizes[0] == 3
    counts = world.books().live
    assert counts.delivered == 3
    assert sum(world.service.sizes[1:]) == 3


async def test_a_delivery_that_breaks_the_plugin_is_isolated_from_its_batch(autojump_clock, world):
    def poison(batch):
        if any(one.event["messageId"] == "m3" for one in batch):
            raise KeyError("m3")
        return [Delivered() for _ in batch]

    world.limits = Limits(attempts_max=20, backoff_s_max=10.0)
    world.service.answer = poison
    world.append(10)
    await world.run_for(2_000)
    counts = world.books().live
    assert (counts.delivered, counts.dead) == (9, 1)


async def test_an_atomic_batch_that_is_refused_is_halved_until_the_culprit_stands_alone(
    autojump_clock, make_world
):
    world = make_world(batch_max=16, batch_atomic=True)

    def picky(batch):
        bad = any(one.event["messageId"] == "m5" for one in batch)
        return [Rejected("http_400") if bad else Delivered()] * len(batch)

    world.service.answer = picky
    world.append(16)
    async with world.running() as deliveries:
        await trio.sleep(60)
        (letter,) = deliveries.dead_letters("out")
    assert letter.event_offset == 5
    assert world.books().live.delivered == 15
    assert len(world.service.attempts) == 16 // 2 + 1  # a halving a level, then its good halves


async def test_attempts_max_ends_in_a_dead_letter(autojump_clock, world):
    world.limits = Limits(attempts_max=4)
    world.service.answer = script(Retry("http_500"))
    world.append(1)
    async with world.running() as deliveries:
        await trio.sleep(10_000)
        (letter,) = deliveries.dead_letters("out")
    assert (letter.attempts, letter.reason) == (4, "attempts_exhausted: http_500")
    assert world.books().live.dead == 1


async def test_the_retry_window_ends_in_a_dead_letter_after_a_last_attempt_at_its_end(
    autojump_clock, world
):
    world.limits = Limits(retry_window_s=100.0)
    world.service.answer = script(Retry("later", after_s=1e9))
    world.append(1)
    async with world.running() as deliveries:
        await trio.sleep(10_000)
        (letter,) = deliveries.dead_letters("out")
    assert letter.reason == "window_expired: later"
    assert world.service.times_s[-1] - world.service.times_s[0] == 100.0


async def test_retry_after_is_the_earliest_time_of_the_next_attempt(autojump_clock, world):
    world.service.answer = script(Retry("http_429", after_s=50), Delivered())
    world.append(1)
    await world.run_for(200)
    first, second = world.service.times_s
    assert second - first == 50


async def test_dead_letters_are_bounded_and_what_does_not_fit_waits(autojump_clock, world):
    world.limits = Limits(dead_letters_max=2, backoff_s_max=10.0, backoff_s_min=1.0)
    world.service.answer = script(Rejected("no"))
    world.append(5)
    await world.run_for(100)
    counts = world.books().live
    assert (counts.dead, counts.pending) == (2, 3)


async def test_the_rate_holds_to_the_batch(autojump_clock, make_world):
    world = make_world(batch_max=1, rate_per_s_max=2.0)
    world.append(20)
    await world.run_for(5.2)
    began = world.service.times_s[0]
    assert [round(at - began, 3) for at in world.service.times_s] == [n / 2 for n in range(11)]


async def test_a_batch_stays_below_the_bytes_that_the_destination_takes(autojump_clock, make_world):
    world = make_world(batch_max=100, batch_bytes_max=400)
    world.append(20)
    await world.run_for(1)
    sizes = world.service.sizes
    assert sum(sizes) == 20
    assert max(sizes) < 8
    assert min(sizes) >= 1


async def test_every_refusal_is_counted_under_its_reason(autojump_clock, make_world):
    world = make_world(batch_max=10)
    world.config = DestinationConfig(type="scripted", events=("track",))
    world.append(1)
    world.append(2, stamp=ConsentStamp(present=True, purposes={"marketing": False}))
    world.append(3, stamp=ConsentStamp(present=True, purposes={}))
    world.append(4, stamp=ConsentStamp())
    world.append(5, type="page")
    world.append(6, integrations={"All": False})
    world.append(7, integrations={"All": False, "out": True})
    world.append_change(MERGED, 0, 1, 2)
    await world.run_for(1)
    counts = world.books().live
    assert counts.filtered == {
        "denied": 2,
        "not_in_stamp": 3,
        "granted_later": 4,
        "type": 5,
        "not_selected": 6,
        "kind": 1,
    }
    assert (counts.offered, counts.delivered) == (29, 8)
    assert counts.holds()


async def test_consent_is_asked_when_offered_and_before_every_attempt(
    autojump_clock, world, monkeypatch
):
    asked = []
    real = policy.may

    def counting(*asked_about):
        asked.append(trio.current_time())
        return real(*asked_about)

    monkeypatch.setattr(policy, "may", counting)
    world.service.answer = script(Retry("http_500"), Retry("http_500"), Delivered())
    world.append(1)
    await world.run_for(300)
    assert len(asked) == 1 + 3
    assert asked[1:] == world.service.times_s


async def test_a_withdrawn_consent_stops_a_delivery_already_queued(
    autojump_clock, world, monkeypatch
):
    world.service.answer = script(Retry("http_500"))
    world.append(1)
    async with world.running():
        await trio.sleep(0.001)
        assert world.books().live.pending == 1
        monkeypatch.setattr(policy, "may", lambda *_: policy.Decision(False, "denied"))
        await trio.sleep(100)
    counts = world.books().live
    assert (counts.pending, counts.filtered) == (0, {"denied": 1})
    assert len(world.service.attempts) == 1


async def test_a_default_holds_only_where_the_event_says_nothing(autojump_clock, world):
    world.defaults = {"marketing": "granted"}
    world.append(1, stamp=ConsentStamp())
    world.append(1, stamp=ConsentStamp(present=True, purposes={}))
    await world.run_for(1)
    assert world.service.names == ["m0"]


async def test_a_merge_waits_for_both_profiles_and_holds_back_what_follows(
    autojump_clock, make_world
):
    world = make_world(batch_max=1, concurrency_max=4, receives=frozenset({"event", "merged"}))
    world.service.answer = script(Retry("http_500"), Delivered())
    world.append(profiles=[2])
    world.append_change(MERGED, 0, 1, 2)
    world.append(profiles=[1])
    await world.run_for(60)
    told = [(one.kind, one.attempt) for batch in world.service.attempts for one in batch]
    assert told == [("event", 1), ("event", 2), ("merged", 1), ("event", 1)]
    merged = world.service.attempts[2][0]
    assert (merged.event, merged.profile_id, merged.other_profile_id) == (
        None,
        (1).to_bytes(16, "big").hex(),
        (2).to_bytes(16, "big").hex(),
    )


async def test_a_merge_that_is_not_received_still_orders_its_profiles(autojump_clock, make_world):
    world = make_world(batch_max=1, concurrency_max=4)
    world.service.answer = script(Retry("http_500"), Delivered())
    world.append(profiles=[2])
    world.append_change(MERGED, 0, 1, 2)
    world.append(profiles=[1])
    await world.run_for(60)
    assert world.service.names == ["m0", "m0", "m1"]
    assert world.books().live.filtered == {"kind": 1}


async def test_an_event_of_nobody_is_delivered_and_orders_nothing(autojump_clock, world):
    world.service.answer = script([Retry("http_500"), Delivered()], Delivered())
    world.append(profiles=[0, 0])
    await world.run_for(60)
    assert world.service.names == ["m0", "m1", "m0"]
    assert world.service.attempts[0][0].profile_id is None


async def test_a_drain_lets_what_flies_land_and_commits_it(autojump_clock, world):
    async def slow(batch):
        await trio.sleep(2)
        return [Delivered() for _ in batch]

    world.service.answer = slow
    world.append(25)
    async with world.running() as deliveries:
        await trio.sleep(1)
        world.stopping.set()
        await trio.sleep(5)
        assert deliveries.status()[0].state == "stopped"
    counts = world.books().live
    assert (counts.offered, counts.delivered, counts.pending) == (10, 10, 0)


async def test_a_start_that_fails_is_tried_again_and_never_crashes_the_actor(
    autojump_clock, make_world
):
    tried = []

    async def start(self):
        tried.append(trio.current_time())
        if len(tried) < 3:
            raise httpx.ConnectError("refused")

    world = make_world(batch_max=10, start=start)
    world.append(1)
    await world.run_for(60)
    assert len(tried) == 3
    assert world.books().live.delivered == 1


async def test_what_became_of_an_event_can_be_told(autojump_clock, world):
    world.service.answer = script([Rejected("bad"), Delivered(), Retry("later")], Delivered())
    world.append(3)
    world.append(1, stamp=ConsentStamp())
    async with world.running():
        await trio.sleep(0.001)
        told = {offset: explain_event(world.store, offset) for offset in range(4)}
        assert [one.state for one in told[2]] == ["pending"]
        assert (told[2][0].reason, told[2][0].attempts) == ("later", 1)
        await trio.sleep(60)
    (dead,), (delivered,), (filtered,) = told[0], told[1], told[3]
    assert (dead.state, dead.reason, dead.attempts) == ("dead", "rejected: bad", 1)
    assert (delivered.state, delivered.attempts, delivered.destination) == ("delivered", 1, "out")
    assert (filtered.state, filtered.reason, filtered.attempts) == ("filtered", "granted_later", 0)
    (second,) = explain_event(world.store, 2)
    assert (second.state, second.attempts) == ("delivered", 2)
    assert second.at_us > delivered.at_us
    assert delivered.at_us - world.clock.now_us() < SECOND_US


async def test_the_outcomes_of_a_healthy_stretch_take_few_rows(autojump_clock, world):
    world.append(256)
    await world.run_for(1)
    assert world.rows("outcomes") == 26  # one a batch of ten, not one an event


async def test_ticks_come_in_time_and_never_beside_a_delivery(autojump_clock, make_world):
    ticks = []
    busy = []

    async def tick(self):
        assert not busy
        ticks.append(trio.current_time())

    async def slow(batch):
        busy.append(1)
        await trio.sleep(0.7)
        busy.pop()
        return [Delivered() for _ in batch]

    world = make_world(batch_max=1, tick_s=1.0, tick=tick)
    world.service.answer = slow
    world.append(5)
    await world.run_for(10.5)
    assert len(ticks) >= 8
    assert world.books().live.delivered == 5


async def test_what_is_filtered_behind_one_that_hangs_is_committed_all_the_same(
    autojump_clock, make_world
):
    world = make_world(batch_max=1, concurrency_max=2)
    world.limits = Limits(deliver_timeout_s=1_000.0)

    async def hang(batch):
        await trio.sleep_forever()

    world.service.answer = hang
    world.append(1)
    for _ in range(20):
        world.append(500, stamp=ConsentStamp())
    async with world.running() as deliveries:
        await trio.sleep(1)
        counts = world.books().live
        assert counts.filtered["granted_later"] >= 10_000 - PASSED_MAX
        assert (counts.pending, counts.delivered) == (1, 0)
        assert len(deliveries._running["out"].backlog.live.passed) < PASSED_MAX


async def test_the_metrics_show_the_books(autojump_clock, world):
    world.service.answer = script([Rejected("no"), Delivered(), Retry("x")], Retry("x"))
    world.append(3)
    world.append(2, stamp=ConsentStamp())
    metrics = Metrics()
    deliveries = Deliveries([world.outlet()], metrics)
    await world.run_for(0.001)
    assert deliveries.names == ["out"]
    lines = metrics.exposition().splitlines()
    shown = {
        line.split('state="')[1].split('"')[0]: float(line.split()[-1])
        for line in lines
        if 'state="' in line
    }
    assert shown == {"offered": 5, "delivered": 1, "filtered": 2, "pending": 1, "dead": 1}
