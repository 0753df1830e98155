"""A log whose records are sealed per subject: erasure, tampering, caches."""

from __future__ import annotations

import pytest

from cdp.errors import StoreDamaged
from cdp.storage.block import Link, decode_records, encode_block
from cdp.storage.codec import SealedCodec
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.log import Entry, Log
from cdp.storage.memory import MemoryStore
from cdp.storage.verify import verify, verify_tails
from cdp.testing.world import make_vault, run_inline

ADA, BOB = b"a" * 16, b"b" * 16


class Sealed:
    """A store, a vault and a sealed log, and what a restart makes of them."""

    def __init__(self, store=None, keys=None):
        self.store = store or MemoryStore()
        self.keys = keys or MemoryKeys()
        self.vault = make_vault(self.store, keys=self.keys)
        self.log = Log(self.store, "events", SealedCodec(self.vault, "events"))

    def append(self, *pairs):
        batch = self.store.batch()
        records, subjects = zip(*pairs, strict=True)
        first = self.log.append(batch, records, subjects)
        self.store.write(batch)
        self.log.publish()
        return first

    def restarted(self):
        return Sealed(self.store.killed(), self.keys.survivor())


def now_and_restarted(world):
    yield world
    yield world.restarted()


async def test_records_are_read_as_they_were_and_lie_sealed():
    world = Sealed()
    world.append((b"ada did it", ADA), (b"bob did it", BOB))
    for each in now_and_restarted(world):
        assert each.log.read(0, 9) == [Entry(0, b"ada did it"), Entry(1, b"bob did it")]
        assert each.log.get(1) == b"bob did it"
        assert b"did it" not in b"".join(value for _, value in each.store.scan("events"))


async def test_an_erased_record_is_empty_and_keeps_its_offset():
    world = Sealed()
    world.append((b"one", ADA), (b"two", BOB), (b"three", ADA))
    await world.vault.destroy(world.vault.slots_of(ADA), run_inline)
    world.log.forget_cached()
    for each in now_and_restarted(world):
        assert [record for _, record in each.log.read(0, 9)] == [b"", b"two", b""]
        assert (each.log.get(0), each.log.get(3)) == (b"", None)
        assert verify(each.store) == []


async def test_what_was_written_and_not_published_is_not_kept_decoded_across_an_erasure():
    world = Sealed()
    batch = world.store.batch()
    world.log.append(batch, [b"one"], [ADA])
    world.store.write(batch)
    await world.vault.destroy(world.vault.slots_of(ADA), run_inline)
    world.log.forget_cached()
    world.log.publish()
    assert world.log.read(0, 9) == [Entry(0, b"")]


async def test_a_reader_at_the_head_is_served_after_cached_blocks_were_forgotten():
    world = Sealed()
    world.append((b"one", ADA))
    world.log.forget_cached()
    world.append((b"two", ADA))
    assert [record for _, record in world.log.read(0, 9)] == [b"one", b"two"]


async def test_a_person_who_comes_back_gets_a_new_key_and_the_old_stays_dark():
    world = Sealed()
    world.append((b"before", ADA))
    (old,) = world.vault.slots_of(ADA)
    await world.vault.destroy([old], run_inline)
    world.log.forget_cached()
    world.append((b"after", ADA))
    assert world.vault.slots_of(ADA)[0] == old
    assert len(world.vault.slots_of(ADA)) == 2
    for each in now_and_restarted(world):
        assert [record for _, record in each.log.read(0, 9)] == [b"", b"after"]


async def test_a_batch_that_was_not_written_leaves_a_gap_here_too():
    world = Sealed()
    world.append((b"one", ADA))
    world.log.append(world.store.batch(), [b"lost"], [BOB])
    world.vault.forget_unwritten()
    world.append((b"two", BOB))
    expected = [Entry(0, b"one"), Entry(2, b"two")]
    assert world.log.read(0, 9) == expected
    assert world.restarted().log.read(0, 9) == expected


def rewritten(world, change):
    """The one block with its sealed records changed, and a checksum that fits."""
    key, value = world.store.scan("events")[0]
    value, _ = encode_block(key, change(decode_records("events", key, value)), Link())
    batch = world.store.batch()
    batch.put("events", key, value)
    world.store.write(batch)
    return Sealed(world.store.killed(), world.keys.survivor())


@pytest.mark.parametrize(
    "change",
    [
        lambda sealed: sealed[::-1],
        lambda sealed: [sealed[0], sealed[0]],
        lambda sealed: [sealed[0], sealed[1][:-1] + bytes([sealed[1][-1] ^ 1])],
        lambda sealed: [sealed[0], sealed[1][:30]],
        lambda sealed: [sealed[0], b""],
        lambda sealed: [sealed[0], b"in the clear, and long enough to be a sealed record"],
    ],
    ids=["swapped", "copied", "flipped", "cut", "emptied", "replaced"],
)
async def test_who_can_write_the_database_cannot_pass_off_other_records(change):
    """A checksum that fits does not help: the tags know where each record belongs."""
    world = Sealed()
    world.append((b"one", ADA), (b"two", ADA))
    attacked = rewritten(world, change)
    verify_tails(attacked.store)
    with pytest.raises(StoreDamaged, match=r"record \d"):
        attacked.log.read(0, 9)


async def test_a_record_of_one_log_does_not_open_in_another():
    world = Sealed()
    world.append((b"one", ADA))
    key, value = world.store.scan("events")[0]
    batch = world.store.batch()
    batch.put("changes", key, value)
    world.store.write(batch)
    other = Log(world.store, "changes", SealedCodec(world.vault, "changes"))
    with pytest.raises(StoreDamaged, match="record 0"):
        other.read(0, 9)


async def test_a_log_that_seals_wants_a_subject_for_each_record():
    world = Sealed()
    with pytest.raises(ValueError, match="2 records and 1 subjects"):
        world.log.append(world.store.batch(), [b"one", b"two"], [ADA])


async def test_long_batches_are_sealed_block_by_block_for_the_right_subjects():
    world = Sealed()
    count = 600
    world.append(*((b"%d" % i, bytes([i % 250]) * 16) for i in range(count)))
    await world.vault.destroy(world.vault.slots_of(bytes([7]) * 16), run_inline)
    again = world.restarted()
    found = [record for _, record in again.log.read(0, count)]
    assert found == [b"" if i % 250 == 7 else b"%d" % i for i in range(count)]
