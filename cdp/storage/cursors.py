"""Readers' saved places in the logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp.storage.store import Batch, Store

_PREFIX: Final = b"cursor:"


class Cursors:
    """Readers' saved places. A cursor moves only in the batch of its effects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, reader: str) -> int:
        value = self._store.get("meta", _PREFIX + reader.encode())
        return int.from_bytes(value, "big") if value else 0

    def set(self, batch: Batch, reader: str, offset: int) -> None:
        batch.put("meta", _PREFIX + reader.encode(), offset.to_bytes(8, "big"))

    def forget(self, batch: Batch, reader: str) -> None:
        """For a reader that is gone for good, so that it does not hold retention back."""
        batch.delete("meta", _PREFIX + reader.encode())

    def all(self) -> dict[str, int]:
        """Every reader that ever saved a place."""
        rows = self._store.scan("meta", _PREFIX, b"cursor;")
        return {key[len(_PREFIX) :].decode(): int.from_bytes(value, "big") for key, value in rows}
