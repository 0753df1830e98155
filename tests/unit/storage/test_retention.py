"""Retention: what is old or too much goes, what somebody needs stays."""

from __future__ import annotations

import pytest

from cdp.clock import DAY_US, HOUR_US
from cdp.storage.block import key_of
from cdp.storage.codec import SealedCodec
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.storage.retention import (
    Place,
    RetainedLog,
    Retention,
    RetentionLimits,
    cut_by_age,
    due_cuts,
    forget_events,
    note_head,
)
from cdp.testing.world import make_vault, run_inline

UNLIMITED = 10**15


def append(store, log, records):
    batch = store.batch()
    log.append(batch, records)
    store.write(batch)
    log.publish()


def message_key(record):
    return record[:16].ljust(16, b".")


class World:
    """An event log with what belongs to its events."""

    def __init__(self, *, age_us_max=10 * DAY_US, bytes_max=UNLIMITED):
        self.store = MemoryStore()
        self.log = Log(self.store, "events")
        self.needed_from = UNLIMITED
        forget = forget_events(self.store, lambda records: [message_key(r) for r in records])
        kept = RetainedLog(self.log, lambda: self.needed_from, forget)
        limits = RetentionLimits(age_us_max=age_us_max, bytes_max=bytes_max)
        self.retention = Retention(self.store, [kept], limits)

    def feed(self, count, size=100):
        first = self.log.head
        records = [(b"m%06d" % n).ljust(size, b"x") for n in range(first, first + count)]
        append(self.store, self.log, records)
        batch = self.store.batch()
        for offset, record in enumerate(records, first):
            batch.put("seen", message_key(record), key_of(0) + key_of(offset))
            batch.put("outcomes", key_of(offset - offset % 256) + b"crm", b"")
            batch.put("timeline", b"l" * 16 + key_of(offset) * 2, b"")
        self.store.write(batch)

    async def days_pass(self, days):
        cut_count = 0
        for day in days:
            cut_count += await self.retention.sweep(day * DAY_US)
            self.feed(100)
        return cut_count


async def test_erased_events_go_like_others_and_their_message_ids_are_not_asked_for():
    store, asked = MemoryStore(), []
    vault = make_vault(store)
    log = Log(store, "events", SealedCodec(vault, "events"))
    batch = store.batch()
    log.append(batch, [b"ada", b"bob"], [b"a" * 16, b"b" * 16])
    store.write(batch)
    log.publish()
    await vault.destroy(vault.slots_of(b"a" * 16), run_inline)
    log.forget_cached()

    def message_keys(records):
        asked.extend(records)
        return [message_key(record) for record in records]

    kept = RetainedLog(log, lambda: UNLIMITED, forget_events(store, message_keys))
    retention = Retention(store, [kept], RetentionLimits(age_us_max=DAY_US, bytes_max=UNLIMITED))
    for day in range(4):
        await retention.sweep(day * DAY_US)
    assert (log.start, asked) == (2, [b"bob"])


async def test_events_older_than_the_limit_go_and_younger_ones_stay():
    world = World()
    await world.days_pass(range(30))
    # At day 29 all that was there at day 19 is old: 19 days of 100 events.
    assert world.log.start == 1900
    assert world.log.head == 3000
    assert world.log.get(1899) is None
    assert world.log.get(1900) is not None


async def test_nothing_goes_past_what_is_needed():
    world = World()
    world.needed_from = 450
    await world.days_pass(range(30))
    assert world.log.start == 400
    world.needed_from = UNLIMITED
    await world.retention.sweep(29 * DAY_US)
    assert world.log.start == 1900


async def test_a_log_that_is_too_large_keeps_its_end():
    world = World(bytes_max=20_000)
    for _ in range(50):
        world.feed(10, size=100)
    await world.retention.sweep(0)
    assert 19_000 < world.log.stored_bytes() <= 20_000
    assert world.log.head == 500


async def test_the_rows_of_an_event_go_with_it_and_its_timeline_stays():
    world = World()
    await world.days_pass(range(30))
    offsets = [int.from_bytes(row[8:], "big") for _, row in world.store.items("seen")]
    assert sorted(offsets) == list(range(1900, 3000))
    buckets = [int.from_bytes(key[:8], "big") for key, _ in world.store.items("outcomes")]
    assert buckets[0] == 1792  # the bucket of 256 that the first kept event is in
    assert len(world.store.scan("timeline")) == 3000


async def test_a_message_id_that_came_again_keeps_its_row():
    world = World()
    world.feed(1)
    batch = world.store.batch()
    again = key_of(5 * DAY_US) + key_of(250)
    batch.put("seen", message_key(b"m000000".ljust(100, b"x")), again)
    world.store.write(batch)
    await world.days_pass(range(12))
    assert world.log.start > 0
    assert world.store.get("seen", message_key(b"m000000".ljust(100, b"x"))) == again


async def test_a_sweep_takes_bounded_steps():
    world = World(bytes_max=1)
    world.feed(10_000, size=20)
    batches = []
    write = world.store.write
    world.store.write = lambda batch: (batches.append(len(batch)), write(batch))
    assert await world.retention.sweep(0) == 10_000
    assert len(batches) > 8
    assert max(batches) <= 1_300


async def test_an_interrupted_sweep_is_finished_by_the_next():
    world = World(bytes_max=1)
    world.feed(5_000, size=20)
    kept = world.retention._logs[0]
    assert world.retention._step(kept, 5_000)
    again = World(bytes_max=1)
    again.store, again.log = world.store, Log(world.store, "events")
    assert again.log.start == world.log.start > 0
    assert again.log.head == 5_000


def test_an_age_is_told_by_the_youngest_note_that_is_old_enough():
    notes = [(10, 100), (20, 150), (30, 400)]
    assert [cut_by_age(notes, at) for at in (9, 10, 29, 30, 99)] == [0, 100, 150, 400, 400]


@pytest.mark.parametrize("interval_us", [HOUR_US // 60, HOUR_US, 5 * DAY_US])
def test_notes_stay_few_and_never_forget_what_they_are_for(interval_us):
    notes, age_us = [], 90 * DAY_US
    heads = {}
    for tick in range(5_000):
        now_us = tick * interval_us
        heads[now_us] = tick
        notes = note_head(notes, now_us, tick, age_us)
        assert len(notes) <= 256
        due = cut_by_age(notes, now_us - age_us)
        exact = (
            max((head for at, head in heads.items() if at <= now_us - age_us), default=0)
            if (tick % 500 == 499)
            else None
        )
        if exact is not None:
            spacing = max(1, age_us // 128 // interval_us + 1)
            assert exact - spacing <= due <= exact


def test_a_clock_that_goes_back_adds_no_note():
    assert note_head([(100, 5)], 50, 9, 1_000) == [(100, 5)]


def test_logs_over_the_size_give_up_in_proportion():
    asked = []

    def place(size, needed=UNLIMITED):
        return Place(size, needed, lambda allowed: asked.append(allowed) or 7)

    limits = RetentionLimits(age_us_max=DAY_US, bytes_max=100)
    assert due_cuts(limits, [(place(300), []), (place(100), [])], 0) == [7, 7]
    assert asked == [75, 25]
    assert due_cuts(limits, [(place(300, needed=3), [])], 0) == [3]
    assert due_cuts(limits, [(place(60), []), (place(40), [])], 0) == [0, 0]


def test_what_the_deduplication_window_needs_stays_whatever_its_size():
    place = Place(300, UNLIMITED, lambda allowed: 7)
    limits = RetentionLimits(age_us_max=30 * DAY_US, bytes_max=100, age_us_min=7 * DAY_US)
    notes = [(day * DAY_US, day) for day in range(10)]
    assert due_cuts(limits, [(place, notes)], 9 * DAY_US) == [2]
    assert due_cuts(limits, [(place, notes[:2])], 6 * DAY_US) == [0]
