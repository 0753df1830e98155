"""The block: how a log's records lie on disk, and how damage shows.

A value is a header and a msgpack array of sealed records:

    1  format           1
    4  previous         checksum of the block before this one in the log
    4  checksum         CRC-32 of the key, `previous`, `total_bytes` and the array
    8  total_bytes      bytes of this block's array and of all arrays before it, ever
    …  array of byte strings

Each block names the checksum of the one before, so a block that is missing in the middle shows as
well as one that changed. The running total gives the size of any stretch of a log by subtraction.
Checksums cover sealed records: damage is found without any key.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cdp.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_FORMAT: Final = 1
_HEADER: Final = struct.Struct(">BIIQ")
_COVERED: Final = struct.Struct(">8sIQ")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[bytes]).decode


class Link(NamedTuple):
    """Where a chain of blocks stands: what the next block refers to."""

    checksum: int = 0
    total_bytes: int = 0


class Header(NamedTuple):
    """The head of a block."""

    previous: int
    checksum: int
    total_bytes: int

    @property
    def link(self) -> Link:
        return Link(self.checksum, self.total_bytes)


def key_of(offset: int) -> bytes:
    """The key of the block whose first record has this offset."""
    return offset.to_bytes(8, "big")


def encode_block(key: bytes, sealed: Sequence[bytes], after: Link) -> tuple[bytes, Link]:
    """The value of a block that follows `after`, and the link that it leaves."""
    array = _encode(sealed)
    total_bytes = after.total_bytes + len(array)
    checksum = _checksum(key, after.checksum, total_bytes, array)
    header = _HEADER.pack(BLOCK_FORMAT, after.checksum, checksum, total_bytes)
    return header + array, Link(checksum, total_bytes)


def decode_records(family: str, key: bytes, value: bytes) -> list[bytes]:
    """The sealed records. The disk's own checksums were verified on the way; ours are not here."""
    _header(family, key, value)
    try:
        return _decode(memoryview(value)[_HEADER.size :])
    except msgspec.DecodeError as error:
        raise _damaged(family, key, "cannot be decoded") from error


def check_block(family: str, key: bytes, value: bytes) -> Header:
    """The header of a block that is as it was written.

    Raises:
        StoreDamaged: the block is not what was written.
    """
    header = _header(family, key, value)
    array = memoryview(value)[_HEADER.size :]
    if _checksum(key, header.previous, header.total_bytes, array) != header.checksum:
        raise _damaged(family, key, "fails its checksum")
    return header


def header_of(family: str, key: bytes, value: bytes) -> Header:
    """The header, not checked against the records."""
    return _header(family, key, value)


def bytes_before(family: str, key: bytes, value: bytes) -> int:
    """Bytes of all the arrays that were appended before this block."""
    return _header(family, key, value).total_bytes - (len(value) - _HEADER.size)


def _header(family: str, key: bytes, value: bytes) -> Header:
    if len(value) < _HEADER.size or len(key) != 8:
        raise _damaged(family, key, "is cut short")
    block_format, previous, checksum, total_bytes = _HEADER.unpack_from(value)
    if block_format != BLOCK_FORMAT:
        raise _damaged(family, key, f"has format {block_format}, known is {BLOCK_FORMAT}")
    return Header(previous, checksum, total_bytes)


def _checksum(key: bytes, previous: int, total_bytes: int, array: bytes | memoryview) -> int:
    return zlib.crc32(array, zlib.crc32(_COVERED.pack(key, previous, total_bytes)))


def _damaged(family: str, key: bytes, what: str) -> StoreDamaged:
    place = int.from_bytes(key, "big")
    return StoreDamaged(
        f"log {family}: the block at offset {place} {what}; restore the last checkpoint"
    )
