"""Writes deliveries to files that appear whole, once each, and survive a crash."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - the settings are read by their types
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from cdp.delivery import Delivered, Delivery, Destination, Outcome, Retry, Settings
from cdp_destination_file.archive import Archive

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["File", "FileSettings"]


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

    _archive: Archive | None = None

    async def start(self) -> None:
        """Opens the directory and takes up the file that was not finished."""
        self._archive = await self.host.run_in_thread(self._open)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Writes what is not written yet, all or nothing."""
        lines = [(bytes.fromhex(delivery.delivery_id), line_of(delivery)) for delivery in batch]
        now_us = self.host.clock.now_us()
        try:
            await self.host.run_in_thread(self._opened.append, lines, now_us)
        except OSError as error:
            return [Retry(f"disk:{error.errno}")] * len(batch)
        return [Delivered()] * len(batch)

    async def tick(self) -> None:
        """Finishes the file where it is old enough."""
        await self.host.run_in_thread(self._opened.rotate_if_due, self.host.clock.now_us())

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
