"""The log over a store: offsets, blocks, gaps, truncation, waking."""

from __future__ import annotations

import random

import pytest
import trio

from cdp.errors import StoreDamaged
from cdp.storage.block import check_block, key_of
from cdp.storage.log import BLOCK_RECORDS, Cursors, Entry, Log, walk_blocks
from cdp.storage.memory import MemoryStore
from cdp.storage.verify import verify_tails


class CountingStore(MemoryStore):
    """Counts the reads that reach the store."""

    def __init__(self):
        super().__init__()
        self.scan_count = 0

    def scan(self, *args, **kwargs):
        self.scan_count += 1
        return super().scan(*args, **kwargs)


class Reversed:
    """A codec whose sealed form is not the record."""

    def seal(self, batch, first_offset, records, subjects):
        return [record[::-1] for record in records]

    def open(self, first_offset, sealed):
        return [record[::-1] for record in sealed]


def append(store, log, *records):
    batch = store.batch()
    first = log.append(batch, records)
    store.write(batch)
    log.publish()
    return first


def read_all(log, limit=10):
    found, offset = [], 0
    while entries := log.read(offset, limit):
        found += entries
        offset = entries[-1].offset + 1
    return found


def numbered(first, count):
    return [b"record %d" % number for number in range(first, first + count)]


async def test_offsets_rise_by_one_a_record(store):
    log = Log(store, "events")
    assert append(store, log, b"a", b"b") == 0
    assert append(store, log, b"c") == 2
    assert log.head == 3
    assert log.read(0, 10) == [Entry(0, b"a"), Entry(1, b"b"), Entry(2, b"c")]


async def test_a_block_holds_at_most_256_records_and_lies_under_its_first_offset(store):
    log = Log(store, "events")
    append(store, log, *numbered(0, 600))
    assert [key for key, _ in store.scan("events")] == [key_of(0), key_of(256), key_of(512)]
    assert BLOCK_RECORDS == 256


async def test_appending_nothing_takes_no_offset(store):
    log = Log(store, "events")
    assert append(store, log) == 0
    assert (log.head, store.scan("events")) == (0, [])


@pytest.mark.parametrize("reopened", [False, True])
async def test_every_record_is_found_from_every_offset(store, reopened):
    rng = random.Random(7)
    log, records = Log(store, "events", cached_blocks_max=2), []
    for _ in range(12):
        more = numbered(len(records), rng.choice([1, 2, 100, 256, 300]))
        append(store, log, *more)
        records += more
    if reopened:
        log = Log(store, "events", cached_blocks_max=2)
    assert log.head == len(records)
    assert [entry.record for entry in read_all(log)] == records
    for offset in rng.sample(range(len(records)), 200):
        assert log.get(offset) == records[offset]
        assert log.read(offset, 1)[0] == Entry(offset, records[offset])
    assert log.get(len(records)) is None
    assert log.read(len(records), 10) == []


async def test_a_read_gives_whole_blocks_and_stops_once_it_has_enough(store):
    log = Log(store, "events")
    for _ in range(4):
        append(store, log, *numbered(0, 100))
    assert len(log.read(0, 150)) == 200
    assert len(log.read(50, 150)) == 150
    assert len(log.read(0, 1)) == 100


async def test_records_pass_through_the_codec(store):
    log = Log(store, "events", Reversed())
    append(store, log, b"secret")
    assert Log(store, "events", Reversed()).get(0) == b"secret"
    assert b"secret" not in store.scan("events")[0][1]
    assert b"terces" in store.scan("events")[0][1]


async def test_readers_at_the_head_do_not_reach_the_store():
    store = CountingStore()
    log = Log(store, "events")
    append(store, log, *numbered(0, 10))
    store.scan_count = 0
    assert [len(log.read(0, 10)) for _ in range(5)] == [10] * 5
    assert store.scan_count == 0


async def test_old_blocks_are_decoded_once_for_several_readers_at_one_place():
    store = CountingStore()
    append(store, Log(store, "events"), *numbered(0, 256))
    log = Log(store, "events")
    store.scan_count = 0
    for _ in range(5):
        log.read(0, 10)
        log.get(200)
    assert store.scan_count == 1


async def test_the_cache_is_bounded_in_blocks():
    store = CountingStore()
    log = Log(store, "events", cached_blocks_max=3)
    for number in range(10):
        append(store, log, b"%d" % number)
    store.scan_count = 0
    assert [log.get(offset) for offset in (7, 8, 9)] == [b"7", b"8", b"9"]
    assert store.scan_count == 0
    assert log.get(0) == b"0"
    assert store.scan_count == 1


async def test_a_batch_that_was_not_written_leaves_a_gap_and_no_trace(store):
    log = Log(store, "events")
    append(store, log, b"a")
    log.append(store.batch(), [b"lost", b"lost too"])
    assert append(store, log, b"b") == 3
    assert read_all(log) == read_all(Log(store, "events")) == [Entry(0, b"a"), Entry(3, b"b")]
    assert log.get(1) is None
    rows = store.scan("events")
    headers = [check_block("events", key, value) for key, value in rows]
    assert headers[1].previous == headers[0].checksum


async def test_a_reader_in_a_gap_waits_for_what_comes_after_it(store, autojump_clock):
    log = Log(store, "events")
    log.append(store.batch(), [b"lost"])
    with trio.move_on_after(1) as waited:
        await log.wait(0)
    assert waited.cancelled_caught
    append(store, log, b"a")
    await log.wait(0)
    assert log.read(0, 1) == [Entry(1, b"a")]


async def test_publishing_after_a_refused_batch_shows_nothing_of_it(store, autojump_clock):
    log = Log(store, "events")
    append(store, log, b"one")
    log.append(store.batch(), [b"refused"])  # never written
    log.publish()  # by a writer that had nothing to add this time
    assert log.read(0, 10) == [Entry(0, b"one")]
    assert log.published == 1
    with trio.move_on_after(60) as waiting:
        await log.wait(1)
    assert waiting.cancelled_caught


async def test_the_chain_goes_on_from_the_last_block_that_was_written(store):
    log = Log(store, "events")
    written, refused, after = store.batch(), store.batch(), store.batch()
    log.append(written, [b"one"])
    store.write(written)
    log.append(refused, [b"two"])  # the disk is full: neither written nor published
    log.append(after, [b"three"])
    store.write(after)
    log.publish()
    assert [record for _, record in log.read(0, 10)] == [b"one", b"three"]
    verify_tails(store)
    assert Log(store, "events").published == log.published


async def test_several_appends_to_one_batch_follow_each_other(store):
    log = Log(store, "events")
    batch = store.batch()
    assert [log.append(batch, [b"a", b"b"]), log.append(batch, [b"c"])] == [0, 2]
    store.write(batch)
    log.publish()
    assert [entry.record for entry in read_all(log)] == [b"a", b"b", b"c"]
    assert [entry.record for entry in read_all(Log(store, "events"))] == [b"a", b"b", b"c"]


async def test_waiting_ends_at_publication_not_at_the_append(store, autojump_clock):
    log, seen = Log(store, "events"), []

    async def reader():
        await log.wait(0)
        seen.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        nursery.start_soon(reader)
        await trio.sleep(1)
        batch = store.batch()
        log.append(batch, [b"a"])
        store.write(batch)
        await trio.sleep(1)
        log.publish()
    assert seen == [2.0, 2.0]


async def test_what_is_written_and_not_published_is_not_read(store):
    log = Log(store, "events")
    append(store, log, b"on disk")
    batch = store.batch()
    log.append(batch, [b"not yet"])
    store.write(batch)
    assert log.read(0, 10) == [Entry(0, b"on disk")]
    assert log.read(1, 10) == []
    log.publish()
    assert log.read(1, 10) == [Entry(1, b"not yet")]


async def test_truncation_forgets_only_whole_blocks(store):
    log = Log(store, "events")
    for number in range(3):
        append(store, log, *numbered(number * 100, 100))
    batch = store.batch()
    log.truncate_before(batch, 150)
    store.write(batch)
    assert log.start == 100
    assert log.get(99) is None
    assert log.get(100) == b"record 100"
    assert log.read(0, 1)[0].offset == 100
    assert Log(store, "events").start == 100


async def test_the_head_does_not_go_back_when_everything_is_truncated(store):
    log = Log(store, "events")
    append(store, log, *numbered(0, 300))
    batch = store.batch()
    log.truncate_before(batch, 10**12)
    store.write(batch)
    assert store.scan("events") == []
    for again in (log, Log(store, "events")):
        assert (again.start, again.head, again.read(0, 10)) == (300, 300, [])
    again = Log(store, "events")
    assert append(store, again, b"next") == 300
    assert Log(store, "events").get(300) == b"next"


async def test_the_stored_bytes_are_those_of_the_blocks_that_are_left(store):
    log = Log(store, "events")
    for number in range(4):
        append(store, log, *numbered(number * 100, 100))
    sizes = [len(value) - 17 for _, value in store.scan("events")]
    assert log.stored_bytes() == sum(sizes)
    assert log.stored_bytes(100) == sum(sizes[1:])
    assert log.stored_bytes(101) == sum(sizes[2:])
    assert log.offset_leaving(sum(sizes[2:])) == 200
    assert log.offset_leaving(sum(sizes[2:]) - 1) == 300
    assert (log.offset_leaving(0), log.offset_leaving(10**9)) == (400, 0)
    batch = store.batch()
    log.truncate_before(batch, 200)
    store.write(batch)
    assert log.stored_bytes() == Log(store, "events").stored_bytes() == sum(sizes[2:])


async def test_any_changed_byte_of_a_block_is_noticed(store):
    append(store, Log(store, "events"), *numbered(0, 20))
    key, value = store.scan("events")[0]
    for index in range(len(value)):
        changed = bytearray(value)
        changed[index] ^= 0x10
        with pytest.raises(StoreDamaged, match="log events: the block at offset 0"):
            check_block("events", key, bytes(changed))


async def test_walking_gives_every_block_from_an_offset(store):
    log = Log(store, "events")
    for _ in range(11):
        append(store, log, b"x")
    assert [key for key, _ in walk_blocks(store, "events", 3)] == [key_of(i) for i in range(3, 11)]


async def test_cursors_start_at_zero_and_move_with_their_batch(store):
    cursors = Cursors(store)
    assert cursors.get("reader") == 0
    batch = store.batch()
    cursors.set(batch, "reader", 77)
    assert cursors.get("reader") == 0
    store.write(batch)
    assert (cursors.get("reader"), cursors.all()) == (77, {"reader": 77})
    batch = store.batch()
    cursors.forget(batch, "reader")
    store.write(batch)
    assert cursors.all() == {}
