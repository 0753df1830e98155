"""The acked high-water mark: how far the store was durable, kept outside the store.

A damaged write-ahead log can open without an error and hold less than was acknowledged. So every
sync notes the store's sequence number in a small file of its own, and the opening protocol refuses
a store that recovers to a lower one. The note is written after the log is on disk: it may lag, it
never runs ahead. It is written at every sync and forced to disk at most once a second and at a
clean stop, so after a crash of the process it is exact, and after a power cut at most that old.

The file has two slots, written in turn, each in a sector of its own: a torn write spoils one slot
and leaves the other. A slot is a magic number, the sequence as 8 bytes and their CRC-32.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Final, final

from cdp.errors import StoreDamaged
from cdp.storage.directory import write_durably

if TYPE_CHECKING:
    from pathlib import Path

_SLOT: Final = struct.Struct(">4s8sI")
_MAGIC: Final = b"ack1"
_SLOT_BYTES: Final = 4096
FORCE_INTERVAL_S: Final = 1.0


@final
class AckedMark:
    """The open file. One thread at a time may note; `sequence` is what it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR)
        slots = [_read_slot(os.pread(self._file, _SLOT.size, at)) for at in (0, _SLOT_BYTES)]
        known = [sequence for sequence in slots if sequence is not None]
        if not known:
            os.close(self._file)
            raise StoreDamaged(
                f"{path}: neither slot of the high-water mark is readable; "
                "run `cdp verify`, then restore the last checkpoint"
            )
        self.sequence = max(known)
        self._slot = 1 - slots.index(self.sequence)

    def note(self, sequence: int, *, force: bool) -> None:
        """Writes a number that is durable in the store. Never goes back. Raises OSError."""
        if sequence > self.sequence:
            os.pwrite(self._file, _encode_slot(sequence), self._slot * _SLOT_BYTES)
            self.sequence = sequence
            self._slot = 1 - self._slot
        if force:
            os.fdatasync(self._file)

    def close(self) -> None:
        os.close(self._file)


def create_mark(path: Path, sequence: int = 0) -> None:
    """Makes a mark and forces it, and the directory that names it, to disk."""
    slot = _encode_slot(sequence).ljust(_SLOT_BYTES, b"\0")
    write_durably(path, slot + slot)


def _encode_slot(sequence: int) -> bytes:
    number = sequence.to_bytes(8, "big")
    return _SLOT.pack(_MAGIC, number, zlib.crc32(number))


def _read_slot(content: bytes) -> int | None:
    if len(content) != _SLOT.size:
        return None
    magic, number, checksum = _SLOT.unpack(content)
    if magic != _MAGIC or zlib.crc32(number) != checksum:
        return None
    return int.from_bytes(number, "big")
