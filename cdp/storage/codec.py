"""What stands between a record and the disk.

Every record of a log passes through a codec on its way in and out, so that bodies can be sealed
per subject without the logs, the folds or the store knowing. `PlainCodec` seals nothing.
"""

from __future__ import annotations

from typing import Protocol, final


class Codec(Protocol):
    """Seals record values on their way into a log and opens them on the way out."""

    def seal(self, record: bytes) -> bytes: ...

    def open(self, sealed: bytes) -> bytes: ...


@final
class PlainCodec:
    """Stores records as they are. A log that has it skips the call per record."""

    def seal(self, record: bytes) -> bytes:
        return record

    def open(self, sealed: bytes) -> bytes:
        return sealed
