"""Writes deliveries to files that appear whole, once each, and survive a crash.

What is about a person who must be forgotten is taken out of them again, file by file.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path  # noqa: TC003 - the settings are read by their types
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec
import trio

from cdp.clock import SECOND_US
from cdp.delivery import (
    Delivered,
    Delivery,
    Destination,
    Erased,
    Erasure,
    ErasureOutcome,
    ErasureRetry,
    Outcome,
    Retry,
    Settings,
)
from cdp_destination_file.archive import Archive, Rewritten
from cdp_destination_file.person import Person

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["File", "FileSettings"]

ERASE_US_MAX: Final = 5 * SECOND_US  # of one call: deliveries share the disk, and calls have limits


class FileSettings(Settings, frozen=True):
    """What an operator writes under `settings`."""

    directory: Path
    format: Literal["jsonl", "parquet"] = "jsonl"
    rotate_bytes: int = 64 * 2**20
    rotate_age_s: float = 300.0
    remember_days: float = 90.0


class File(Destination[FileSettings]):
    """Appends to one file at a time; a delivery is done when its line is on disk."""

    settings_type = FileSettings
    batch_max = 1_000
    batch_atomic = True
    receives: ClassVar[frozenset[str]] = frozenset({"event", "merged", "split", "renamed"})
    tick_s = 1.0
    erases = True

    _archive: Archive | None = None

    async def start(self) -> None:
        """Opens the directory and takes up the file that was not finished."""
        self._one_call = trio.Lock()  # of the archive: an erasure runs beside deliveries
        self._erased: dict[str, dict[str, Rewritten | None]] = {}
        self._archive = await self.host.run_in_thread(self._open)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Writes what is not written yet, all or nothing."""
        lines = [(bytes.fromhex(delivery.delivery_id), line_of(delivery)) for delivery in batch]
        now_us = self.host.clock.now_us()
        try:
            async with self._one_call:
                await self.host.run_in_thread(self._opened.append, lines, now_us)
        except OSError as error:
            return [Retry(f"disk:{error.errno}")] * len(batch)
        return [Delivered()] * len(batch)

    async def tick(self) -> None:
        """Finishes the file where it is old enough."""
        async with self._one_call:
            await self.host.run_in_thread(self._opened.rotate_if_due, self.host.clock.now_us())

    async def erase(self, erasure: Erasure) -> ErasureOutcome:
        """Takes the person's lines out of every file, a few seconds' worth of files a call.

        What was looked through is remembered while the destination runs, so that a directory of
        any size comes to its end.
        """
        person, started_us = Person(erasure), self.host.clock.now_us()
        done = self._erased.setdefault(erasure.erasure_id, {})
        try:
            while names := await self._new_files(done):
                for name in names:
                    if self.host.clock.now_us() - started_us >= ERASE_US_MAX:
                        return ErasureRetry("in_progress", after_s=1.0)
                    async with self._one_call:
                        erase_from = self._opened.erase_from
                        done[name] = await self.host.run_in_thread(erase_from, name, person)
        except OSError as error:
            return ErasureRetry(f"disk:{error.errno}")
        del self._erased[erasure.erasure_id]
        return Erased(evidence_of(done))

    async def _new_files(self, done: dict[str, Rewritten | None]) -> list[str]:
        """Files that were not looked through yet; they may have become more meanwhile."""
        async with self._one_call:
            names = await self.host.run_in_thread(self._opened.files)
        return [name for name in names if name not in done]

    async def check(self) -> None:
        """Whether the directory can be opened and written."""
        archive = await self.host.run_in_thread(self._open)
        await self.host.run_in_thread(archive.close)

    async def close(self) -> None:
        """Leaves the unfinished file to the next start."""
        if self._archive is not None:
            archive, self._archive = self._archive, None
            await self.host.run_in_thread(archive.close)

    @property
    def _opened(self) -> Archive:
        assert self._archive is not None, "deliver comes after start"
        return self._archive

    def _open(self) -> Archive:
        return Archive(
            self.settings.directory,
            parquet=self.settings.format == "parquet",
            rotate_bytes=self.settings.rotate_bytes,
            rotate_age_us=int(self.settings.rotate_age_s * 1_000_000),
            remember_us=int(self.settings.remember_days * 86_400_000_000),
            now_us=self.host.clock.now_us(),
        )


def evidence_of(done: dict[str, Rewritten | None]) -> str:
    """How much was removed from how many files, and a hash over what the files are now."""
    rewritten = {name: one for name, one in done.items() if one is not None}
    digest = sha256()
    for name, one in sorted(rewritten.items()):
        digest.update(f"{name} {one.sha256}\n".encode())
    removed = sum(one.removed for one in rewritten.values())
    return (
        f"{removed} lines removed from {len(rewritten)} of {len(done)} files, "
        f"sha256 of their hashes {digest.hexdigest()}"
    )


def line_of(delivery: Delivery) -> bytes:
    """One delivery as a line of JSON, with its end."""
    item: dict[str, Any] = {
        "deliveryId": delivery.delivery_id,
        "kind": delivery.kind,
        "profileId": delivery.profile_id,
    }
    if delivery.other_profile_id is not None:
        item["otherProfileId"] = delivery.other_profile_id
    if delivery.event is not None:
        item["event"] = delivery.event
    return _encode(item) + b"\n"


_encode = msgspec.json.Encoder().encode
