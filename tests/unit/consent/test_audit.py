"""The audit log: a chain without gaps, whatever became of the batches."""

from __future__ import annotations

import time
from hashlib import sha256

import msgspec
import pytest

from cdp.consent.audit import (
    ACTIONS,
    NO_RECORD,
    AuditLog,
    decode_record,
    object_hash,
    stored_records,
)
from cdp.consent.merkle import leaf_hash, root_of
from cdp.errors import StoreDamaged
from cdp.storage.memory import MemoryStore


class Clock:
    def __init__(self) -> None:
        self.us = 1_000

    def now_us(self) -> int:
        self.us += 1
        return self.us


def record(audit: AuditLog, store: MemoryStore, *objects: str) -> None:
    batch = store.batch()
    for one in objects:
        audit.add(batch, actor="api", action="suppressed", object=one, details={"nodes": 1})
    store.write(batch)


def rows(store: MemoryStore) -> list[bytes]:
    return [value for _, value in stored_records(store)]


def test_each_record_names_the_one_before_it_by_its_leaf_hash() -> None:
    store = MemoryStore()
    record(AuditLog(store, Clock()), store, "a", "b", "c")
    values = rows(store)
    records = [decode_record(value) for value in values]
    assert [one.seq for one in records] == [0, 1, 2]
    assert [one.previous for one in records] == [NO_RECORD, *map(leaf_hash, values[:2])]
    assert records[0].object == sha256(b"a").digest() == object_hash(b"a")
    assert records[0].at_us < records[1].at_us


def test_details_are_stored_in_one_order_whatever_order_they_came_in() -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    batch = store.batch()
    audit.add(batch, actor="x", action="replay", object="d", details={"b": 1, "a": 2})
    store.write(batch)
    assert list(msgspec.msgpack.decode(rows(store)[0])[6]) == ["a", "b"]


def test_an_action_that_is_not_known_cannot_be_recorded() -> None:
    store = MemoryStore()
    with pytest.raises(AssertionError, match="not an action"):
        AuditLog(store, Clock()).add(store.batch(), actor="x", action="did", object="y")


def test_a_batch_that_is_thrown_away_leaves_no_gap_in_the_chain() -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    record(audit, store, "a")
    thrown_away = store.batch()
    assert audit.add(thrown_away, actor="x", action="replay", object="never") == 1
    assert audit.add(thrown_away, actor="x", action="replay", object="never") == 2
    record(audit, store, "b")
    records = [decode_record(value) for value in rows(store)]
    assert [one.seq for one in records] == [0, 1]
    assert [one.object for one in records] == [object_hash("a"), object_hash("b")]
    assert records[1].previous == leaf_hash(rows(store)[0])
    assert AuditLog(store, Clock()).settle().size == 2


def test_records_of_two_batches_that_were_open_at_once_are_found_out() -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    first, second = store.batch(), store.batch()
    audit.add(first, actor="x", action="replay", object="first")
    audit.add(second, actor="x", action="replay", object="second")
    store.write(second)
    store.write(first)  # against the contract: it overwrites what the second batch recorded
    with pytest.raises(StoreDamaged, match="record 0 is not the one that was written"):
        audit.settle()


@pytest.mark.parametrize("edge_after", [0, 1, 5, 8])
def test_a_restart_goes_on_where_the_stored_chain_ends(edge_after: int) -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    for place in range(9):
        record(audit, store, str(place))
        if place == edge_after:
            audit.settle()
            batch = store.batch()
            audit.save_edge(batch)
            store.write(batch)
    again = AuditLog(store, Clock())
    assert again.settle() == audit.settle()
    record(again, store, "after")
    values = rows(store)
    assert decode_record(values[9]).previous == leaf_hash(values[8])
    assert again.settle().root == root_of([leaf_hash(value) for value in values])


@pytest.mark.parametrize("harm", ["flipped", "dropped", "cut"])
def test_a_start_refuses_a_chain_that_was_changed_since_the_last_edge(harm: str) -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    record(audit, store, "a", "b", "c", "d")
    audit.settle()
    edge = store.batch()
    audit.save_edge(edge)
    store.write(edge)
    record(audit, store, "e", "f", "g")
    batch = store.batch()
    if harm == "flipped":
        value = store.get("audit", (5).to_bytes(8, "big")) or b""
        batch.put("audit", (5).to_bytes(8, "big"), value.replace(b"api", b"abi"))
    elif harm == "dropped":
        batch.delete("audit", (5).to_bytes(8, "big"))
    else:
        batch.delete_range("audit", (3).to_bytes(8, "big"), (9).to_bytes(8, "big"))
    store.write(batch)
    with pytest.raises(StoreDamaged, match="cdp audit verify"):
        AuditLog(store, Clock())


def test_ten_thousand_new_records_ask_for_a_checkpoint() -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    for _ in range(100):
        record(audit, store, *["x"] * 100)
    assert not audit.due.is_set()
    record(audit, store, "x")
    assert audit.due.is_set()
    audit.settle()
    audit.save_edge(store.batch())
    assert not audit.due.is_set()


def test_every_action_says_what_it_means() -> None:
    assert all(text and text[0].islower() and text[-1] != "." for text in ACTIONS.values())


@pytest.mark.slow
def test_a_record_costs_a_few_microseconds() -> None:
    store = MemoryStore()
    audit = AuditLog(store, Clock())
    best_us = float("inf")
    details = {"nodes": 3, "purposes": 2}
    for _ in range(20):
        batch = store.batch()
        started = time.perf_counter()
        for _ in range(500):
            audit.add(
                batch, actor="ingestion", action="suppressed", object=b"n" * 16, details=details
            )
        store.write(batch)
        audit.settle()
        best_us = min(best_us, (time.perf_counter() - started) / 500 * 1e6)
    assert best_us <= 20, f"{best_us:.1f} us a record"  # 6 is the goal; machines differ
