"""The log writer: one write and one flush a group, exact duplicates, durable counts, failures."""

from __future__ import annotations

import errno
import json
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from cdp.clock import DAY_US, SECOND_US
from cdp.config import Limits
from cdp.domain.event import EVENT_SCHEMA, Event, encode_event
from cdp.errors import Overloaded, StorageError
from cdp.ingestion import Intake
from cdp.ingestion.deduplication import MessageKeys, offset_in
from cdp.ingestion.submission import Submission
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal, Metrics
from tests.unit.ingestion.front_door import (
    NOW_US,
    FrontDoor,
    HandClock,
    open_front_door,
    request,
    track,
)

WINDOW_S = 3_600
WINDOW_US = WINDOW_S * SECOND_US


def submission(*message_ids: str, at_us: int = NOW_US) -> Submission:
    made = Submission("web", at_us)
    for message_id in message_ids:
        event = Event(EVENT_SCHEMA, "track", message_id, "web", at_us, at_us, user_id="u")
        made.message_ids.append(message_id)
        made.records.append(encode_event(event))
    return made


def intake_over(store: MemoryStore, log: Log, **limits: Any) -> Intake:
    clock = HandClock()
    return Intake(
        store=store,
        events=log,
        clock=clock,
        limits=Limits(deduplication_window_s=WINDOW_S, **limits),
        metrics=Metrics(),
        journal=Journal(clock, lambda line: None),
        key=b"k" * 16,
    )


class Counting(MemoryStore):
    """Counts writes and flushes."""

    def __init__(self, **faults: Any) -> None:
        super().__init__(**faults)
        self.writes = self.flushes = 0

    def write(self, batch: Any) -> None:
        self.writes += 1
        super().write(batch)

    async def sync(self) -> None:
        self.flushes += 1
        await super().sync()


async def run_to_end(intake: Intake) -> None:
    intake.end()
    await intake.run()


async def test_what_waits_together_is_one_write_and_one_flush() -> None:
    store = Counting()
    intake = intake_over(store, Log(store, "events"))
    offered = [submission(f"m{n}") for n in range(100)]
    assert all(intake.offer(one) for one in offered)
    await run_to_end(intake)
    assert (store.writes, store.flushes) == (1, 1)
    assert [one.accepted for one in offered] == [1] * 100


async def test_a_write_is_bounded_and_a_submission_is_never_split() -> None:
    store = Counting()
    intake = intake_over(store, Log(store, "events"))
    for part in range(3):
        assert intake.offer(submission(*(f"m{part}-{n}" for n in range(700))))
    assert intake.offer(submission(*(f"big-{n}" for n in range(2_000))))
    await run_to_end(intake)
    assert store.writes == 4


async def test_nobody_is_answered_before_the_flush(autojump_clock: object) -> None:
    store = MemoryStore(sync_latency_s=lambda: 3.0)
    log = Log(store, "events")
    intake = intake_over(store, log)
    one = submission("m1")
    intake.offer(one)
    started_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        await one.settled()
        assert trio.current_time() - started_s == pytest.approx(3.0)
        assert store.power_cut(Random(1)).get("seen", intake.keys.of("m1"))
        nursery.cancel_scope.cancel()


async def test_a_duplicate_of_an_event_in_flight_waits_for_its_flush(
    autojump_clock: object,
) -> None:
    store = MemoryStore(sync_latency_s=lambda: 3.0)
    intake = intake_over(store, Log(store, "events"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        intake.offer(submission("m1"))
        await trio.sleep(1)
        again = submission("m1")
        intake.offer(again)
        await again.settled()
        assert (again.accepted, again.duplicates) == (0, 1)
        assert trio.current_time() >= 3.0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("after_us", "duplicate"), [(0, 1), (WINDOW_US, 1), (WINDOW_US + 1, 0)])
async def test_the_window_is_exact(after_us: int, duplicate: int) -> None:
    store = MemoryStore()
    intake = intake_over(store, Log(store, "events"))
    again = submission("m1", at_us=NOW_US + after_us)
    intake.offer(submission("m1"))
    intake.offer(submission("other"))
    intake.end()
    await intake.run()
    second = intake_over(store, Log(store, "events"))
    second.offer(again)
    await run_to_end(second)
    assert again.duplicates == duplicate


async def test_a_clock_that_steps_back_makes_no_copies() -> None:
    store = MemoryStore()
    intake = intake_over(store, Log(store, "events"))
    again = submission("m1", at_us=NOW_US - 5 * DAY_US)
    intake.offer(submission("m1"))
    intake.offer(again)
    await run_to_end(intake)
    assert again.duplicates == 1


async def test_each_event_can_be_found_by_its_message_id() -> None:
    store = MemoryStore()
    log = Log(store, "events")
    intake = intake_over(store, log)
    intake.offer(submission("a", "b", "a", "c"))
    await run_to_end(intake)
    for message_id, offset in (("a", 0), ("b", 1), ("c", 2)):
        row = store.get("seen", MessageKeys(b"k" * 16).of(message_id))
        assert row is not None
        assert offset_in(row) == offset
    assert MessageKeys(b"k" * 16).of("a") != MessageKeys(b"other").of("a")


async def test_the_log_wakes_its_readers_after_the_flush() -> None:
    async with open_front_door() as door:
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.log.wait, 0)
                await door.send(track())


# ------------------------------------------------------------------ room


async def test_the_room_for_requests_is_exact() -> None:
    store = MemoryStore()
    intake = intake_over(store, Log(store, "events"), intake_requests_max=2)
    assert [intake.offer(submission(name)) for name in "abc"] == [True, True, False]
    await run_to_end(intake)


async def test_the_room_for_events_is_exact_and_comes_back() -> None:
    store = MemoryStore()
    limits = {"intake_events_max": 10, "batch_events_max": 10}
    intake = intake_over(store, Log(store, "events"), **limits)
    assert intake.offer(submission(*(f"m{n}" for n in range(8))))
    assert not intake.offer(submission("a", "b", "c"))
    assert intake.offer(submission("a", "b"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        await trio.testing.wait_all_tasks_blocked()
        assert intake.offer(submission(*(f"n{n}" for n in range(10))))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_full_intake_is_429_with_whole_seconds() -> None:
    limits = Limits(intake_requests_max=1)
    async with open_front_door(limits) as door:
        data = b"".join(request("POST", "/v1/t", json.dumps(track(n)).encode()) for n in range(3))
        replies = await door.talk(data)
        assert [reply.status for reply in replies] == [200, 429, 429]
        assert int(replies[1].headers["retry-after"]) >= 1
        assert replies[1].json["code"] == "overloaded"
        assert door.gateway.endpoints.held_bytes == 0


async def test_after_the_end_nothing_is_taken_and_what_waits_is_stored() -> None:
    store = MemoryStore()
    log = Log(store, "events")
    intake = intake_over(store, log)
    assert intake.offer(submission("a"))
    intake.end()
    assert not intake.offer(submission("b"))
    await intake.run()
    assert intake.finished.is_set()
    assert len(log.read(0, 10)) == 1


# ------------------------------------------------------------------ failures


async def test_a_store_that_fails_ends_the_writer_and_tells_those_who_wait() -> None:
    store = MemoryStore(sync_fault=lambda: errno.EIO)
    intake = intake_over(store, Log(store, "events"))
    first, second = submission("a"), submission(*(f"m{n}" for n in range(1_024)))
    intake.offer(first)
    intake.offer(second)
    with pytest.raises(StorageError):
        await intake.run()
    for one in (first, second):
        with pytest.raises(Overloaded) as caught:
            await one.settled()
        assert caught.value.retry_after_s >= 1


async def test_a_full_disk_is_503_and_passes() -> None:
    full = True
    async with open_front_door() as door:
        door.store = MemoryStore(sync_fault=lambda: errno.ENOSPC if full else 0)
        door.log = Log(door.store, "events")
        restart_over(door)
        for _ in range(2):
            refused = await door.send(track(1))
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json["code"] == "unavailable"
        full = False
        assert (await door.send(track(1), track(2))).status == 200
        assert sorted(event.message_id for event in door.events()) == ["m1", "m2"]
        assert sum("disk_full" in line for line in door.lines) == 1
        door.lines.clear()


def restart_over(door: FrontDoor) -> None:
    door.intake = door.new_intake()
    door.gateway.endpoints._intake = door.intake
    door.nursery.start_soon(door.intake.run)


async def test_a_cancelled_writer_leaves_nobody_waiting() -> None:
    store = MemoryStore(sync_latency_s=lambda: 1e6)
    intake = intake_over(store, Log(store, "events"))
    one = submission("a")
    intake.offer(one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(Overloaded):
        await one.settled()


async def test_counts_survive_a_restart() -> None:
    async with open_front_door() as door:
        await door.send(track(1), track(1), None)
        for outcome in ("accepted", "duplicate", "rejected"):
            series = f'cdp_ingestion_events_total{{outcome="{outcome}",source="web"}} 1'
            assert series in door.metrics.exposition()
        restart_over(door)
        await door.send(track(1), track(2), None)
        counts = door.counts()
        assert (counts.accepted, counts.duplicate, counts.rejected) == (2, 2, 2)
        assert counts.sent == 6
