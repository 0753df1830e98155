"""The data directory: what lies in it, which format it has, and who has it open.

    LOCK      held by the process that has the store open; its pid
    format    the version of everything in here, readable without opening anything
    acked     the acked high-water mark
    db/       RocksDB
    keys/     the key file, `slots`: what people's data is sealed with; never part of a backup
    aside/    write-ahead logs that opening took out of the way; for the operator to look at

A checkpoint is a directory of the same layout without `keys`, so it cannot be read by itself. To
restore one is to start with a copy of it, beside the key file as it is now.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

from cdp.errors import StorageError, StoreDamaged, StoreInUse
from cdp.storage.store import FORMAT_VERSION

if TYPE_CHECKING:
    from pathlib import Path

LOCK: Final = "LOCK"
FORMAT: Final = "format"
MARK: Final = "acked"
DATABASE: Final = "db"
ASIDE: Final = "aside"
KEYS: Final = "keys"
SLOTS: Final = "slots"
_FORMAT_WORDS: Final = "cdp store format"


def lock_directory(path: Path) -> int:
    """Takes the directory for this process; returns the descriptor that holds it.

    Raises:
        StoreInUse: another process has it. The kernel lets go when that process ends, however.
    """
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise StoreInUse(
            f"{path}: process {holder} has the data directory open; stop it first"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def read_format(path: Path) -> int | None:
    """The version that the directory has, or None where there is no store in it.

    Raises:
        StorageError: it was written by a newer version of the daemon.
        StoreDamaged: the version cannot be read.
    """
    file = path / FORMAT
    if not file.exists():
        return None
    text = file.read_bytes().decode("ascii", "replace")
    words, _, version = text.strip().rpartition(" ")
    if words != _FORMAT_WORDS or not version.isdigit():
        raise StoreDamaged(
            f"{file}: does not say `{_FORMAT_WORDS} <number>`; restore it from a copy"
        )
    if int(version) > FORMAT_VERSION:
        raise StorageError(
            f"{path}: the store has format {version}, this version of cdp knows up to "
            f"{FORMAT_VERSION}; run a newer cdp, or restore a checkpoint from before the upgrade"
        )
    return int(version)


def write_format(path: Path) -> None:
    """Says that the directory now has the current format."""
    write_durably(path / FORMAT, f"{_FORMAT_WORDS} {FORMAT_VERSION}\n".encode())


def write_durably(path: Path, content: bytes) -> None:
    """Writes a small file so that a power cut leaves all of it or nothing under its name."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Forces a directory's names to disk."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
