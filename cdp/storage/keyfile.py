"""The key file: wrapped data keys in slots of 64 bytes, overwritten in place to destroy them.

    header     4,096 bytes: magic, epoch, id of the master key, CRC-32; the rest zeros
    slots      64 bytes each; all zeros where the key is destroyed (see matcher_rs/seal/src/slot.rs)

Not in the database, because a key that an LSM tree deletes stays in its logs and tables until they
are compacted. Here a key lies in one place, and nothing else ever copies it: see decision 0007,
also for what a copy-on-write file system or a flash disk makes of "in place".

Slots are only ever added at the end. The header is written once a file: another master key means
another file, which takes this one's name (`replace`). The file has no lock of its own, since the
data directory has one. It knows no keys: wrapping is the sealer's work.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from cdp.errors import StorageError, StoreDamaged, StoreFull
from cdp.storage.directory import KEYS, SLOTS, sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

SLOT_BYTES: Final = 64
MASTER_ID_BYTES: Final = 16
HEADER_BYTES: Final = 4_096  # a page of its own: writing a slot never rewrites it
_HEADER: Final = struct.Struct(">8sI16s")
_CRC: Final = struct.Struct(">I")
_MAGIC: Final = b"cdpkeys1"
_ZEROS: Final = bytes(SLOT_BYTES)
_ERASED_AT_ONCE_BYTES: Final = 2**20
_READ_AT_ONCE_BYTES: Final = 2**20
_RESTORE: Final = "restore the key file from its last copy"


class KeyFile(Protocol):
    """Slots by number. Everything that writes is durable when it returns, and may block."""

    @property
    def count(self) -> int:
        """The number that the next slot gets."""
        ...

    @property
    def epoch(self) -> int:
        """How many master keys the file has had; 0 where there is no file yet."""
        ...

    @property
    def master_id(self) -> bytes:
        """Which master key wraps the slots; empty where there is no file yet."""
        ...

    def reserve(self, count: int) -> int:
        """Sets numbers apart for new slots; returns the first. Writes nothing."""
        ...

    def write(self, first: int, slots: bytes) -> None:
        """Writes new slots under numbers that were reserved. Another thread may do so too."""
        ...

    def extend(self, slots: bytes) -> None:
        """Adds slots at the end."""
        ...

    def read(self, slots: Sequence[int]) -> list[bytes]:
        """The slots with these numbers; zeros where the key is destroyed."""
        ...

    def destroy(self, slots: Sequence[int]) -> None:
        """Overwrites slots with zeros where they lie, and sees that they are."""
        ...

    def replace(self, master_id: bytes, epoch: int, slots: Iterable[bytes]) -> None:
        """A new file with these slots takes the place of the old, which is overwritten."""
        ...

    def close(self) -> None: ...


def open_keys(data_dir: Path) -> FileKeys:
    """The key file of a data directory; it may not be there yet.

    Raises:
        StoreDamaged: it is not a key file, or was changed.
        StorageError: it cannot be used.
    """
    return FileKeys(data_dir / KEYS / SLOTS)


class KeyFileState(NamedTuple):
    """A key file as somebody finds it who only looks."""

    epoch: int
    master_id: bytes
    slots: int
    destroyed: int


def look_at_keys(data_dir: Path) -> KeyFileState | None:
    """What is in a key file, None where there is none. Changes nothing, so a daemon may have it.

    Raises:
        StoreDamaged: it is not a key file, or was changed.
        StorageError: it cannot be read.
    """
    path = data_dir / KEYS / SLOTS
    with _told(f"reading {path}"):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            header = _read_header(path, file.read(HEADER_BYTES))
            slots = destroyed = 0
            while part := file.read(_READ_AT_ONCE_BYTES):
                starts = range(0, len(part) - SLOT_BYTES + 1, SLOT_BYTES)
                slots += len(starts)
                destroyed += sum(part[start : start + SLOT_BYTES] == _ZEROS for start in starts)
    return KeyFileState(header.epoch, header.master_id, slots, destroyed)


class _Header(NamedTuple):
    epoch: int
    master_id: bytes


class FileKeys:
    """A key file on disk. Readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._header = _Header(0, b"")
        self._count = 0
        self._dead: str | None = None
        with _told(f"opening {path}"):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._settle()
            if path.exists():
                self._open()

    @property
    def count(self) -> int:
        return self._count

    @property
    def epoch(self) -> int:
        return self._header.epoch

    @property
    def master_id(self) -> bytes:
        return self._header.master_id

    def reserve(self, count: int) -> int:
        first = self._count
        self._count += count
        return first

    def write(self, first: int, slots: bytes) -> None:
        assert len(slots) % SLOT_BYTES == 0, "whole slots"
        assert first + len(slots) // SLOT_BYTES <= self._count, "numbers that were reserved"
        with self._changing("writing"):
            _write_all(self._file, slots, _place(first))
            os.fdatasync(self._file)

    def extend(self, slots: bytes) -> None:
        self.write(self.reserve(len(slots) // SLOT_BYTES), slots)

    def read(self, slots: Sequence[int]) -> list[bytes]:
        with _told(f"reading {self.path}"):
            found = {}
            for first, count in _runs(slots):
                content = os.pread(self._file, count * SLOT_BYTES, _place(first))
                if len(content) < count * SLOT_BYTES:
                    raise self._too_short(first + len(content) // SLOT_BYTES)
                for index in range(count):
                    start = index * SLOT_BYTES
                    found[first + index] = content[start : start + SLOT_BYTES]
            return [found[slot] for slot in slots]

    def destroy(self, slots: Sequence[int]) -> None:
        runs = _runs(slots)
        assert all(first + count <= self._count for first, count in runs), "slots of this file"
        with self._changing("destroying keys in"):
            for first, count in runs:
                _write_all(self._file, bytes(count * SLOT_BYTES), _place(first))
            os.fdatasync(self._file)
            # What is in the page cache shows nothing: let it be read from the disk again.
            for first, count in runs:
                at, length = _place(first), count * SLOT_BYTES
                os.posix_fadvise(self._file, at, length, os.POSIX_FADV_DONTNEED)
        for slot, content in zip(slots, self.read(slots), strict=True):
            if content != _ZEROS:
                raise StorageError(
                    f"{self.path}: slot {slot} was overwritten, but still reads otherwise; "
                    "the disk does not write in place: check it"
                )

    def replace(self, master_id: bytes, epoch: int, slots: Iterable[bytes]) -> None:
        """Each step leaves one whole file under the name; `_settle` goes on after a crash."""
        new, old = self._beside(".new"), self._beside(".old")
        with _told(f"writing {new}"):
            _write_file(new, master_id, epoch, slots)
            if self._file >= 0:
                os.link(self.path, old)
                sync_directory(self.path.parent)
            new.rename(self.path)
            sync_directory(self.path.parent)
            self.close()
            self._settle()
            self._open()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _settle(self) -> None:
        """Ends what a crash left of a replacement: no copy of a key may stay behind."""
        new, old = self._beside(".new"), self._beside(".old")
        if old.exists():
            if self.path.exists() and old.samefile(self.path):
                old.unlink()  # the new file had not taken the name yet
            else:
                _erase(old)
        if new.exists():
            _erase(new)

    @contextmanager
    def _changing(self, doing: str) -> Iterator[None]:
        """A failed flush may lose what it was given, and the next one says nothing of it.

        So after one that failed for any reason but a full disk, nothing is written any more.
        """
        if self._dead is not None:
            raise StorageError(self._dead)
        try:
            with _told(f"{doing} {self.path}"):
                yield
        except StoreFull:
            raise
        except StorageError as error:
            self._dead = f"{error}; the key file takes no more writes, restart the daemon"
            raise StorageError(self._dead) from error

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self._header = _read_header(self.path, os.pread(self._file, HEADER_BYTES, 0))
            os.fchmod(self._file, 0o600)
            size_bytes = os.fstat(self._file).st_size - HEADER_BYTES
            self._count = -(-size_bytes // SLOT_BYTES)
            if size_bytes % SLOT_BYTES:  # torn by a power cut, before anybody was told of the slot
                self.write(self._count - 1, _ZEROS)
        except BaseException:
            self.close()
            raise

    def _too_short(self, slot: int) -> StoreDamaged:
        return StoreDamaged(f"{self.path}: ends before slot {slot}, which is in use; {_RESTORE}")


def no_fault() -> int:
    """No error, ever."""
    return 0


class MemoryKeys:
    """A key file in memory, for tests and simulation.

    What was written stays after a power cut, as on disk. `fault` is asked before each write and
    answers with an errno, 0 for none.
    """

    def __init__(self, fault: Callable[[], int] = no_fault) -> None:
        self._content: dict[int, bytes] = {}
        self._header = _Header(0, b"")
        self._count = 0
        self._fault = fault
        self._is_closed = False

    @property
    def count(self) -> int:
        return self._count

    @property
    def epoch(self) -> int:
        return self._header.epoch

    @property
    def master_id(self) -> bytes:
        return self._header.master_id

    @property
    def content(self) -> bytes:
        """All that is on this disk: what a search for a key's bytes looks through."""
        return b"".join(self._content.values())

    def reserve(self, count: int) -> int:
        first = self._count
        self._count += count
        return first

    def write(self, first: int, slots: bytes) -> None:
        self._ask("writing slots")
        assert first + len(slots) // SLOT_BYTES <= self._count, "numbers that were reserved"
        for start in range(0, len(slots), SLOT_BYTES):
            self._content[first + start // SLOT_BYTES] = slots[start : start + SLOT_BYTES]

    def extend(self, slots: bytes) -> None:
        self.write(self.reserve(len(slots) // SLOT_BYTES), slots)

    def read(self, slots: Sequence[int]) -> list[bytes]:
        assert not self._is_closed, "a dead process reads nothing"
        if slots and max(slots) >= self._count:
            raise StoreDamaged(
                f"the key file ends before slot {max(slots)}, which is in use; {_RESTORE}"
            )
        return [self._content.get(slot, _ZEROS) for slot in slots]

    def destroy(self, slots: Sequence[int]) -> None:
        self._ask("destroying keys")
        for slot in slots:
            self._content[slot] = _ZEROS

    def replace(self, master_id: bytes, epoch: int, slots: Iterable[bytes]) -> None:
        self._ask("writing a key file")
        content = b"".join(slots)
        self._header = _Header(epoch, master_id)
        self._content.clear()
        self._count = 0
        self.extend(content)

    def close(self) -> None:
        self._is_closed = True

    def survivor(self) -> MemoryKeys:
        """The file as the next process finds it. This object is of no use any more."""
        next_keys = MemoryKeys(self._fault)
        next_keys._content, next_keys._header = self._content, self._header
        next_keys._count = max(self._content, default=-1) + 1  # the file's size tells, not we
        self._content = {}
        self._is_closed = True
        return next_keys

    def _ask(self, doing: str) -> None:
        assert not self._is_closed, "a dead process writes nothing"
        number = self._fault()
        if number:
            raise _translated(doing, OSError(number, os.strerror(number)))


def _place(slot: int) -> int:
    return HEADER_BYTES + slot * SLOT_BYTES


def _runs(slots: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours together, as (first, count): new people have neighbouring slots."""
    runs: list[tuple[int, int]] = []
    for slot in sorted(set(slots)):
        if runs and sum(runs[-1]) == slot:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((slot, 1))
    return runs


def _read_header(path: Path, content: bytes) -> _Header:
    covered = content[: _HEADER.size]
    crc = content[_HEADER.size : _HEADER.size + _CRC.size]
    if len(content) < HEADER_BYTES or crc != _CRC.pack(zlib.crc32(covered)):
        raise StoreDamaged(f"{path}: its header is cut short or changed; {_RESTORE}")
    magic, epoch, master_id = _HEADER.unpack(covered)
    if magic != _MAGIC:
        raise StoreDamaged(f"{path}: is not a key file of this version; {_RESTORE}")
    return _Header(epoch, master_id)


def _write_file(path: Path, master_id: bytes, epoch: int, slots: Iterable[bytes]) -> None:
    assert len(master_id) == MASTER_ID_BYTES, "an id of the right length"
    covered = _HEADER.pack(_MAGIC, epoch, master_id)
    header = covered + _CRC.pack(zlib.crc32(covered))
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        place = _write_all(file, header.ljust(HEADER_BYTES, b"\0"), 0)
        for part in slots:
            place = _write_all(file, part, place)
        os.fsync(file)
    finally:
        os.close(file)


def _write_all(file: int, content: bytes, place: int) -> int:
    """Writes all of it from a place on; returns where it ends."""
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, place)
        view, place = view[written:], place + written
    return place


def _erase(path: Path) -> None:
    """Overwrites a file with zeros where it lies before its name goes."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size_bytes, place = os.fstat(file).st_size, 0
        while place < size_bytes:
            zeros = bytes(min(_ERASED_AT_ONCE_BYTES, size_bytes - place))
            place = _write_all(file, zeros, place)
        os.fdatasync(file)
    finally:
        os.close(file)
    with suppress(FileNotFoundError):
        path.unlink()
    sync_directory(path.parent)


@contextmanager
def _told(doing: str) -> Iterator[None]:
    """Turns what the system says into what our callers know."""
    try:
        yield
    except OSError as error:
        raise _translated(doing, error) from error


def _translated(doing: str, error: OSError) -> StorageError:
    if error.errno == errno.ENOSPC:
        return StoreFull(f"{doing}: {error.strerror}; make room, writing resumes by itself")
    return StorageError(f"{doing}: {error.strerror or error}; check the disk, then start again")
