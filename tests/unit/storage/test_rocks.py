"""The store on RocksDB, beyond the contract: shared flushes, errors, what reaches the disk."""

from __future__ import annotations

import pytest
import trio

from cdp.errors import StorageError, StoreDamaged, StoreFull
from cdp.storage.log import Log
from cdp.storage.opening import open_store
from cdp.storage.rocks import StoreSizes
from cdp.storage.verify import verify

MIB = 2**20
SMALL = StoreSizes(MIB, 8 * MIB, MIB, 8 * MIB)


class Threads:
    """Runs in a thread, counting; or answers with an error."""

    def __init__(self):
        self.count = 0
        self.error = None

    async def __call__(self, function, *args):
        self.count += 1
        if self.error is not None:
            await trio.lowlevel.checkpoint()
            raise self.error
        return await trio.to_thread.run_sync(function, *args)


@pytest.fixture
def threads():
    return Threads()


@pytest.fixture
def store(tmp_path, threads):
    opened = open_store(tmp_path / "data", threads, SMALL)
    yield opened
    opened.close()


def put(store, key, value=b""):
    batch = store.batch()
    batch.put("meta", key, value)
    store.write(batch)


async def test_callers_that_wait_together_share_a_flush(store, threads):
    async def write_and_sync(number):
        put(store, b"%d" % number)
        await store.sync()

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(write_and_sync, number)
    assert 1 <= threads.count <= 2


async def test_a_writer_during_a_flush_waits_for_the_next_one(tmp_path):
    begun, going_on, flushes = trio.Event(), trio.Event(), []

    async def slowly(function, *args):
        flushes.append(args)
        begun.set()
        await going_on.wait()
        return await trio.to_thread.run_sync(function, *args)

    store = open_store(tmp_path / "data", slowly, SMALL)
    async with trio.open_nursery() as nursery:
        put(store, b"a")
        nursery.start_soon(store.sync)
        await begun.wait()
        put(store, b"b")
        nursery.start_soon(store.sync)
        nursery.start_soon(store.sync)
        await trio.testing.wait_all_tasks_blocked()
        assert len(flushes) == 1
        going_on.set()
    assert len(flushes) == 2
    store.close()


async def test_syncing_twice_without_a_write_flushes_once(store, threads):
    put(store, b"a")
    await store.sync()
    await store.sync()
    assert threads.count == 1


async def test_a_cancelled_caller_does_not_leave_the_others_waiting(store):
    async with trio.open_nursery() as nursery:
        put(store, b"a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await store.sync()
        put(store, b"b")
        with trio.fail_after(5):
            nursery.start_soon(store.sync)
            await store.sync()


async def test_after_a_failed_flush_nothing_is_written_or_acknowledged_any_more(store, threads):
    put(store, b"a")
    threads.error = Exception("IO error: While fdatasync: Input/output error")
    with pytest.raises(StorageError, match="restart"):
        await store.sync()
    threads.error = None
    with pytest.raises(StorageError, match="restart"):
        put(store, b"b")
    with pytest.raises(StorageError, match="restart"):
        await store.sync()


async def test_everyone_who_waited_for_a_failed_flush_hears_of_it(store, threads):
    threads.error = Exception("IO error: While fdatasync: Input/output error")
    heard = []

    async def sync():
        with pytest.raises(StorageError):
            await store.sync()
        heard.append(1)

    put(store, b"a")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(sync)
    assert len(heard) == 5


async def test_a_full_disk_is_told_and_survived(store, threads):
    put(store, b"a")
    threads.error = Exception("IO error: No space left on device: While appending to file")
    with pytest.raises(StoreFull, match="make room"):
        await store.sync()
    threads.error = None
    put(store, b"b")
    await store.sync()
    assert store.get_many("meta", [b"a", b"b"]) == [b"", b""]


async def test_a_damaged_table_is_an_error_for_every_kind_of_read(tmp_path, threads):
    store = open_store(tmp_path / "data", threads, SMALL)
    keys = [i.to_bytes(8, "big") for i in range(20_000)]
    batch = store.batch()
    for key in keys:
        batch.put("timeline", key, key * 8)
    store.write(batch)
    store.close()
    open_store(tmp_path / "data", threads, SMALL).close()  # recovery writes a table
    tables = list((tmp_path / "data" / "db").glob("*.sst"))
    table = max(tables, key=lambda file: file.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0x04
    table.write_bytes(content)

    store = open_store(tmp_path / "data", threads, SMALL)
    reads = [
        lambda: [store.get("timeline", key) for key in keys],
        lambda: store.get_many("timeline", keys),
        lambda: store.scan("timeline"),
        lambda: store.scan("timeline", reverse=True),
        lambda: list(store.items("timeline")),
    ]
    for read in reads:
        with pytest.raises(StoreDamaged, match="reading timeline"):
            read()
    assert len(verify(store)) == 1
    store.close()


async def test_verify_finds_nothing_in_a_sound_store_and_names_a_missing_block(store):
    log = Log(store, "events")
    for number in range(5):
        batch = store.batch()
        log.append(batch, [b"%d" % number] * 300)
        store.write(batch)
        log.publish()
    assert verify(store) == []
    batch = store.batch()
    batch.delete("events", (300).to_bytes(8, "big"))
    store.write(batch)
    assert verify(store) == [
        "log events: the block before offset 556 is missing; restore the last checkpoint"
    ]


async def test_a_checkpoint_opens_with_what_the_store_held(store, threads, tmp_path):
    put(store, b"a", b"1")
    await store.checkpoint(tmp_path / "copy")
    put(store, b"a", b"2")
    copy = open_store(tmp_path / "copy", threads, SMALL)
    assert copy.get("meta", b"a") == b"1"
    copy.close()


async def test_a_checkpoint_over_something_is_refused_and_the_store_lives(store, tmp_path):
    with pytest.raises(StorageError, match="making a checkpoint"):
        await store.checkpoint(tmp_path)
    put(store, b"a")
    await store.sync()


async def test_what_stands_only_in_values_is_in_no_key_and_no_manifest(tmp_path, threads):
    email = b"ada.lovelace@example.com"
    path = tmp_path / "data"
    for round_count in range(3):  # each opening rolls the manifest and writes tables
        store = open_store(path, threads, SMALL)
        log = Log(store, "events")
        batch = store.batch()
        log.append(batch, [b'{"userId":"' + email + b'"}'] * 3)
        batch.put("identifiers", bytes([round_count]) * 16, email)
        batch.put("fragments", bytes([round_count]) * 16, email)
        store.write(batch)
        log.publish()
        batch = store.batch()
        log.truncate_before(batch, log.head)
        batch.delete("identifiers", bytes([round_count]) * 16)
        store.write(batch)
        await store.reclaim("identifiers", b"", b"\xff")
        await store.reclaim("fragments", b"", b"\xff")
        store.close()
    store = open_store(path, threads, SMALL)
    for family in ("meta", "events", "identifiers", "fragments"):
        assert all(email not in key for key, _ in store.items(family))
    store.close()
    named = [file for file in (path / "db").iterdir() if file.name.startswith(("MANIFEST", "LOG"))]
    assert len(named) >= 2
    assert not [file.name for file in named if email in file.read_bytes()]
