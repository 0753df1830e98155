"""What every store promises, asked of the one in memory and of RocksDB."""

from __future__ import annotations

import random

import pytest

from cdp.errors import StorageError
from cdp.storage.store import FAMILIES


def put_all(store, family, rows):
    batch = store.batch()
    for key, value in rows:
        batch.put(family, key, value)
    store.write(batch)


async def test_a_batch_is_invisible_until_it_is_written(store):
    batch = store.batch()
    batch.put("meta", b"a", b"1")
    batch.put("seen", b"b", b"2")
    assert len(batch) == 2
    assert store.get("meta", b"a") is None
    store.write(batch)
    assert (store.get("meta", b"a"), store.get("seen", b"b")) == (b"1", b"2")


async def test_families_do_not_see_each_other(store):
    for family in FAMILIES:
        put_all(store, family, [(b"key", family.encode())])
    assert [store.get(family, b"key") for family in FAMILIES] == [
        family.encode() for family in FAMILIES
    ]


async def test_writes_of_a_batch_apply_in_their_order(store):
    put_all(store, "meta", [(b"a", b"0"), (b"b", b"0"), (b"c", b"0")])
    batch = store.batch()
    batch.put("meta", b"a", b"1")
    batch.delete("meta", b"a")
    batch.delete_range("meta", b"b", b"c")
    batch.put("meta", b"b", b"2")
    store.write(batch)
    assert store.scan("meta", b"a", b"d") == [(b"b", b"2"), (b"c", b"0")]


async def test_get_many_keeps_the_order_and_names_what_is_missing(store):
    put_all(store, "seen", [(b"a", b"1"), (b"c", b"3")])
    assert store.get_many("seen", [b"c", b"b", b"a", b"c"]) == [b"3", None, b"1", b"3"]
    assert store.get_many("seen", []) == []


@pytest.mark.parametrize("seed", range(5))
async def test_scans_agree_with_a_sorted_dictionary(store, seed):
    rng = random.Random(seed)
    model = {bytes(rng.choices(b"abc", k=rng.randint(1, 4))): b"%d" % i for i in range(60)}
    put_all(store, "timeline", model.items())
    for _ in range(60):
        start = bytes(rng.choices(b"abc", k=rng.randint(0, 3)))
        end = rng.choice([None, bytes(rng.choices(b"abc", k=rng.randint(1, 3)))])
        limit = rng.choice([None, 0, 1, 3, 1000])
        reverse = rng.random() < 0.5
        rows = sorted(
            row for row in model.items() if row[0] >= start and (end is None or row[0] < end)
        )
        expected = (rows[::-1] if reverse else rows)[:limit]
        found = store.scan("timeline", start, end, limit=limit, reverse=reverse)
        assert found == expected, (start, end, limit, reverse)


async def test_items_stream_a_family_in_order(store):
    rows = [(i.to_bytes(8, "big"), b"%d" % i) for i in range(3000)]
    put_all(store, "timeline", reversed(rows))
    assert list(store.items("timeline")) == rows
    assert list(store.items("logins")) == []


async def test_what_is_reclaimed_is_only_what_was_deleted(store):
    put_all(store, "timeline", [(b"%03d" % i, b"x" * 100) for i in range(500)])
    batch = store.batch()
    batch.delete_range("timeline", b"000", b"400")
    store.write(batch)
    await store.reclaim("timeline", b"000", b"400")
    assert [key for key, _ in store.scan("timeline")] == [b"%03d" % i for i in range(400, 500)]


async def test_a_store_that_holds_something_takes_room(store):
    put_all(store, "timeline", [(b"key", b"x" * 10_000)])
    assert store.size_bytes() >= 10_000


async def test_a_closed_store_refuses_writes_and_syncs(store):
    batch = store.batch()
    batch.put("meta", b"a", b"1")
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.write(batch)
    with pytest.raises(StorageError, match="closed"):
        await store.sync()
