"""Checkpoints: made, signed, sent outside; and what tampering with the log comes to."""

from __future__ import annotations

import errno
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from cdp.config_consent import Privacy
from cdp.config_reading import Secret
from cdp.consent.audit import decode_record, stored_records
from cdp.consent.checkpoints import (
    AppendedFile,
    Checkpoint,
    is_signed_by,
    last_checkpoint,
    line_of,
    open_signer,
    parse_line,
    statement,
    stored_checkpoints,
)
from cdp.consent.verification import verify
from cdp.errors import StoreFull
from cdp.storage.memory import MemoryStore
from tests.unit.consent.audit_world import KEY, OTHER_KEY, Tampering, Witness, World, copy_of

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

KEYS = (KEY.public_key,)


async def made(batches: int = 6, per_batch: int = 4) -> World:
    """A log with a checkpoint after each batch of records, all of them witnessed."""
    world = World()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        for _ in range(batches):
            world.record(per_batch)
            await trio.sleep(61)
        stopping.set()
    return world


def sizes(world: World) -> list[int]:
    return [parse_line(line).size for line in world.witness.content.splitlines()]


# ------------------------------------------------------------------------------ making them


async def test_a_checkpoint_a_minute_where_anything_is_new(autojump_clock: MockClock) -> None:
    world = await made(3, 4)
    assert sizes(world) == [4, 9, 14]  # each one's own record comes after it
    checkpoint = last_checkpoint(world.store)
    assert checkpoint is not None
    assert is_signed_by(checkpoint, KEY.public_key)
    assert not is_signed_by(checkpoint, OTHER_KEY.public_key)
    assert checkpoint.statement() == statement(14, checkpoint.root, checkpoint.time_us)


async def test_nothing_new_makes_no_checkpoint(autojump_clock: MockClock) -> None:
    world = World()
    stopping = trio.Event()
    world.record()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        await trio.sleep(3_600)
        stopping.set()
    assert sizes(world) == [1]
    assert len(list(stored_records(world.store))) == 2


async def test_ten_thousand_records_do_not_wait_for_the_minute(
    autojump_clock: MockClock,
) -> None:
    world = World()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        await trio.sleep(1)
        world.record(10_001)
        await trio.sleep(0.1)
        assert sizes(world) == [10_001]
        stopping.set()


async def test_what_is_new_when_the_daemon_stops_is_signed(autojump_clock: MockClock) -> None:
    world = World()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        await trio.sleep(1)
        world.record(3)
        stopping.set()
    assert sizes(world) == [3]


async def test_a_restart_goes_on_signing_and_sends_nothing_twice(
    autojump_clock: MockClock,
) -> None:
    world = await made(2, 2)
    again = World(world.store, world.witness)
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(again.checkpoints.run, stopping)
        await trio.sleep(1)
        again.record(2)
        stopping.set()
    assert sizes(again) == [2, 5, 8]
    assert verify(again.store, KEYS, again.witness.content).ok


async def test_a_witness_out_of_reach_is_told_everything_once_it_is_back(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.witness.errno = errno.EIO
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        for _ in range(3):
            world.record()
            await trio.sleep(61)
        assert world.witness.content == b""
        assert world.checkpoints.unwitnessed == 5
        assert not world.checkpoints.status()["witness_available"]
        world.witness.errno = 0
        await trio.sleep(6)
        assert sizes(world) == [1, 3, 5]
        assert world.checkpoints.unwitnessed == 0
        stopping.set()
    events = [msgspec.json.decode(line)["event"] for line in world.lines]
    assert events == ["audit_witness_unavailable", "audit_witness_available"]
    assert world.metrics.counter("cdp_audit_witness_failures_total").value > 3
    assert verify(world.store, KEYS, world.witness.content).ok


async def test_a_restored_store_says_that_the_witness_knows_more(
    autojump_clock: MockClock,
) -> None:
    world = await made(2, 2)
    old = copy_of(world.store)
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        world.record(9)
        await trio.sleep(61)
        stopping.set()
    restored = World(old, world.witness)
    stopping = trio.Event()
    stopping.set()
    await restored.checkpoints.run(stopping)
    actions = [decode_record(value).action for _, value in stored_records(old)]
    assert actions[-2:] == ["behind_witness", "checkpoint"]
    assert parse_line(world.witness.last()).size == len(actions) - 1  # and it is told of it
    assert any("audit_behind_witness" in line for line in restored.lines)
    assert not verify(old, KEYS, world.witness.content).ok


# --------------------------------------------------------------------------------- the file


def test_a_witness_file_is_appended_to_and_a_torn_line_ends_before_the_next(
    tmp_path: Path,
) -> None:
    path = tmp_path / "witness"
    witness = AppendedFile(path)
    assert witness.last() == b""
    witness.append(b"one\n", known=False)
    with path.open("ab") as file:
        file.write(b"tw")
    assert witness.last() == b"one"
    witness.append(b"two\nthree\n", known=True)
    assert path.read_bytes() == b"one\ntw\ntwo\nthree\n"
    assert witness.last() == b"three"


def test_a_witness_file_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        AppendedFile(tmp_path / "witness").append(b"two\n", known=True)
    with pytest.raises(FileNotFoundError):
        AppendedFile(tmp_path / "nowhere" / "witness").append(b"one\n", known=False)
    assert not list(tmp_path.iterdir())


async def test_a_full_disk_is_waited_out_and_leaves_no_gap(autojump_clock: MockClock) -> None:
    faults = [0, errno.ENOSPC, errno.ENOSPC, 0]
    world = World(MemoryStore(write_fault=lambda: faults.pop(0) if faults else 0))
    world.record(3)
    stopping = trio.Event()
    stopping.set()
    for _ in range(2):
        with pytest.raises(StoreFull):
            await world.checkpoints.run(stopping)
    world.record(2)
    await world.checkpoints.run(stopping)
    assert sizes(world) == [5]
    assert verify(world.store, KEYS, world.witness.content).ok


@pytest.mark.parametrize("seed", range(30))
async def test_power_cuts_lose_nothing_that_was_witnessed(
    seed: int, autojump_clock: MockClock
) -> None:
    rng = Random(seed)
    store = MemoryStore(sync_latency_s=lambda: rng.random())
    witness = Witness()
    for _ in range(12):
        world = World(store, witness)
        witness.errno = errno.EIO if rng.random() < 0.2 else 0
        with trio.move_on_after(rng.random() * 150):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.checkpoints.run, trio.Event())
                while True:
                    world.record(rng.randrange(4))
                    if rng.random() < 0.3:
                        await store.sync()
                    await trio.sleep(rng.random() * 30)
        store = store.power_cut(rng)
        report = verify(store, KEYS, witness.content)
        assert report.ok, report.findings
        assert "behind" not in "".join(world.lines)


# ---------------------------------------------------------------------------------- the key


def test_the_key_is_derived_unless_one_is_given() -> None:
    derived = open_signer(Privacy(), b"identity key of some length")
    own = open_signer(Privacy(audit_key=Secret("identity key of some length")), b"other")
    assert derived.public_key == open_signer(Privacy(), b"identity key of some length").public_key
    assert len({derived.public_key, own.public_key}) == 2
    assert len(derived.public_key) == 32
    assert derived.public_key != b"identity key of some length"


def test_a_line_of_the_witness_is_the_checkpoint_and_nothing_else() -> None:
    checkpoint = KEY.sign(7, bytes(32), 123)
    assert parse_line(line_of(checkpoint)) == checkpoint
    assert b"\n" not in line_of(checkpoint)
    with pytest.raises(msgspec.ValidationError):
        parse_line(line_of(checkpoint)[:-1] + b',"more":1}')
    forged = Checkpoint(8, checkpoint.root, 123, checkpoint.key_id, checkpoint.signature)
    assert not is_signed_by(forged, KEY.public_key)
    assert not is_signed_by(checkpoint, b"short")


# ----------------------------------------------------------------------------- verification


async def test_a_log_that_nobody_touched_verifies(autojump_clock: MockClock) -> None:
    world = await made()
    report = verify(world.store, KEYS, world.witness.content)
    assert report.ok
    assert (report.records, report.checkpoints, report.unsigned) == (30, 6, 0)
    assert report.witnessed == report.last == last_checkpoint(world.store)
    world.record(2)
    assert verify(world.store, KEYS).unsigned == 2


def test_an_empty_log_verifies() -> None:
    assert verify(World().store, KEYS, b"").ok


async def test_a_checkpoint_of_another_key_is_found(autojump_clock: MockClock) -> None:
    world = await made(1)
    findings = verify(world.store, (OTHER_KEY.public_key,), world.witness.content).findings
    assert findings
    assert all("not signed by a key that is known" in one for one in findings)


async def test_a_line_that_a_power_cut_tore_is_not_tampering(autojump_clock: MockClock) -> None:
    world = await made(3)
    lines = world.witness.content.splitlines(keepends=True)
    torn = lines[0] + lines[1][:40] + b"\n" + lines[1] + lines[2]
    assert verify(world.store, KEYS, torn).ok
    twice = lines[0] + lines[0] + lines[1] + lines[2]
    assert verify(world.store, KEYS, twice).ok


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        (lambda lines: [lines[0], lines[2]], "no line for the checkpoint of 9 records"),
        (lambda lines: [lines[1], lines[0], lines[2]], "fewer records than a line before it"),
        (lambda lines: [lines[0], b'{"size":3}\n', lines[1], lines[2]], "cannot be read"),
        (lambda lines: [lines[0], lines[1].replace(b'"size":9', b'"size":8'), lines[2]], "signed"),
        (lambda lines: [line.replace(b'":', b'": ') for line in lines], "cannot be read"),
    ],
)
async def test_a_witness_that_was_tampered_with_is_found(
    lines: Any, finding: str, autojump_clock: MockClock
) -> None:
    world = await made(3)
    changed = b"".join(lines(world.witness.content.splitlines(keepends=True)))
    findings = verify(world.store, KEYS, changed).findings
    assert any(finding in one for one in findings)


async def test_a_saved_edge_that_was_changed_is_found(autojump_clock: MockClock) -> None:
    world = await made(2)
    batch = world.store.batch()
    value = world.store.get("meta", b"audit:edge") or b""
    batch.put("meta", b"audit:edge", value[:-1] + bytes([value[-1] ^ 1]))
    world.store.write(batch)
    assert "saved edge" in verify(world.store, KEYS).findings[0]


async def test_records_cut_after_the_last_checkpoint_are_at_most_a_minute(
    autojump_clock: MockClock,
) -> None:
    """What cannot be told: the bound of it is what is promised."""
    world = World()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.checkpoints.run, stopping)
        for _ in range(40):
            world.record()
            await trio.sleep(7)
        witnessed = parse_line(world.witness.last())
        records = [decode_record(value) for _, value in stored_records(world.store)]
        after = [one.at_us for one in records if one.seq > witnessed.size]
        newest_us = records[-1].at_us
        stopping.set()
    assert after
    assert newest_us - min(after) <= 60_000_000


async def tampered(cases: int, seed: int) -> None:
    world = await made(6, 4)
    witness, witnessed = world.witness.content, last_checkpoint(world.store)
    assert witnessed is not None
    assert verify(world.store, KEYS, witness).ok
    rng = Random(seed)
    missed = []
    for case in range(cases):
        kind, skill = Tampering.KINDS[case % 6], rng.randrange(3)
        store = copy_of(world.store)
        Tampering(store, rng, witnessed.size).apply(kind, skill)
        if verify(store, KEYS, witness).ok:
            missed.append((case, kind, skill))
    assert not missed


async def test_every_tampering_is_found(autojump_clock: MockClock) -> None:
    await tampered(240, seed=1)


@pytest.mark.slow
async def test_ten_thousand_tamperings_are_found(autojump_clock: MockClock) -> None:
    await tampered(10_000, seed=2)


async def test_without_a_witness_a_skilled_rewriting_cannot_be_told(
    autojump_clock: MockClock,
) -> None:
    """So the witness is what finds it, and the tampering of these tests is as good as it gets."""
    world = await made(4)
    size = last_checkpoint(world.store)
    assert size is not None
    for kind in ("flip", "fork", "drop", "insert", "truncate", "swap"):
        store = copy_of(world.store)
        Tampering(store, Random(3), size.size).apply(kind, 2)
        assert verify(store, KEYS).ok, kind
        assert not verify(store, KEYS, world.witness.content).ok, kind


async def test_what_looks_like_a_record_and_is_not_is_a_finding_and_no_crash(
    autojump_clock: MockClock,
) -> None:
    world = await made(1)
    for value in (b"", b"\x91" * 2_000, b"\x98\x01", b"\xc1", b"\x81\x90\x01"):
        store = copy_of(world.store)
        batch = store.batch()
        batch.put("audit", (1).to_bytes(8, "big"), value)
        batch.put("audit", b"odd", value)
        store.write(batch)
        assert not verify(store, KEYS).ok


def test_stored_checkpoints_are_read_in_parts() -> None:
    world = World()
    assert stored_checkpoints(world.store) == []
    assert isinstance(world.witness, Witness)
