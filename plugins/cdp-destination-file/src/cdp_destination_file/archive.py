"""A directory of finished files, the one that is being written, and the ids that are in them.

The order of steps makes every crash harmless:

* append: lines to the part file, fsync, then their ids to the index. After a crash in between, the
  part file is read on opening and its ids are put into the index.
* erase: each file that holds lines of the person is written anew beside itself, synced, and takes
  its place by one rename. Doing it again finds nothing.
* rotate: the index to disk, then the finished file under a name of its own by one rename. A part
  file whose number has a finished file already was converted, and is removed on opening.

So the index can lack only ids of the part file, and the part file can lack only what was never
reported as written. Everything here blocks; the destination calls it in a thread.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import file_digest
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cdp_destination_file.person import Person

_FINISHED: Final = re.compile(r"events-\d{8}T\d{6}Z-(\d{8})\.(?:jsonl|parquet)")
_PART: Final = re.compile(r"\.part-(\d{8})\.jsonl")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ASK_MAX: Final = 500  # ids in one question to the index

Line = tuple[bytes, bytes]  # delivery id, line with its end


class _Identified(msgspec.Struct):
    deliveryId: str


class Rewritten(NamedTuple):
    """What erasing did to one file: lines removed, and the hash of what is left."""

    removed: int
    sha256: str


class Archive:
    """An open directory. Only one process may have it open: the index is locked."""

    def __init__(
        self,
        directory: Path,
        *,
        parquet: bool,
        rotate_bytes: int,
        rotate_age_us: int,
        remember_us: int,
        now_us: int,
    ) -> None:
        self._directory = directory
        self._parquet = parquet
        self._rotate_bytes = rotate_bytes
        self._rotate_age_us = rotate_age_us
        self._remember_us = remember_us
        self._file = -1
        self._size = 0  # bytes of the part file that are whole lines
        self._began_us = now_us
        if parquet:
            from cdp_destination_file import columns  # noqa: F401 - fails now where it is missing
        directory.mkdir(parents=True, exist_ok=True)
        self._index = _open_index(directory / ".delivered.sqlite")
        try:
            self._recover(now_us)
        except BaseException:
            self._index.close()
            raise

    def append(self, lines: Sequence[Line], now_us: int) -> int:
        """Writes the lines whose ids are new; returns how many. On an error none is written."""
        new = self._new(lines)
        if new:
            if self._size == 0:
                self._began_us = now_us
            before = self._size
            self._write(b"".join(new.values()))
            try:
                self._remember(new, now_us)
            except sqlite3.Error as error:
                # Lines that the index does not know would be written twice.
                os.ftruncate(self._file, before)
                self._size = before
                raise OSError(errno.EIO, f"the index cannot be written: {error}") from error
        self.rotate_if_due(now_us)
        return len(new)

    def rotate_if_due(self, now_us: int) -> None:
        """Finishes the part file where it is large or old enough."""
        old = self._size > 0 and now_us - self._began_us >= self._rotate_age_us
        if old or self._size >= self._rotate_bytes:
            self._rotate(now_us)

    def close(self) -> None:
        """Closes the files. What is not finished stays for the next opening."""
        os.close(self._file)
        self._index.close()

    # -- erasing --------------------------------------------------------------------------------

    def files(self) -> list[str]:
        """The names of every file with lines, the unfinished one last."""
        names = sorted(name for name in os.listdir(self._directory) if _FINISHED.fullmatch(name))
        return [*names, self._part(self._number).name]

    def erase_from(self, name: str, person: Person) -> Rewritten | None:
        """Removes the person's lines from one file; None where it has none, or is gone.

        The unfinished file may have been finished since its name was asked for: its lines are then
        in a file of another name, so ask for the names again until none is new.
        """
        path = self._directory / name
        if not path.exists():
            return None
        temporary = path.with_name(f".{path.name.lstrip('.')}.tmp")
        if path.suffix == ".parquet":
            from cdp_destination_file.columns import rewrite_parquet

            removed = rewrite_parquet(path, temporary, person)
        else:
            removed = _rewrite_lines(path, temporary, person)
        if not removed:
            return None
        _sync_file(temporary)
        if path == self._part(self._number):
            self._replace_part(temporary)
        else:
            temporary.rename(path)
        _sync_directory(self._directory)
        return Rewritten(removed, _hash_of(path))

    def _replace_part(self, temporary: Path) -> None:
        """Puts a file in the part file's place and goes on in it; its age stays what it was."""
        file = os.open(temporary, os.O_RDWR | os.O_APPEND)
        try:
            temporary.rename(self._part(self._number))
        except BaseException:
            os.close(file)  # what is written next must be in the file that has the name
            raise
        before, self._file = self._file, file
        self._size = os.fstat(file).st_size
        os.close(before)

    # -- the part file --------------------------------------------------------------------------

    def _recover(self, now_us: int) -> None:
        names = os.listdir(self._directory)
        finished = [int(found[1]) for name in names if (found := _FINISHED.fullmatch(name))]
        parts = [int(found[1]) for name in names if (found := _PART.fullmatch(name))]
        for name in names:
            if name.endswith(".tmp"):
                (self._directory / name).unlink()
        for number in set(parts) & set(finished):
            self._part(number).unlink()
        left = sorted(set(parts) - set(finished))
        self._number = left[-1] if left else max(finished, default=0) + 1
        self._open_part(now_us)

    def _open_part(self, now_us: int) -> None:
        path = self._part(self._number)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
        _sync_directory(self._directory)
        content = path.read_bytes()
        self._size = content.rfind(b"\n") + 1
        if self._size < len(content):
            os.ftruncate(self._file, self._size)  # half a line was never reported as written
            os.fsync(self._file)
        self._began_us = now_us
        if self._size:
            self._began_us = min(now_us, os.stat(path).st_mtime_ns // 1_000)
            written = content[: self._size].splitlines()
            ids = [bytes.fromhex(_read_id(line).deliveryId) for line in written]
            self._remember(ids, now_us)

    def _write(self, content: bytes) -> None:
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self._file, view) :]
            os.fsync(self._file)
        except OSError:
            # As if it had not been tried. If this fails too, the next opening cuts the rest off.
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(content)

    def _rotate(self, now_us: int) -> None:
        # The index first: from here on nobody reads the part file for its ids.
        self._index.execute("pragma wal_checkpoint(truncate)").fetchall()
        stamp = (_EPOCH + timedelta(microseconds=now_us)).strftime("%Y%m%dT%H%M%SZ")
        suffix = "parquet" if self._parquet else "jsonl"
        target = self._directory / f"events-{stamp}-{self._number:08d}.{suffix}"
        part = self._part(self._number)
        if self._parquet:
            from cdp_destination_file.columns import write_parquet

            temporary = target.with_name(f".{target.name}.tmp")
            write_parquet(part.read_bytes().splitlines(), temporary)
            _sync_file(temporary)
            temporary.rename(target)
            _sync_directory(self._directory)
            part.unlink()
        else:
            part.rename(target)
        os.close(self._file)
        self._number += 1
        self._open_part(now_us)
        self._forget(now_us - self._remember_us)

    def _part(self, number: int) -> Path:
        return self._directory / f".part-{number:08d}.jsonl"

    # -- the index ------------------------------------------------------------------------------

    def _new(self, lines: Sequence[Line]) -> dict[bytes, bytes]:
        wanted = dict(lines)
        ids = list(wanted)
        for start in range(0, len(ids), _ASK_MAX):
            asked = ids[start : start + _ASK_MAX]
            marks = ",".join("?" * len(asked))
            known = self._index.execute(f"select id from delivered where id in ({marks})", asked)
            for (id_,) in known.fetchall():
                del wanted[id_]
        return wanted

    def _remember(self, ids: Iterable[bytes], now_us: int) -> None:
        rows = [(id_, now_us) for id_ in ids]
        with self._index:
            self._index.executemany("insert or ignore into delivered values (?, ?)", rows)

    def _forget(self, before_us: int) -> None:
        with self._index:
            self._index.execute("delete from delivered where at_us < ?", (before_us,))


def _open_index(path: Path) -> sqlite3.Connection:
    """The index, locked for this process. A power cut may take its last commits; see above."""
    index = sqlite3.connect(path, check_same_thread=False, timeout=1.0)
    try:
        index.execute("pragma locking_mode = exclusive")
        index.execute("pragma journal_mode = wal")
        index.execute("pragma synchronous = normal")
        index.execute(
            "create table if not exists delivered (id blob primary key, at_us integer not null)"
            " without rowid"
        )
        index.execute("create index if not exists delivered_at on delivered (at_us)")
        index.execute("begin immediate")
        index.commit()
    except sqlite3.OperationalError as error:
        index.close()
        raise OSError(f"{path} cannot be opened, perhaps another daemon has it: {error}") from error
    return index


def _rewrite_lines(path: Path, target: Path, person: Person) -> int:
    """Writes the lines that are not about the person; how many are. No file where none is."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not person.is_in_line(line)]
    if len(kept) < len(lines):
        target.write_bytes(b"".join(kept))
    return len(lines) - len(kept)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sync_directory(path: Path) -> None:
    _sync_file(path)


_read_id = msgspec.json.Decoder(_Identified).decode
