"""The opening protocol: everything that was acknowledged, or a refusal that names the file."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import trio

from cdp.errors import StorageError, StoreDamaged, StoreInUse
from cdp.storage import opening
from cdp.storage.directory import read_format, write_format
from cdp.storage.log import Log
from cdp.storage.mark import AckedMark, create_mark
from cdp.storage.opening import open_store
from cdp.storage.rocks import StoreSizes
from cdp.storage.store import FAMILIES, FORMAT_VERSION
from cdp.storage.wal import examine, wal_files, walk

MIB = 2**20
SMALL = StoreSizes(MIB, 8 * MIB, MIB, 8 * MIB)


async def in_thread(function, *args):
    return await trio.to_thread.run_sync(function, *args)


def open_it(path):
    return open_store(path, in_thread, SMALL)


async def fill(path, count=20):
    """What a killed process leaves: `count` acknowledged batches in the write-ahead log."""
    live = path.with_name(path.name + ".live")
    store = open_it(live)
    log = Log(store, "events")
    for number in range(count):
        batch = store.batch()
        log.append(batch, [b"%06d" % number * 60] * 3)
        store.write(batch)
        log.publish()
        await store.sync()
    shutil.copytree(live, path, dirs_exist_ok=True)
    store.close()


def the_wal(path):
    return wal_files(path / "db")[-1]


def head_of(path):
    store = open_it(path)
    try:
        return Log(store, "events").head
    finally:
        store.close()


async def test_a_new_directory_becomes_a_store_and_opens_again(tmp_path):
    await fill(tmp_path / "deep" / "data")
    assert head_of(tmp_path / "deep" / "data") == 60


def test_a_store_in_use_is_refused_with_the_process_that_has_it(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from cdp.storage.directory import lock_directory\n"
        f"lock_directory(Path({str(tmp_path)!r}))\n"
        "print(os.getpid(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        pid = holder.stdout.readline().strip().decode()
        with pytest.raises(StoreInUse, match=f"process {pid} has the data directory"):
            open_it(tmp_path)
        holder.stdin.close()
    open_it(tmp_path).close()


async def test_a_closed_store_lets_go_of_the_directory(tmp_path):
    for _ in range(3):
        open_it(tmp_path).close()


async def test_a_newer_format_is_refused_before_anything_is_touched(tmp_path):
    await fill(tmp_path)
    (tmp_path / "format").write_text("cdp store format 99\n")
    before = sorted(file.name for file in (tmp_path / "db").iterdir())
    with pytest.raises(StorageError, match=r"has format 99, this version of cdp knows up to 2"):
        open_it(tmp_path)
    assert sorted(file.name for file in (tmp_path / "db").iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"cdp store format x\n", b"\0" * 19])
async def test_an_unreadable_format_is_damage(tmp_path, content):
    await fill(tmp_path)
    (tmp_path / "format").write_bytes(content)
    with pytest.raises(StoreDamaged, match="format"):
        open_it(tmp_path)


@pytest.fixture
def next_format(monkeypatch):
    """This code one format later, with whatever step a test wants."""

    def have(step):
        for module in (opening, sys.modules["cdp.storage.directory"]):
            monkeypatch.setattr(module, "FORMAT_VERSION", FORMAT_VERSION + 1)
        monkeypatch.setattr(opening, "MIGRATIONS", {FORMAT_VERSION: step})

    return have


async def test_an_older_format_is_brought_up_to_date_once(tmp_path, next_format):
    open_it(tmp_path).close()
    calls = []

    def step(store, batch):
        calls.append(store.get("meta", b"format"))
        batch.put("meta", b"migrated", b"yes")

    next_format(step)
    for _ in range(2):
        store = open_it(tmp_path)
        assert store.get("meta", b"migrated") == b"yes"
        store.close()
    assert calls == [FORMAT_VERSION.to_bytes(8, "big")]
    assert read_format(tmp_path) == FORMAT_VERSION + 1


async def test_a_migration_that_crashes_is_done_again(tmp_path, next_format):
    open_it(tmp_path).close()

    def crash(store, batch):
        batch.put("meta", b"half", b"done")
        raise ValueError("bug")

    next_format(crash)
    with pytest.raises(ValueError, match="bug"):
        open_it(tmp_path)
    next_format(lambda store, batch: None)
    store = open_it(tmp_path)
    assert store.get("meta", b"half") is None
    store.close()


@pytest.fixture
def first_format(monkeypatch):
    """This code as it was with format 1: without sealing and without its families."""
    with monkeypatch.context() as before:
        first_families = FAMILIES[: FAMILIES.index("subjects")]
        before.setattr(sys.modules["cdp.storage.rocks"], "FAMILIES", first_families)
        for module in (opening, sys.modules["cdp.storage.directory"]):
            before.setattr(module, "FORMAT_VERSION", 1)
        yield before


async def test_an_empty_store_of_the_first_format_is_taken_over(tmp_path, first_format):
    open_it(tmp_path).close()
    assert read_format(tmp_path) == 1
    first_format.undo()
    store = open_it(tmp_path)
    assert store.get("subjects", b"nobody") is None
    store.close()
    assert read_format(tmp_path) == FORMAT_VERSION


async def test_a_store_with_unsealed_events_is_refused_with_what_to_do(tmp_path, first_format):
    await fill(tmp_path)
    first_format.undo()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"has format 1, which kept events unsealed"):
            open_it(tmp_path)
    assert read_format(tmp_path) == 1


async def test_a_creation_that_was_interrupted_starts_anew(tmp_path):
    opening._create(tmp_path, SMALL)
    (tmp_path / "format").unlink()  # it is written last
    open_it(tmp_path).close()
    assert head_of(tmp_path) == 0


async def test_a_database_without_its_format_file_is_not_taken_for_a_new_one(tmp_path):
    await fill(tmp_path)
    (tmp_path / "format").unlink()
    with pytest.raises(StoreDamaged, match="format"):
        open_it(tmp_path)
    write_format(tmp_path)
    assert head_of(tmp_path) == 60


async def test_a_store_that_lost_its_last_acknowledged_write_is_refused_unchanged(tmp_path):
    await fill(tmp_path)
    wal = the_wal(tmp_path)
    whole = wal.read_bytes()
    wal.write_bytes(whole[:-100])
    with pytest.raises(StoreDamaged, match="was acknowledged"):
        open_it(tmp_path)
    assert wal.read_bytes() == whole[:-100]
    wal.write_bytes(whole)
    assert head_of(tmp_path) == 60


async def test_a_torn_end_that_nobody_was_told_about_is_dropped(tmp_path):
    await fill(tmp_path)
    wal = the_wal(tmp_path)
    acked = wal.read_bytes()
    for torn in (b"\0" * 300, b"\xaa" * 300, acked[:100]):
        wal = the_wal(tmp_path)
        wal.write_bytes(wal.read_bytes() + torn)
        assert head_of(tmp_path) == 60
        assert (tmp_path / "aside" / wal.name).read_bytes().endswith(torn)


async def test_a_flipped_bit_before_valid_records_is_rot_and_named_with_its_place(tmp_path):
    await fill(tmp_path)
    wal = the_wal(tmp_path)
    content = bytearray(wal.read_bytes())
    content[len(content) // 2] ^= 0x10
    wal.write_bytes(content)
    with pytest.raises(StoreDamaged, match=rf"{wal.name}: damaged at byte \d+ .*valid records"):
        open_it(tmp_path)
    assert wal.read_bytes() == bytes(content)


async def test_rot_is_told_from_a_torn_end_even_where_the_mark_lags(tmp_path):
    """After a power cut the mark may be a second old, and does not help."""
    await fill(tmp_path)
    create_mark(tmp_path / "acked", 1)
    whole = the_wal(tmp_path).read_bytes()
    for place in (len(whole) // 3, len(whole) // 2, len(whole) - len(whole) // 8):
        content = bytearray(whole)
        content[place] ^= 0x01
        the_wal(tmp_path).write_bytes(content)
        with pytest.raises(StoreDamaged, match="valid records"):
            open_it(tmp_path)
    the_wal(tmp_path).write_bytes(whole)
    assert head_of(tmp_path) == 60


@pytest.mark.parametrize("part", ["type", "length", "checksum", "payload"])
async def test_a_changed_record_of_the_manifest_is_refused_before_it_is_recovered(tmp_path, part):
    """In the type of a record, bit 2 makes RocksDB loop for ever; in the last length, forget it."""
    await fill(tmp_path, 2)
    manifest = next((tmp_path / "db").glob("MANIFEST-*"))
    whole = manifest.read_bytes()
    starts, start = [], 0
    while start < len(whole):
        starts.append(start)
        start += 7 + int.from_bytes(whole[start + 4 : start + 6], "little")
    for start in (starts[len(starts) // 2], starts[-1]):
        content = bytearray(whole)
        content[start + {"checksum": 1, "length": 4, "type": 6, "payload": 9}[part]] ^= 0x04
        manifest.write_bytes(content)
        with pytest.raises(StoreDamaged, match=f"{manifest.name}: damaged at byte {start} "):
            open_it(tmp_path)
    manifest.write_bytes(whole)
    assert head_of(tmp_path) == 6


@pytest.mark.parametrize("end", [b"\x11\x22\x33", b"\0" * 50, b"\1\2\3\4\x40\0\1torn"])
async def test_an_end_that_was_cut_off_the_manifest_is_no_damage(tmp_path, end):
    await fill(tmp_path, 2)
    manifest = next((tmp_path / "db").glob("MANIFEST-*"))
    manifest.write_bytes(manifest.read_bytes() + end)
    assert head_of(tmp_path) == 6


async def test_a_missing_log_is_noticed(tmp_path):
    await fill(tmp_path)
    the_wal(tmp_path).unlink()
    with pytest.raises(StoreDamaged, match="acknowledged"):
        open_it(tmp_path)


async def test_a_missing_mark_is_damage(tmp_path):
    await fill(tmp_path)
    (tmp_path / "acked").unlink()
    with pytest.raises(StoreDamaged, match="acked"):
        open_it(tmp_path)


async def test_a_log_whose_predecessor_ended_early_is_set_aside(tmp_path):
    """A power cut can keep a new log and lose the unsynced end of the one before it."""
    await fill(tmp_path, 4)
    wal = the_wal(tmp_path)
    later = wal.with_name(f"{int(wal.stem) + 50:06d}.log")
    await fill(tmp_path / "other", 9)
    content = the_wal(tmp_path / "other").read_bytes()
    first_sequence = int.from_bytes(content[7:15], "little")
    assert first_sequence <= 2
    later.write_bytes(_with_sequence(content, 5_000))
    assert not walk(tmp_path / "db")
    bad = examine(tmp_path / "db")
    assert (bad.file, bad.offset) == (later, 0)
    assert head_of(tmp_path) == 12
    assert (tmp_path / "aside" / later.name).exists()


def _with_sequence(content, sequence):
    """The first record of a log, with another sequence number and its checksum made to fit."""
    from cdp.storage.wal import crc32c

    length = int.from_bytes(content[4:6], "little")
    payload = sequence.to_bytes(8, "little") + content[15 : 7 + length]
    crc = crc32c(payload, crc32c(content[6:7]))
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return masked.to_bytes(4, "little") + content[4:7] + payload


def test_the_checksum_is_crc_32c():
    from cdp.storage.wal import crc32c

    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283


def test_the_mark_never_goes_back_and_survives_a_torn_slot(tmp_path):
    path = tmp_path / "acked"
    create_mark(path)
    mark = AckedMark(path)
    for sequence in (5, 9, 7):
        mark.note(sequence, force=True)
    mark.close()
    assert AckedMark(path).sequence == 9
    content = path.read_bytes()
    for start in (0, 4096):
        path.write_bytes(content[:start] + b"\0" * 512 + content[start + 512 :])
        assert AckedMark(path).sequence in (5, 9)
    path.write_bytes(b"\0" * 8192)
    with pytest.raises(StoreDamaged, match="neither slot"):
        AckedMark(path)
