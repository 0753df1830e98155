"""The key file: written at the end, overwritten in place, never left behind in a copy."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial

import pytest

from cdp.errors import StorageError, StoreDamaged, StoreFull
from cdp.storage import keyfile
from cdp.storage.keyfile import HEADER_BYTES, SLOT_BYTES, FileKeys, MemoryKeys, open_keys

ID = b"m" * 16
OTHER_ID = b"n" * 16
ZEROS = bytes(SLOT_BYTES)


def slot(number):
    return bytes([number % 255 + 1]) * SLOT_BYTES


def some(*numbers):
    return b"".join(slot(number) for number in numbers)


@pytest.fixture(params=["file", "memory"])
def keys(request, tmp_path):
    made = open_keys(tmp_path) if request.param == "file" else MemoryKeys()
    made.replace(ID, 1, [some(0, 1, 2), some(3)])
    yield made
    made.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "slots"


@pytest.fixture
def on_disk(tmp_path, path):
    made = open_keys(tmp_path)
    made.replace(ID, 1, [some(*range(10))])
    made.close()
    return path


def test_slots_are_read_by_number_in_any_order(keys):
    assert (keys.count, keys.epoch, keys.master_id) == (4, 1, ID)
    assert keys.read([3, 0, 3, 2]) == [slot(3), slot(0), slot(3), slot(2)]
    assert keys.read([]) == []


def test_slots_are_added_at_the_end(keys):
    keys.extend(some(4, 5))
    assert (keys.count, keys.read([5, 4])) == (6, [slot(5), slot(4)])


def test_numbers_are_reserved_before_they_are_written_and_may_be_written_in_any_order(keys):
    first, second = keys.reserve(2), keys.reserve(1)
    assert (first, second, keys.count) == (4, 6, 7)
    keys.write(second, some(6))
    keys.write(first, some(4, 5))
    assert keys.read([4, 5, 6]) == [slot(4), slot(5), slot(6)]


def test_a_destroyed_slot_is_all_zeros_and_its_neighbours_stay(keys):
    keys.destroy([1, 3])
    assert keys.read(range(4)) == [slot(0), ZEROS, slot(2), ZEROS]


def test_another_master_key_means_another_file_with_the_same_numbers(keys):
    keys.replace(OTHER_ID, 2, [some(9, 8)])
    assert (keys.count, keys.epoch, keys.master_id) == (2, 2, OTHER_ID)
    assert keys.read([0, 1]) == [slot(9), slot(8)]


def test_a_slot_past_the_end_is_a_key_file_that_is_too_old(keys):
    with pytest.raises(StoreDamaged, match=r"slot 7, which is in use; restore the key file"):
        keys.read([0, 7])


def test_everything_is_there_after_opening_again(tmp_path, on_disk):
    keys = open_keys(tmp_path)
    assert (keys.count, keys.epoch, keys.master_id) == (10, 1, ID)
    assert keys.read([9]) == [slot(9)]
    keys.close()


def test_a_directory_without_a_key_file_has_none_and_gets_none_by_looking(tmp_path, path):
    keys = open_keys(tmp_path)
    assert (keys.count, keys.epoch, keys.master_id) == (0, 0, b"")
    assert not path.exists()


def test_only_the_owner_may_read_it(tmp_path, on_disk):
    assert stat.S_IMODE(on_disk.stat().st_mode) == 0o600
    assert stat.S_IMODE(on_disk.parent.stat().st_mode) == 0o700
    on_disk.chmod(0o644)
    open_keys(tmp_path).close()
    assert stat.S_IMODE(on_disk.stat().st_mode) == 0o600


def test_a_destroyed_key_is_in_no_file_of_the_directory(tmp_path, on_disk):
    keys = open_keys(tmp_path)
    keys.destroy([4])
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files == [on_disk]
    content = on_disk.read_bytes()
    assert slot(4)[:8] not in content
    assert slot(3) in content
    keys.close()


def test_every_changed_byte_of_the_header_is_damage_and_names_the_file(tmp_path, on_disk):
    whole = on_disk.read_bytes()
    for index in range(8 + 4 + 16 + 4):
        changed = bytearray(whole)
        changed[index] ^= 0x40
        on_disk.write_bytes(changed)
        with pytest.raises(StoreDamaged, match="keys/slots: its header"):
            open_keys(tmp_path)


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1])
def test_a_file_that_is_too_short_for_its_header_is_damage(tmp_path, on_disk, size):
    os.truncate(on_disk, size)
    with pytest.raises(StoreDamaged, match="keys/slots: its header is cut short"):
        open_keys(tmp_path)


def test_a_slot_that_a_power_cut_tore_becomes_zeros_and_its_number_is_not_used_again(
    tmp_path, on_disk
):
    os.truncate(on_disk, HEADER_BYTES + 7 * SLOT_BYTES + 20)
    keys = open_keys(tmp_path)
    assert keys.count == 8
    assert keys.read([6, 7]) == [slot(6), ZEROS]
    keys.close()
    assert on_disk.stat().st_size == HEADER_BYTES + 8 * SLOT_BYTES


def test_a_link_in_its_place_is_not_followed(tmp_path, on_disk):
    on_disk.rename(tmp_path / "elsewhere")
    on_disk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="opening"):
        open_keys(tmp_path)


STEPS = ["fsync", "link", "rename", "unlink", "write"]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_at_any_step_of_a_replacement_leaves_one_whole_file_and_no_copy(
    tmp_path, on_disk, monkeypatch, step
):
    """Counted, not guessed: the n-th call of each kind fails, for every n there is."""
    made = 0
    while True:
        for leftover in on_disk.parent.iterdir():
            leftover.unlink()
        keys = open_keys(tmp_path)
        keys.replace(ID, 1, [some(*range(10))])
        replace = partial(keys.replace, OTHER_ID, 2, NEW)
        crashed = crash_at(monkeypatch, step, made, replace)
        keys.close()
        after = open_keys(tmp_path)
        assert [file.name for file in on_disk.parent.iterdir()] == ["slots"]
        whole = {ID: some(*range(10)), OTHER_ID: NEW[0]}[after.master_id]
        assert b"".join(after.read(range(10))) == whole
        after.close()
        if not crashed:
            break
        made += 1
    assert made >= 1, f"a replacement calls {step}"


NEW = [some(*range(100, 110))]
CALLS = {
    "fsync": (os, "fsync"),
    "link": (os, "link"),
    "rename": (keyfile.os, "rename"),
    "unlink": (keyfile.os, "unlink"),
    "write": (keyfile, "_write_all"),
}


class Crash(BaseException):
    """The process is gone: nothing after it runs."""


def crash_at(monkeypatch, step, number, work):
    """Runs work with the process dying before one call; whether it did."""
    owner, name = CALLS[step]
    real, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) > number:
            raise Crash
        return real(*args, **kwargs)

    with monkeypatch.context() as crashing:
        crashing.setattr(owner, name, counted)
        try:
            work()
        except Crash:
            return True
    return False


def test_what_a_crash_left_is_overwritten_before_its_name_goes(tmp_path, on_disk, monkeypatch):
    """The blocks of an unlinked file keep their bytes: so they are seen through a second name."""
    left = on_disk.with_name("slots.new")
    left.write_bytes(some(1, 2, 3))
    os.link(left, tmp_path / "its blocks")
    open_keys(tmp_path).close()
    assert not left.exists()
    assert (tmp_path / "its blocks").read_bytes() == bytes(3 * SLOT_BYTES)


def test_the_old_file_is_overwritten_when_it_was_replaced(tmp_path, on_disk):
    os.link(on_disk, tmp_path / "its blocks")
    keys = open_keys(tmp_path)
    keys.replace(OTHER_ID, 2, NEW)
    keys.close()
    assert set((tmp_path / "its blocks").read_bytes()) == {0}


def test_a_disk_that_keeps_old_bytes_is_not_believed(tmp_path, on_disk, monkeypatch):
    keys = open_keys(tmp_path)
    with monkeypatch.context() as lying:
        lying.setattr(keyfile, "_write_all", lambda file, content, place: place)
        with pytest.raises(StorageError, match="slot 2 was overwritten, but still reads"):
            keys.destroy([2])
    keys.close()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StorageError)])
def test_errors_of_the_disk_say_what_was_being_done(tmp_path, on_disk, monkeypatch, number, kind):
    def fails(*args):
        raise OSError(number, os.strerror(number))

    keys = open_keys(tmp_path)
    for made in (keys, MemoryKeys(lambda: number)):
        with monkeypatch.context() as failing:
            failing.setattr(os, "pwrite", fails)
            with pytest.raises(kind, match="writing") as caught:
                made.extend(slot(1))
        assert type(caught.value) is kind
    keys.close()


def test_after_a_failed_flush_nothing_is_written_any_more(tmp_path, on_disk, monkeypatch):
    """The kernel forgets what it could not write, and the next flush would succeed."""
    keys = open_keys(tmp_path)

    def fails(file):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", fails)
        with pytest.raises(StorageError, match="restart the daemon"):
            keys.destroy([1])
    for change in (partial(keys.destroy, [1]), partial(keys.extend, slot(1))):
        with pytest.raises(StorageError, match="takes no more writes"):
            change()
    keys.close()


def test_a_full_disk_is_no_such_failure(tmp_path, on_disk, monkeypatch):
    keys = open_keys(tmp_path)

    def fails(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(os, "pwrite", fails)
        with pytest.raises(StoreFull):
            keys.extend(slot(10))
    keys.extend(slot(11))
    assert keys.read([11]) == [slot(11)]
    keys.close()


def test_memory_survives_like_a_file_without_what_was_only_reserved():
    keys = MemoryKeys()
    keys.replace(ID, 1, [some(0, 1)])
    keys.reserve(10)
    survivor = keys.survivor()
    assert (survivor.count, survivor.master_id, survivor.read([1])) == (2, ID, [slot(1)])
    with pytest.raises(AssertionError):
        keys.read([0])


def test_it_is_opened_by_its_own_path_too(path, on_disk):
    keys = FileKeys(path)
    assert keys.count == 10
    keys.close()
