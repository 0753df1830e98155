"""A write batch may be split by a block's end anywhere, within its own header too."""

import struct

import pytest

from cdp.storage import wal

BLOCK = 32 * 1024
HEADER = 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def framed(batches):
    """The bytes of a log with these batches, split as RocksDB splits them."""
    log = b""
    for batch in batches:
        begun = False
        while True:
            room = BLOCK - len(log) % BLOCK
            if room < HEADER:
                log += bytes(room)
                room = BLOCK
            part, batch = batch[: room - HEADER], batch[room - HEADER :]
            kind = (MIDDLE if begun else FIRST) if batch else (LAST if begun else FULL)
            checksum = wal.crc32c(part, wal.crc32c(bytes([kind])))
            masked = (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            log += struct.pack("<IHB", masked, len(part), kind) + part
            begun = True
            if not batch:
                break
    return log


def batch(sequence, size):
    return struct.pack("<QI", sequence, 1) + bytes(size - 12)


@pytest.mark.parametrize("left", range(BLOCK - 30, BLOCK + 1))
def test_a_batch_whose_header_is_split_is_whole(tmp_path, left):
    log = framed([batch(1, left - HEADER), batch(2, 500), batch(3, 40_000), batch(4, 20)])
    (tmp_path / "000007.log").write_bytes(log)
    assert wal.walk(tmp_path)


def test_a_hole_shows_behind_a_split_header_too(tmp_path):
    log = framed([batch(1, BLOCK - HEADER - 12), batch(3, 500)])
    (tmp_path / "000007.log").write_bytes(log)
    assert not wal.walk(tmp_path)
    assert "writes 2 to 2 are missing" in wal.examine(tmp_path).reason


def test_a_batch_that_ends_within_its_header_is_refused(tmp_path):
    log = framed([batch(1, 100), struct.pack("<Q", 2), batch(3, 100)])
    (tmp_path / "000007.log").write_bytes(log)
    assert wal.examine(tmp_path).reason == "a write batch is too short"
