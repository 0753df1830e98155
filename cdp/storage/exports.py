"""The files that hold what is known of a person, until they are fetched, expire or are erased.

A file's name says whose it is, for which request, and since when; the rest of it is chance. Beside
the documents, and on disk before them, lies a list of the nodes that they are about: who was one
person then may be two today. So the directory is its own index: there is no file with a person's
data that an erasure could not find, whatever crashed while it was being written. Profile ids and
nodes are keyed hashes, so they say nothing to whom has not the key. Files are for their owner only.
Every call that touches the disk goes through `run_in_thread`, but listings, which are short.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cdp.clock import DAY_US, HOUR_US
from cdp.domain.identifier import NODE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from cdp.environment import RunInThread

EXPORT_KEPT_US: Final = 30 * DAY_US
PART_KEPT_US: Final = HOUR_US  # of a file whose writer is gone
WIPED_BYTES: Final = 1 << 20  # overwritten at a time
NODES: Final = "nodes"  # the form of the list of nodes

_NAME: Final = re.compile(
    r"(?P<profile>[0-9a-f]{32})\.(?P<request>[0-9a-f]{32})\.(?P<made>[0-9a-f]{16})"
    r"\.[0-9a-f]{32}\.(?P<form>json|html|nodes)(?P<part>\.part)?"
)


class ExportFile(NamedTuple):
    """One file: whose, for which request, in which form, since when, and whether it is whole."""

    path: Path
    profile_id: bytes
    request_id: str
    form: str
    made_us: int
    whole: bool

    @property
    def stem(self) -> str:
        """What the files that were made together have in common."""
        return ".".join(self.path.name.split(".")[:4])


class ExportWriter:
    """A file that is being written. It has its name only once it is whole and on disk."""

    def __init__(self, path: Path, run_in_thread: RunInThread) -> None:
        self.path = path
        self._run_in_thread = run_in_thread
        self._part = path.with_name(f"{path.name}.part")
        self._file: int | None = None

    async def open(self) -> None:
        """Makes the file. Raises OSError."""
        self._file = await self._run_in_thread(_create, self._part)

    async def write(self, data: bytes) -> None:
        """Appends. Raises OSError."""
        assert self._file is not None, "open() comes first"
        if data:
            await self._run_in_thread(_write_all, self._file, data)

    async def finish(self) -> None:
        """Gives the file its name; durable at return. Raises OSError."""
        assert self._file is not None, "open() comes first"
        file, self._file = self._file, None
        await self._run_in_thread(_finish, file, self._part, self.path)

    def discard(self) -> None:
        """Removes the file, finished or not."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        _wipe(self._part)
        _wipe(self.path)


class ExportFiles:
    """The directory of exports."""

    def __init__(self, directory: Path, run_in_thread: RunInThread) -> None:
        self._directory = directory
        self._run_in_thread = run_in_thread

    def writer(
        self, profile_id: bytes, request_id: str, form: str, *, made_us: int, chance: str
    ) -> ExportWriter:
        """A writer of a new file. `chance` is `Environment.new_id()`."""
        name = f"{profile_id.hex()}.{request_id}.{made_us:016x}.{chance}.{form}"
        assert _NAME.fullmatch(name), "ids are 32 hexadecimal digits, the form is json or html"
        return ExportWriter(self._directory / name, self._run_in_thread)

    def all(self) -> list[ExportFile]:
        """Every export there is, in no order that means anything."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        return [found for name in names if (found := self._read_name(name)) is not None]

    async def of_people(self, nodes: Collection[bytes]) -> list[ExportFile]:
        """The files in which one of these nodes is, or ever was, part of the person; half ones too.

        A profile that a node founded counts, too.
        """
        return await self._run_in_thread(self._of_people, frozenset(nodes))

    def _of_people(self, nodes: frozenset[bytes]) -> list[ExportFile]:
        files = self.all()
        about = {
            one.stem
            for one in files
            if one.profile_id in nodes
            or (one.form == NODES and not nodes.isdisjoint(_nodes_in(one.path)))
        }
        return [one for one in files if one.stem in about]

    def of_request(self, request_id: str, form: str) -> ExportFile | None:
        """The whole file that was made for a request, the newest where there are several."""
        found = [one for one in self.all() if one.request_id == request_id and one.form == form]
        return max((one for one in found if one.whole), key=lambda one: one.made_us, default=None)

    async def delete(self, files: Sequence[ExportFile]) -> int:
        """Overwrites and removes files; those that are gone already count as deleted."""
        for one in files:
            await self._run_in_thread(_wipe, one.path)
        return len(files)

    async def delete_of_people(self, nodes: Collection[bytes]) -> int:
        """What an erasure asks for."""
        return await self.delete(await self.of_people(nodes))

    async def expire(self, now_us: int) -> int:
        """Removes what is older than `EXPORT_KEPT_US`, and what nobody is writing any more."""
        return await self.delete([one for one in self.all() if _is_old(one, now_us)])

    async def read(self, file: ExportFile, offset: int, length: int) -> bytes:
        """A part of a file; empty at its end and where it is gone."""
        return await self._run_in_thread(_read, file.path, offset, length)

    def _read_name(self, name: str) -> ExportFile | None:
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        return ExportFile(
            self._directory / name,
            bytes.fromhex(match["profile"]),
            match["request"],
            match["form"],
            int(match["made"], 16),
            match["part"] is None,
        )


def _is_old(file: ExportFile, now_us: int) -> bool:
    return now_us - file.made_us > (EXPORT_KEPT_US if file.whole else PART_KEPT_US)


def _create(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _finish(file: int, part: Path, path: Path) -> None:
    try:
        os.fsync(file)
    finally:
        os.close(file)
    part.rename(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _wipe(path: Path) -> None:
    """Overwrites in place, then removes. What a copy-on-write disk keeps is out of our hands."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        left = os.fstat(file).st_size
        while left > 0:
            left -= os.write(file, bytes(min(left, WIPED_BYTES)))
        os.fsync(file)
    finally:
        os.close(file)
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _nodes_in(path: Path) -> list[bytes]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    return [data[start : start + NODE_BYTES] for start in range(0, len(data), NODE_BYTES)]


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(file, length, offset)
    finally:
        os.close(file)
