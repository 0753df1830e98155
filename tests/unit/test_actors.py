"""The three rules of `cdp.actors`: back-pressure, crash, drain; and that each is bounded."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from cdp.actors import Actor, ActorGaveUp, Mailbox, RestartPolicy, Supervisor, open_supervisor


def ignore_crash(actor: Actor, crash: Exception) -> None:
    pass


async def count_into(outbox: Mailbox[int], count: int) -> None:
    for number in range(count):
        await outbox.send(number)


async def pass_on(inbox: Mailbox[int], outbox: Mailbox[int]) -> None:
    async for number in inbox:
        await outbox.send(number)


async def collect(inbox: Mailbox[int], into: list[int]) -> None:
    async for number in inbox:
        into.append(number)


def start_line(supervisor: Supervisor, got: list[int], count: int) -> None:
    """A source, a relay and a sink over two small mailboxes."""
    first, second = Mailbox[int]("first", capacity=2), Mailbox[int]("second", capacity=2)
    supervisor.start(Actor("source", partial(count_into, first, count), feeds=(first,)))
    relay = partial(pass_on, first, second)
    supervisor.start(Actor("relay", relay, inbox=first, feeds=(second,)))
    supervisor.start(Actor("sink", partial(collect, second, got), inbox=second))


async def test_the_end_of_the_head_drains_the_line_in_order_and_loses_nothing() -> None:
    got: list[int] = []
    async with open_supervisor(on_crash=ignore_crash) as supervisor:
        start_line(supervisor, got, 100)
    assert got == list(range(100))


async def test_a_mailbox_ends_only_after_its_last_feeder(autojump_clock: trio.abc.Clock) -> None:
    box, got = Mailbox[int]("box", capacity=4), []

    async def late() -> None:
        await trio.sleep(10)
        await box.send(99)

    async with open_supervisor(on_crash=ignore_crash) as supervisor:
        supervisor.start(Actor("early", partial(count_into, box, 3), feeds=(box,)))
        supervisor.start(Actor("late", late, feeds=(box,)))
        supervisor.start(Actor("sink", partial(collect, box, got), inbox=box))
    assert got == [0, 1, 2, 99]


async def test_a_reader_that_hangs_bounds_its_writer_at_the_capacity() -> None:
    box = Mailbox[int]("box", capacity=7)
    sent = 0

    async def source() -> None:
        nonlocal sent
        while True:
            await box.send(sent)
            sent += 1

    async with open_supervisor(on_crash=ignore_crash) as supervisor:
        supervisor.start(Actor("source", source, feeds=(box,)))
        await trio.testing.wait_all_tasks_blocked()
        assert sent == 7
        assert not box.offer(8)
        supervisor.cancel()


async def test_a_crashed_actor_runs_again_with_its_mailbox(autojump_clock: trio.abc.Clock) -> None:
    box, got, crashes = Mailbox[int]("box", capacity=10), [], []

    async def fragile() -> None:
        async for number in box:
            if number == 3:
                raise ValueError(number)
            got.append(number)

    async with open_supervisor(on_crash=lambda _, e: crashes.append(repr(e))) as supervisor:
        supervisor.start(Actor("source", partial(count_into, box, 6), feeds=(box,)))
        supervisor.start(Actor("fragile", fragile, inbox=box))
    assert got == [0, 1, 2, 4, 5]
    assert crashes == ["ValueError(3)"]


async def test_too_many_crashes_cancel_the_siblings(autojump_clock: trio.abc.Clock) -> None:
    start = trio.current_time()
    policy = RestartPolicy(crashes_max=3, window_s=60, backoff_s_min=1, backoff_s_max=10)

    async def broken() -> None:
        raise ValueError

    with pytest.RaisesGroup(ActorGaveUp):
        async with open_supervisor(on_crash=ignore_crash) as supervisor:
            supervisor.start(Actor("broken", broken, restart=policy))
            supervisor.start(Actor("sibling", trio.sleep_forever))
    assert trio.current_time() - start == pytest.approx(1 + 2 + 4)


async def test_crashes_older_than_the_window_are_forgiven(autojump_clock: trio.abc.Clock) -> None:
    runs = 0

    async def now_and_then() -> None:
        nonlocal runs
        runs += 1
        await trio.sleep(100)
        if runs < 50:
            raise ValueError

    policy = RestartPolicy(crashes_max=1, window_s=60)
    async with open_supervisor(on_crash=ignore_crash) as supervisor:
        supervisor.start(Actor("now and then", now_and_then, restart=policy))
    assert runs == 50


async def test_a_drain_has_a_deadline(autojump_clock: trio.abc.Clock) -> None:
    async with open_supervisor(on_crash=ignore_crash) as supervisor:
        supervisor.start(Actor("stuck", trio.sleep_forever))
        start = trio.current_time()
        supervisor.drain(timeout_s=30)
    assert supervisor.draining.is_set()
    assert trio.current_time() - start == pytest.approx(30)


async def test_returning_before_the_mailbox_ended_is_a_crash(
    autojump_clock: trio.abc.Clock,
) -> None:
    box = Mailbox[int]("box", capacity=1)

    async def quitter() -> None:
        pass

    with pytest.RaisesGroup(ActorGaveUp):
        async with open_supervisor(on_crash=ignore_crash) as supervisor:
            never = RestartPolicy(crashes_max=0)
            supervisor.start(Actor("quitter", quitter, inbox=box, restart=never))


async def test_a_batch_takes_what_is_waiting_and_no_more_than_asked() -> None:
    box = Mailbox[int]("box", capacity=10)
    for number in range(7):
        assert box.offer(number)
    box.end()
    batches = []
    while batch := await box.receive_batch(3):
        batches.append(batch)
    assert batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert box.ended


async def test_a_supervisor_is_an_actor_of_its_parent(autojump_clock: trio.abc.Clock) -> None:
    attempts = 0

    async def tree() -> None:
        nonlocal attempts
        attempts += 1

        async def broken() -> None:
            if attempts < 3:
                raise ValueError

        async with open_supervisor(on_crash=ignore_crash) as inner:
            inner.start(Actor("broken", broken, restart=RestartPolicy(crashes_max=0)))

    async with open_supervisor(on_crash=ignore_crash) as outer:
        outer.start(Actor("tree", tree))
    assert attempts == 3
