"""Reads RocksDB's write-ahead logs and manifest without it, to tell rot from a torn tail.

RocksDB alone cannot be asked. Its default recovery stops in silence at the first bad record,
wherever it is; its strict modes refuse a tail that a power cut left half-written. The difference
is what comes after the bad spot: a write that was cut has nothing valid behind it.

A log is 32 KiB blocks of records: masked CRC-32C (4 bytes), length (2), type (1), payload, little
endian; a record that does not fit is split into first, middle and last. A write batch starts with
its sequence number (8) and how many writes it holds (4), so the logs can also be checked for
holes, within a file and from one to the next.

`walk` reads headers only and is run at every opening; `examine` computes every checksum, at about
10 MB/s, and is run only where RocksDB refused or the walk met something odd. The manifest has the
same records without the sequence numbers. It is small, and examined at every opening: one flipped
bit in the type of a record sends RocksDB 9 round in circles for ever.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK: Final = 32 * 1024
_HEADER: Final = struct.Struct("<IHB")
_BATCH: Final = struct.Struct("<QI")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_TYPES: Final = frozenset({_FULL, _FIRST, _MIDDLE, _LAST})
_U32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class BadSpot:
    """The first place where the logs are not what was written."""

    file: Path
    offset: int
    reason: str
    valid_after: bool  # a valid record follows in the same file: no cut write leaves that
    later_files: tuple[Path, ...]  # logs with content that come after


@dataclass(frozen=True, slots=True)
class _Record:
    offset: int
    type: int
    checksum: int
    payload: memoryview


class _Broken(Exception):
    """The structure ends here, before the end of the file."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def wal_files(database: Path) -> list[Path]:
    """The write-ahead logs of a database, oldest first."""
    return sorted(database.glob("[0-9]*.log"), key=lambda file: int(file.stem))


def walk(database: Path) -> bool:
    """Whether the logs are whole by their structure: no odd header, no cut end, no hole."""
    return _first_break(wal_files(database), checksums=False) is None


def examine(database: Path) -> BadSpot | None:
    """The first bad spot by every checksum and sequence number, or None where all is well."""
    files = wal_files(database)
    found = _first_break(files, checksums=True)
    if found is None:
        return None
    file, broken = found
    content = file.read_bytes()
    later = tuple(other for other in files[files.index(file) + 1 :] if other.stat().st_size)
    return BadSpot(
        file=file,
        offset=broken.offset,
        reason=broken.reason,
        valid_after=_valid_record_after(memoryview(content), broken.offset),
        later_files=later,
    )


def examine_manifest(database: Path) -> BadSpot | None:
    """The first bad spot of the manifest, but for an end that was cut; None where it is well.

    A manifest that is missing, or that is not named, is for RocksDB to refuse.
    """
    current = database / "CURRENT"
    name = current.read_bytes().decode("ascii", "replace").strip() if current.exists() else ""
    file = database / name
    if not name.startswith("MANIFEST-") or "/" in name or not file.is_file():
        return None
    content = memoryview(file.read_bytes())
    try:
        for record in _records(content):
            if _checksum_of(record) != record.checksum:
                raise _Broken(record.offset, "a record fails its checksum")
    except _Broken as broken:
        valid_after = _valid_record_after(content, broken.offset)
        cut = broken.reason.startswith("the file ends") or not any(content[broken.offset :])
        if valid_after or not cut:
            return BadSpot(file, broken.offset, broken.reason, valid_after, ())
    return None


def _first_break(files: list[Path], *, checksums: bool) -> tuple[Path, _Broken] | None:
    expected: int | None = None  # the sequence number that comes next
    for file in files:
        try:
            expected = _check_file(memoryview(file.read_bytes()), expected, checksums=checksums)
        except _Broken as broken:
            return file, broken
    return None


def _check_file(content: memoryview, expected: int | None, *, checksums: bool) -> int | None:
    in_batch = False
    begun, head = 0, b""  # of the batch: where it begins, and the start of it
    for record in _records(content):
        if checksums and _checksum_of(record) != record.checksum:
            raise _Broken(record.offset, "a record fails its checksum")
        if in_batch != (record.type in (_MIDDLE, _LAST)):
            raise _Broken(record.offset, "a split record is not continued")
        if record.type in (_FULL, _FIRST):
            begun, head = record.offset, b""
        in_batch = record.type in (_FIRST, _MIDDLE)
        if len(head) < _BATCH.size:
            # A block's end may split a batch even within its header.
            head += bytes(record.payload[: _BATCH.size - len(head)])
            if len(head) == _BATCH.size:
                expected = _next_sequence(begun, head, expected)
        if not in_batch and len(head) < _BATCH.size:
            raise _Broken(begun, "a write batch is too short")
    if in_batch:
        raise _Broken(len(content), "the file ends inside a record")
    return expected


def _next_sequence(begun: int, head: bytes, expected: int | None) -> int:
    sequence, count = _BATCH.unpack(head)
    # Lower is fine: a batch that the disk refused may lie in a log that was given up.
    if expected is not None and sequence > expected:
        raise _Broken(begun, f"writes {expected} to {sequence - 1} are missing")
    return int(sequence + count)


def _records(content: memoryview) -> Iterator[_Record]:
    offset, size = 0, len(content)
    while offset < size:
        room = _BLOCK - offset % _BLOCK
        if room < _HEADER.size:
            if any(content[offset : offset + room]):
                raise _Broken(offset, "the padding of a block is not empty")
            offset += room
            continue
        if size - offset < _HEADER.size:
            raise _Broken(offset, "the file ends inside a header")
        checksum, length, kind = _HEADER.unpack_from(content, offset)
        end = offset + _HEADER.size + length
        if kind not in _TYPES:
            raise _Broken(offset, f"a record has type {kind}")
        if _HEADER.size + length > room:
            raise _Broken(offset, "a record is longer than its block")
        if end > size:
            raise _Broken(offset, "the file ends inside a record")
        yield _Record(offset, kind, checksum, content[offset + _HEADER.size : end])
        offset = end


def _valid_record_after(content: memoryview, bad: int) -> bool:
    """Looks on at the next places where a record can start: all in this block, then each block."""
    if _is_valid_but_for_its_length(content, bad):
        return True
    block_end = min(len(content), bad - bad % _BLOCK + _BLOCK)
    if any(_is_valid_at(content, offset) for offset in range(bad, block_end)):
        return True
    return any(_is_valid_at(content, offset) for offset in range(block_end, len(content), _BLOCK))


def _is_valid_but_for_its_length(content: memoryview, offset: int) -> bool:
    """Whether the rest of the file is one whole record: then its length is what changed."""
    start = offset + _HEADER.size
    if not start <= len(content) <= offset - offset % _BLOCK + _BLOCK:
        return False
    checksum, _, kind = _HEADER.unpack_from(content, offset)
    return _checksum_of(_Record(offset, kind, 0, content[start:])) == int(checksum)


def _is_valid_at(content: memoryview, offset: int) -> bool:
    room = min(_BLOCK - offset % _BLOCK, len(content) - offset)
    if room < _HEADER.size:
        return False
    checksum: int
    checksum, length, kind = _HEADER.unpack_from(content, offset)
    if kind not in _TYPES or _HEADER.size + length > room:
        return False
    start = offset + _HEADER.size
    return _checksum_of(_Record(offset, kind, 0, content[start : start + length])) == checksum


def _checksum_of(record: _Record) -> int:
    crc = crc32c(record.payload, crc32c(bytes([record.type])))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _U32


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """CRC-32C (Castagnoli), as RocksDB checks its records; the standard library has only CRC-32."""
    table = _TABLE
    crc ^= _U32
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ _U32


def _table() -> tuple[int, ...]:
    polynomial = 0x82F63B78
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (polynomial if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)


_TABLE: Final = _table()
