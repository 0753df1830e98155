"""The erasure ledger: a file apart from the store that says whom a restored store must forget.

One JSON line an erasure, with the hash of the line before, on disk before the first key is
destroyed. It holds keyed hashes and numbers, nothing that names a person. Keep a copy of it
elsewhere: a store that was restored from a backup knows nothing of what was erased since.
"""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from cdp.errors import StorageError, StoreDamaged, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cdp.clock import Clock
    from cdp.environment import RunInThread
    from cdp.storage.store import Batch, Store

APPLIED_KEY: Final = b"erasures:applied"
NO_LINE: Final = "0" * 64  # what the first line names as the one before


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One erasure. `suppress`: whether the person is kept from coming back."""

    seq: int
    at_us: int
    request: str
    nodes: tuple[str, ...]
    slots: tuple[int, ...]
    suppress: bool
    erase: bool  # False: only suppressed
    previous: str

    def node_keys(self) -> list[bytes]:
        """The nodes, as the store knows them."""
        return [bytes.fromhex(node) for node in self.nodes]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Tombstone).decode


class TombstoneFile(Protocol):
    """Where the lines are. Blocking; `append` is durable when it returns."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes: ...

    def append(self, line: bytes) -> None: ...

    def cut(self, length: int) -> None:
        """Takes away what was not written to its end."""
        ...


class FileTombstones:
    """The lines in a file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def name(self) -> str:
        """The path, for messages."""
        return str(self._path)

    def read(self) -> bytes:
        """All of it; nothing where there is no file yet."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

    def append(self, line: bytes) -> None:
        """Adds a line; on disk at return. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(self._path, flags, 0o600)
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(file, view) :]
            os.fsync(file)
        finally:
            os.close(file)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def cut(self, length: int) -> None:
        """Shortens the file; on disk at return. Raises OSError."""
        with self._path.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())


class MemoryTombstones:
    """Lines in memory, for simulated worlds."""

    name = "memory"

    def __init__(self, content: bytes = b"") -> None:
        self.content = content

    def read(self) -> bytes:
        """All lines."""
        return self.content

    def append(self, line: bytes) -> None:
        """Adds a line."""
        self.content += line

    def cut(self, length: int) -> None:
        """Shortens the content."""
        self.content = self.content[:length]


class Tombstones:
    """Reads the ledger once, and adds to it. One at a time: the erasures' actor sees to that.

    Raises:
        StoreDamaged: a line is not what was written.
        StorageError: the file cannot be read.
    """

    def __init__(self, file: TombstoneFile, clock: Clock, run_in_thread: RunInThread) -> None:
        self._file = file
        self._clock = clock
        self._run_in_thread = run_in_thread
        self._lines: list[Tombstone] = []
        self._length = 0  # of what is known to be whole
        self._previous = NO_LINE
        try:
            content = file.read()
        except OSError as error:
            raise StorageError(f"{file.name} cannot be read: {error}") from error
        for line in _whole_lines(content):
            self._take(line)
        self._is_torn = self._length < len(content)

    @property
    def last_seq(self) -> int:
        """The number of the last line; 0 where there is none."""
        return self._lines[-1].seq if self._lines else 0

    @property
    def lines(self) -> Sequence[Tombstone]:
        """Every erasure, in order; the first has number 1."""
        return self._lines

    async def append(
        self,
        request: str,
        nodes: Sequence[bytes],
        slots: Sequence[int],
        *,
        suppress: bool,
        erase: bool = True,
    ) -> int:
        """Writes an erasure down, durably, unless it stands there already; its number."""
        for one in reversed(self._lines):
            known = set(one.nodes).issuperset(node.hex() for node in nodes)
            if one.request == request and known and set(one.slots).issuperset(slots):
                return one.seq
        tombstone = Tombstone(
            seq=self.last_seq + 1,
            at_us=self._clock.now_us(),
            request=request,
            nodes=tuple(sorted(node.hex() for node in nodes)),
            slots=tuple(sorted(slots)),
            suppress=suppress,
            erase=erase,
            previous=self._previous,
        )
        line = _encode(tombstone) + b"\n"
        try:
            if self._is_torn:
                await self._run_in_thread(self._file.cut, self._length)
            self._is_torn = True  # until it is known to be whole
            await self._run_in_thread(self._file.append, line)
        except OSError as error:
            failure = StoreFull if error.errno == errno.ENOSPC else StorageError
            raise failure(f"{self._file.name} cannot be written: {error}") from error
        self._is_torn = False
        self._take(line)
        return tombstone.seq

    def pending(self, applied_seq: int) -> list[Tombstone]:
        """The erasures that a store does not know which has applied those up to a number.

        Raises:
            StoreDamaged: the store has applied more than stands here.
        """
        if applied_seq > self.last_seq:
            raise StoreDamaged(
                f"{self._file.name} ends at erasure {self.last_seq}, but the store has applied "
                f"{applied_seq}; restore the file from its newest copy"
            )
        return self._lines[applied_seq:]

    def has(self, request: str) -> bool:
        """Whether an erasure got as far as destroying keys."""
        return any(line.request == request for line in self._lines)

    def _take(self, line: bytes) -> None:
        number = len(self._lines) + 1
        try:
            tombstone = _decode(line)
            tombstone.node_keys()
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._damaged(number) from error
        if tombstone.seq != number or tombstone.previous != self._previous:
            raise self._damaged(number)
        self._lines.append(tombstone)
        self._length += len(line)
        self._previous = sha256(line).hexdigest()

    def _damaged(self, number: int) -> StoreDamaged:
        return StoreDamaged(
            f"{self._file.name}: line {number} is not what was written; "
            "restore the file from its newest copy"
        )


def applied_seq(store: Store) -> int:
    """Up to which erasure of the ledger the store knows of."""
    return int.from_bytes(store.get("meta", APPLIED_KEY) or b"", "big")


def note_applied(store: Store, batch: Batch, seq: int) -> None:
    """Notes in a batch that the store knows of erasures up to a number."""
    batch.put("meta", APPLIED_KEY, max(seq, applied_seq(store)).to_bytes(8, "big"))


def _whole_lines(content: bytes) -> Iterator[bytes]:
    """Lines with their ends. What follows the last end was cut off while it was written."""
    for line in content.split(b"\n")[:-1]:
        yield line + b"\n"
