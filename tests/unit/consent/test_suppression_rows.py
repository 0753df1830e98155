"""Suppression: one live set, rows with holders, and memory as the store is."""

from __future__ import annotations

from cdp.consent.suppression import Suppression
from cdp.storage.memory import MemoryStore

A, B = b"a" * 16, b"b" * 16


def write(store, change):
    batch = store.batch()
    answer = change(batch)
    store.write(batch)
    return answer


def test_it_counts_in_the_turn_in_which_it_is_added_and_after_a_restart():
    store = MemoryStore()
    suppression = Suppression(store)
    nodes = suppression.nodes
    assert write(store, lambda b: suppression.add(b, [A, A], reason="erasure", now_us=1)) == 1
    assert suppression.any_of([B, A])
    assert suppression.nodes is nodes
    assert Suppression(store).nodes == {A}


def test_after_a_batch_that_was_not_written_the_same_set_is_as_before():
    store = MemoryStore()
    suppression = Suppression(store)
    nodes = suppression.nodes
    suppression.add(store.batch(), [A], reason="erasure", now_us=1)
    suppression.reload()
    assert suppression.nodes is nodes
    assert nodes == set()


def test_it_goes_with_its_last_holder():
    store = MemoryStore()
    suppression = Suppression(store)
    for holder in (b"one", b"two"):
        write(
            store,
            lambda b, holder=holder: suppression.add(
                b, [A], reason="r", now_us=1, holders=[holder]
            ),
        )
    assert write(store, lambda b: suppression.release(b, [A, B], b"one")) == []
    assert suppression.nodes == {A}
    assert write(store, lambda b: suppression.release(b, [A], b"two")) == [A]
    assert Suppression(store).nodes == suppression.nodes == set()


def test_what_is_lifted_is_free_unless_an_erasure_still_runs():
    store = MemoryStore()
    suppression = Suppression(store)
    write(store, lambda b: suppression.add(b, [A], reason="erasure", now_us=1))
    both = (b"running", b"")
    write(store, lambda b: suppression.add(b, [B], reason="erasure", now_us=1, holders=both))
    assert write(store, lambda b: suppression.lift(b, [A, B])) == 1
    assert Suppression(store).nodes == suppression.nodes == {B}
    assert write(store, lambda b: suppression.release(b, [B], b"running")) == [B]
    assert Suppression(store).nodes == suppression.nodes == set()


def test_the_list_comes_in_parts():
    store = MemoryStore()
    suppression = Suppression(store)
    write(store, lambda b: suppression.add(b, [B, A], reason="erasure", now_us=1))
    items, after = suppression.listing(None, 1)
    assert (items[0]["node"], items[0]["for_good"]) == (A.hex(), True)
    items, after = suppression.listing(after, 1)
    assert ([one["node"] for one in items], after) == ([B.hex()], None)
