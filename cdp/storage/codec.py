"""What stands between the records of a log and the disk.

A block's records pass through a codec together, on their way in and out, so that bodies can be
sealed per subject without the folds or the store knowing. A log without one stores records as they
are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.storage.store import Batch
    from cdp.storage.vault import Vault


class Codec(Protocol):
    """Seals records on their way into a log and opens them on the way out, a block at a time."""

    def seal(
        self,
        batch: Batch,
        first_offset: int,
        records: Sequence[bytes],
        subjects: Sequence[bytes],
    ) -> list[bytes]:
        """The records as they are stored from an offset on, each for its subject."""
        ...

    def open(self, first_offset: int, sealed: Sequence[bytes]) -> list[bytes]:
        """The records that were stored from an offset on; b"" for one that is erased."""
        ...


class SealedCodec:
    """Seals every record for its subject, and for the log and the offset where it lies."""

    def __init__(self, vault: Vault, family: str) -> None:
        self._vault = vault
        self._family = family.encode() + b"\0"

    def seal(
        self,
        batch: Batch,
        first_offset: int,
        records: Sequence[bytes],
        subjects: Sequence[bytes],
    ) -> list[bytes]:
        if len(subjects) != len(records):
            raise ValueError(
                f"{len(records)} records and {len(subjects)} subjects; name whom each is about"
            )
        slots = self._vault.slots(batch, subjects)
        return self._vault.seal_run(slots, records, self._family, first_offset)

    def open(self, first_offset: int, sealed: Sequence[bytes]) -> list[bytes]:
        return self._vault.open_run(sealed, self._family, first_offset)
