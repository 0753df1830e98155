"""Who has which key: nobody shares one, none is lost, a destroyed one is nowhere."""

from __future__ import annotations

import errno
import os
import random

import pytest
import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cdp.errors import ConfigError, StorageError, StoreDamaged, StoreFull
from cdp.storage.keyfile import SLOT_BYTES, MemoryKeys, open_keys
from cdp.storage.memory import MemoryStore
from cdp.storage.slot_pool import POOL_MAX, POOL_MIN
from cdp.storage.vault import Vault
from cdp.storage.verify import verify_keys
from cdp.testing.world import MASTER, make_vault, run_inline
from tests.unit.storage.conftest import open_rocks
from tests.unit.storage.test_keyfile import STEPS, Crash, crash_at

ADA, BOB = b"a" * 16, b"b" * 16
OTHER_MASTER = b"x" * 32
HERE = b"context"


def vault_over(store, keys, master=MASTER, previous=(), seed=bytes(32), **options):
    return Vault(keys, store, master=master, previous=previous, seed=seed, **options)


def seal(store, vault, subject, record, context=HERE):
    batch = store.batch()
    sealed = vault.seal_row(batch, subject, record, context)
    store.write(batch)
    return sealed


@pytest.fixture
def keys():
    return MemoryKeys()


@pytest.fixture
def vault(store, keys):
    return make_vault(store, keys=keys)


async def test_a_subject_keeps_its_slot_and_others_get_others(store, vault):
    batch = store.batch()
    first = vault.slots(batch, [ADA, BOB, ADA])
    store.write(batch)
    assert first[0] == first[2] != first[1]
    batch = store.batch()
    assert vault.slots(batch, [BOB, ADA]) == [first[1], first[0]]
    assert len(batch) == 0
    assert vault.slots_of(ADA) == [first[0]]
    assert vault.slots_of(b"c" * 16) == []


async def test_what_was_sealed_opens_after_a_restart_and_only_in_its_context(store, keys, vault):
    sealed = seal(store, vault, ADA, b"a fact")
    again = make_vault(store, keys=keys.survivor(), seed=1)
    assert again.open_row(sealed, HERE) == b"a fact"
    with pytest.raises(StoreDamaged, match="record 0 is not what was sealed there"):
        again.open_row(sealed, b"elsewhere")


async def test_every_flipped_bit_of_a_sealed_row_is_found(store, vault):
    sealed = seal(store, vault, ADA, b"a fact")
    for bit in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreDamaged):
            vault.open_row(bytes(changed), HERE)


async def test_every_flipped_bit_of_a_slot_is_found(store, keys, vault):
    sealed = seal(store, vault, ADA, b"a fact")
    (number,) = vault.slots_of(ADA)
    keys, vault = keys.survivor(), None
    whole = keys.read([number])[0]
    for bit in range(SLOT_BYTES * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        keys.write(number, bytes(changed))
        with pytest.raises(StoreDamaged, match=f"slot {number} holds no key"):
            make_vault(store, keys=keys, seed=1).open_row(sealed, HERE)
    keys.write(number, whole)
    assert make_vault(store, keys=keys, seed=1).open_row(sealed, HERE) == b"a fact"


async def test_slots_that_changed_places_are_found(store, keys, vault):
    sealed = seal(store, vault, ADA, b"a fact")
    seal(store, vault, BOB, b"another")
    (ada,), (bob,) = vault.slots_of(ADA), vault.slots_of(BOB)
    keys = keys.survivor()
    keys.write(ada, keys.read([bob])[0])
    with pytest.raises(StoreDamaged, match=f"slot {ada} holds no key"):
        make_vault(store, keys=keys, seed=1).open_row(sealed, HERE)


async def test_what_a_destroyed_key_sealed_is_empty_at_once_and_after_a_restart(store, keys, vault):
    ada, bob = seal(store, vault, ADA, b"ada"), seal(store, vault, BOB, b"bob")
    await vault.destroy(vault.slots_of(ADA), run_inline)
    assert vault.open([ada, bob], [HERE, HERE]) == [b"", b"bob"]
    again = make_vault(store, keys=keys.survivor(), seed=1)
    assert again.open([ada, bob], [HERE, HERE]) == [b"", b"bob"]
    assert again.survey() == (keys_in(again) - 1, 1)


def keys_in(vault):
    return vault.statistics()["slots"]


async def test_a_destroyed_key_seals_nothing_from_the_call_on(store, vault):
    """Even while the disk is still being written, and even if it was read back meanwhile."""
    sealed = seal(store, vault, ADA, b"ada")
    (old,) = vault.slots_of(ADA)
    between = []

    async def slow(function, *args):
        between.append(vault.slots(store.batch(), [ADA])[0])
        between.append(vault.open_row(sealed, HERE))
        function(*args)

    await vault.destroy([old], slow)
    assert between[0] != old
    assert vault.open_row(sealed, HERE) == b""
    with pytest.raises(ValueError, match=f"slot {old} is destroyed"):
        vault.seal([old], [b"more"], [HERE])


async def test_destroying_again_changes_nothing(store, vault):
    sealed = seal(store, vault, ADA, b"ada")
    for _ in range(2):
        await vault.destroy(vault.slots_of(ADA), run_inline)
    assert vault.open_row(sealed, HERE) == b""


async def test_the_newest_key_that_is_left_seals(store, keys, vault):
    seal(store, vault, ADA, b"one")
    await vault.destroy(vault.slots_of(ADA), run_inline)
    kept = seal(store, vault, ADA, b"two")
    old, new = vault.slots_of(ADA)
    again = make_vault(store, keys=keys.survivor(), seed=1)
    assert again.slots(store.batch(), [ADA]) == [new]
    assert again.open_row(kept, HERE) == b"two"
    assert old != new


async def test_a_slot_whose_batch_was_refused_is_put_into_the_next_that_uses_it(store, vault):
    slot = vault.slots(store.batch(), [ADA])
    vault.forget_unwritten()
    assert store.get("subjects", ADA) is None
    batch = store.batch()
    assert vault.slots(batch, [ADA, BOB])[:1] == slot
    store.write(batch)
    assert store.get("subjects", ADA) == slot[0].to_bytes(8, "big")


@pytest.mark.parametrize("seed", range(40))
async def test_in_any_order_of_batches_every_used_slot_is_found_and_is_one_persons(seed):
    """Several writers at a time, refused batches, erasures, restarts after a power cut."""
    rng, store, keys = random.Random(seed), MemoryStore(), MemoryKeys()
    vault = vault_over(store, keys, cache_max=rng.choice([4, 100]), seed=seed.to_bytes(32, "big"))
    people = [bytes([number]) * 16 for number in range(12)]
    open_batches, used = [], {}  # used: slot -> the one subject that it was ever given to
    written, erased = [], set()
    for _ in range(300):
        act = rng.random()
        if act < 0.5:
            if not open_batches or rng.random() < 0.4:
                open_batches.append((store.batch(), []))
            batch, uses = rng.choice(open_batches)
            named = rng.choices(people, k=rng.randint(1, 4))
            pairs = list(zip(named, vault.slots(batch, named), strict=True))
            uses += pairs
            assert all(used.setdefault(slot, subject) == subject for subject, slot in pairs)
            assert not erased.intersection(slot for _, slot in pairs)
        elif open_batches and act < 0.85:
            batch, uses = open_batches.pop(rng.randrange(len(open_batches)))
            if rng.random() < 0.7:
                store.write(batch)
                written += uses
            else:
                vault.forget_unwritten()
        elif act < 0.95 and not open_batches:
            gone = vault.slots_of(rng.choice(people))
            await vault.destroy(gone, run_inline)
            erased.update(gone)
        elif act > 0.97:
            await store.sync()
            store, keys, open_batches = store.power_cut(rng), keys.survivor(), []
            vault = vault_over(store, keys, cache_max=4, seed=seed.to_bytes(32, "big"))
        for subject, slot in written:
            assert slot in vault.slots_of(subject)
    assert len(written) > 50


async def test_slots_that_an_earlier_run_made_are_never_handed_out(store, keys):
    """Not even where the store lost the batch that used them: a power cut, or an old copy."""
    given = {}
    for run in range(4):
        vault = make_vault(store, keys=keys)  # the same seed each time, as if somebody copied it
        people = [bytes([run, number]) * 8 for number in range(50)]
        for person, slot in zip(people, vault.slots(store.batch(), people), strict=True):
            assert given.setdefault(slot, person) == person
        keys = keys.survivor()
    assert len(given) == 200


async def test_the_same_seed_in_another_run_makes_other_keys(store, keys):
    contents = set()
    for _ in range(3):
        make_vault(store, keys=keys).slots(store.batch(), [ADA])
        contents.update(keys.read(range(keys.count)))
        keys = keys.survivor()
    assert len(contents) == keys.count


async def test_a_key_file_that_is_older_than_the_store_or_gone_is_refused(store, keys, vault):
    vault.slots(store.batch(), [BOB])
    seal(store, vault, ADA, b"ada")
    older = MemoryKeys()
    older.replace(keys.master_id, 1, [b"".join(keys.read(range(1)))])
    for kept in (older, MemoryKeys()):
        with pytest.raises(StoreDamaged, match="missing or older than the store; restore"):
            make_vault(store, keys=kept)


async def test_a_full_disk_assigns_nothing_and_goes_on_when_there_is_room(store):
    faults = [0]
    keys = MemoryKeys(lambda: faults[0])
    vault = make_vault(store, keys=keys)
    faults[0] = errno.ENOSPC
    with pytest.raises(StoreFull):
        vault.slots(store.batch(), [ADA])
    faults[0] = 0
    assert vault.open_row(seal(store, vault, ADA, b"ada"), HERE) == b"ada"


async def test_memory_is_bounded_by_the_cache_and_not_by_people(store, keys):
    vault = vault_over(store, keys, cache_max=100)
    sealed = []
    for start in range(0, 2_000, 100):
        batch = store.batch()
        people = [number.to_bytes(16, "big") for number in range(start, start + 100)]
        sealed += vault.seal(vault.slots(batch, people), people, people)
        store.write(batch)
    numbers = vault.statistics()
    assert numbers["subjects_in_memory"] <= 300
    assert numbers["keys_in_memory"] <= 500 + numbers["slots_ready"]
    everybody = [number.to_bytes(16, "big") for number in range(2_000)]
    assert vault.open(sealed, everybody) == everybody


async def test_the_pool_is_filled_ahead_and_grows_with_demand(store, keys, vault, autojump_clock):
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vault.keep_pool, stopping, run_inline)
        await trio.sleep(1)
        assert vault.statistics()["slots_ready"] == POOL_MIN
        number = 0
        for expected in (2 * POOL_MIN, 4 * POOL_MIN, 8 * POOL_MIN):
            batch = store.batch()
            ready = vault.statistics()["slots_ready"]
            people = [n.to_bytes(16, "big") for n in range(number, number + ready // 2)]
            vault.slots(batch, people)
            store.write(batch)
            number += len(people)
            made = keys.count
            await trio.sleep(1)
            assert vault.statistics()["slots_ready"] == expected
            assert keys.count > made
        stopping.set()
    assert expected <= POOL_MAX


async def test_a_pool_that_lasts_long_shrinks(store, vault, autojump_clock):
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vault.keep_pool, stopping, run_inline)
        sizes = []
        for round_ in range(6):
            await trio.sleep(1 if round_ < 2 else 3_600)
            ready = vault.statistics()["slots_ready"]
            sizes.append(ready)
            people = [(round_ << 20 | n).to_bytes(16, "big") for n in range(-(-ready // 2))]
            vault.slots(store.batch(), people)
        stopping.set()
    assert sizes[:3] == [POOL_MIN, 2 * POOL_MIN, 4 * POOL_MIN]
    assert sizes[3:] == [2 * POOL_MIN, POOL_MIN, POOL_MIN]


async def test_slots_made_at_once_and_in_a_thread_at_the_same_time_do_not_collide(store, keys):
    vault = make_vault(store, keys=keys)
    stopping, in_thread = trio.Event(), trio.Event()

    async def slow(function, *args):
        await in_thread.wait()
        return function(*args)

    people = [number.to_bytes(16, "big") for number in range(POOL_MIN + 10)]
    batch = store.batch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(vault.keep_pool, stopping, slow)
        await trio.testing.wait_all_tasks_blocked()
        before = vault.slots(batch, people[:10])
        in_thread.set()
        await trio.testing.wait_all_tasks_blocked()
        after = vault.slots(batch, people[10:])
        stopping.set()
    store.write(batch)
    assert len(set(before + after)) == len(people)
    sealed = vault.seal(before + after, people, people)
    again = make_vault(store, keys=keys.survivor(), seed=1)
    assert again.open(sealed, people) == people


async def test_another_master_key_is_refused_and_says_what_to_do(store, keys, vault):
    seal(store, vault, ADA, b"ada")
    with pytest.raises(ConfigError, match=r"name it in \[keys\] previous"):
        vault_over(store, keys.survivor(), master=OTHER_MASTER)


async def test_a_new_master_key_wraps_everything_anew_that_is_not_destroyed(store, keys, vault):
    ada, bob = seal(store, vault, ADA, b"ada"), seal(store, vault, BOB, b"bob")
    await vault.destroy(vault.slots_of(BOB), run_inline)
    before = keys.content
    rotated = vault_over(store, keys.survivor(), master=OTHER_MASTER, previous=[b"z" * 32, MASTER])
    assert rotated.was_rotated
    assert rotated.open([ada, bob], [HERE, HERE]) == [b"ada", b""]
    keys = rotated._keys.survivor()
    slots = [keys.content[at : at + SLOT_BYTES] for at in range(0, len(before), SLOT_BYTES)]
    assert not any(slot in before for slot in slots if any(slot))
    again = vault_over(store, keys, master=OTHER_MASTER, previous=[MASTER])
    assert not again.was_rotated
    assert again.open_row(ada, HERE) == b"ada"
    with pytest.raises(ConfigError):
        vault_over(store, keys.survivor())


@pytest.mark.parametrize("step", STEPS)
async def test_a_rotation_that_crashes_at_any_step_goes_on_at_the_next_start(
    tmp_path, monkeypatch, step
):
    store, crashes = MemoryStore(), 0
    vault = vault_over(store, open_keys(tmp_path))
    ada, bob = seal(store, vault, ADA, b"ada"), seal(store, vault, BOB, b"bob")
    await vault.destroy(vault.slots_of(BOB), run_inline)
    vault.close()
    masters = [MASTER, OTHER_MASTER]
    while True:
        before, after = masters[crashes % 2], masters[(crashes + 1) % 2]
        opened = []

        def rotate(after=after, before=before, opened=opened):
            keys = open_keys(tmp_path)
            opened.append(keys)
            vault_over(store, keys, master=after, previous=[before])

        crashed = crash_at(monkeypatch, step, crashes, rotate)
        opened[0].close()
        again = vault_over(store, open_keys(tmp_path), master=after, previous=[before])
        assert again.open([ada, bob], [HERE, HERE]) == [b"ada", b""]
        assert [file.name for file in (tmp_path / "keys").iterdir()] == ["slots"]
        again.close()
        if not crashed:
            break
        crashes += 1
    assert crashes >= 1


def unwrapped(slot, number):
    """A data key by another implementation, from what the format says."""
    aad = number.to_bytes(8, "big") + slot[:4]
    return AESGCM(MASTER).decrypt(slot[4:16], slot[16:], aad)


async def test_a_destroyed_key_is_in_no_file_wrapped_or_raw(tmp_path):
    """The whole data directory, database and all, is searched for the bytes of the key."""
    store = open_rocks(tmp_path)
    vault = make_vault(store, keys=open_keys(tmp_path))
    ada, bob = seal(store, vault, ADA, b"ada"), seal(store, vault, BOB, b"bob")
    await store.sync()
    (gone,), (kept,) = vault.slots_of(ADA), vault.slots_of(BOB)
    slots = dict(zip((gone, kept), vault._keys.read([gone, kept]), strict=True))
    raw = {number: unwrapped(slot, number) for number, slot in slots.items()}
    assert AESGCM(raw[gone]).decrypt(ada[9:21], ada[21:], ada[:9] + HERE) == b"ada"

    await vault.destroy([gone], trio.to_thread.run_sync)
    await store.sync()
    content = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    for needle in (raw[gone], slots[gone], slots[gone][16:48], slots[gone][4:16]):
        assert needle not in content
    assert slots[kept] in content
    assert raw[kept] not in content
    assert vault.open([ada, bob], [HERE, HERE]) == [b"", b"bob"]
    vault.close()
    store.close()


async def test_a_checkpoint_has_no_keys_in_it(tmp_path):
    store = open_rocks(tmp_path / "data")
    vault = make_vault(store, keys=open_keys(tmp_path / "data"))
    seal(store, vault, ADA, b"ada")
    (slot,) = vault._keys.read(vault.slots_of(ADA))
    await store.checkpoint(tmp_path / "copy")
    copied = b"".join(f.read_bytes() for f in (tmp_path / "copy").rglob("*") if f.is_file())
    assert slot[16:48] not in copied
    assert unwrapped(slot, vault.slots_of(ADA)[0]) not in copied
    assert not (tmp_path / "copy" / "keys").exists()
    vault.close()
    store.close()


async def test_an_error_of_the_disk_while_destroying_reaches_the_caller(store):
    faults = [0]
    vault = make_vault(store, keys=MemoryKeys(lambda: faults[0]))
    seal(store, vault, ADA, b"ada")
    faults[0] = errno.EIO
    with pytest.raises(StorageError, match=os.strerror(errno.EIO)):
        await vault.destroy(vault.slots_of(ADA), run_inline)


def test_a_crash_is_not_an_error_that_anything_catches():
    assert not issubclass(Crash, Exception)


async def test_verifying_finds_a_changed_slot_and_a_row_that_cannot_be(store, keys, vault):
    seal(store, vault, ADA, b"ada")
    assert verify_keys(store, vault) == []
    batch = store.batch()
    batch.put("subjects", BOB, (10**6).to_bytes(8, "big"))
    batch.put("subjects", b"c" * 16, b"short")
    store.write(batch)
    found = verify_keys(store, vault)
    assert ["slot 1000000" in found[0], b"c".hex() * 16 in found[1]] == [True, True]
    keys.write(3, b"?" * SLOT_BYTES)
    assert verify_keys(store, vault) == [
        "the key file: slot 3 holds no key that this master key wraps; restore the last "
        "checkpoint, and the key file as it is now or its last copy"
    ]
