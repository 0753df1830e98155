"""The store in memory, as a disk that can be slow, refuse and lose power."""

from __future__ import annotations

import errno
import random

import pytest
import trio

from cdp.errors import StorageError, StoreFull
from cdp.storage.memory import MemoryStore


def write(store, number):
    batch = store.batch()
    batch.put("meta", b"last", b"%d" % number)
    batch.put("seen", b"%d" % number, b"")
    store.write(batch)


def numbers(store):
    return {int(key) for key, _ in store.items("seen")}


async def test_a_power_cut_keeps_all_that_was_synced_and_a_prefix_of_the_rest():
    survived = set()
    for seed in range(40):
        store = MemoryStore()
        for number in range(5):
            write(store, number)
        await store.sync()
        for number in range(5, 9):
            write(store, number)
        after = store.power_cut(random.Random(seed))
        last = int(after.get("meta", b"last"))
        assert numbers(after) == set(range(last + 1))
        assert last >= 4
        survived.add(last)
    assert survived == {4, 5, 6, 7, 8}


async def test_a_power_cut_brings_back_what_a_lost_batch_deleted():
    store = MemoryStore()
    write(store, 1)
    await store.sync()
    batch = store.batch()
    batch.delete_range("seen", b"", b"\xff")
    batch.put("seen", b"7", b"new")
    store.write(batch)

    class CutAll(random.Random):
        def randint(self, low, high):
            return high

    after = store.power_cut(CutAll())
    assert after.scan("seen") == [(b"1", b"")]


async def test_a_killed_process_loses_nothing_that_was_written():
    store = MemoryStore()
    write(store, 1)
    assert numbers(store.killed()) == {1}


async def test_the_old_store_is_dead_after_a_cut():
    store = MemoryStore()
    store.power_cut(random.Random(1))
    with pytest.raises(StorageError, match="power"):
        store.get("meta", b"last")


async def test_a_sync_covers_what_was_written_before_the_call_and_not_after(autojump_clock):
    store = MemoryStore(sync_latency_s=lambda: 1.0)
    write(store, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.sync)
        await trio.sleep(0.5)
        write(store, 2)
    assert store.unsynced_count == 1
    assert trio.current_time() == 1.0


async def test_an_input_output_error_at_a_sync_is_for_good():
    faults = iter([errno.EIO, 0])
    store = MemoryStore(sync_fault=lambda: next(faults))
    write(store, 1)
    with pytest.raises(StorageError, match="syncing"):
        await store.sync()
    with pytest.raises(StorageError, match="syncing"):
        await store.sync()
    with pytest.raises(StorageError):
        write(store, 2)


async def test_a_full_disk_heals():
    faults = iter([errno.ENOSPC, 0])
    store = MemoryStore(write_fault=lambda: next(faults))
    with pytest.raises(StoreFull):
        write(store, 1)
    write(store, 2)
    await store.sync()
    assert numbers(store) == {2}


async def test_a_checkpoint_is_a_directory_that_must_not_exist(tmp_path):
    store = MemoryStore()
    await store.checkpoint(tmp_path / "copy")
    with pytest.raises(FileExistsError):
        await store.checkpoint(tmp_path / "copy")
