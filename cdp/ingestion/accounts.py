"""How many events of each source were accepted, duplicates, rejected, or about somebody erased.

Exact after any crash.

Kept in `meta` under `counts:source:<name>` and changed in the batch of the events that they
count. Every event that was answered is in exactly one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from cdp.storage.store import Batch, Store


class Tally(msgspec.Struct):
    """The counts. A rejected event that is repaired moves to one of the others.

    `suppressed` are those that name a person about whom nothing may be stored.
    """

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    suppressed: int = 0

    @property
    def sent(self) -> int:
        """All events of the source that were answered."""
        return self.accepted + self.duplicate + self.rejected + self.suppressed


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Tally).decode


def _key(source: str) -> bytes:
    return b"counts:source:" + source.encode()


def read_counts(store: Store, source: str) -> Tally:
    """The counts of a source; zeros where it never sent anything."""
    stored = store.get("meta", _key(source))
    return _decode(stored) if stored else Tally()


def add_counts(store: Store, batch: Batch, source: str, more: Tally) -> None:
    """Adds to the counts of a source, in the batch of what they count."""
    counts = read_counts(store, source)
    counts.accepted += more.accepted
    counts.duplicate += more.duplicate
    counts.rejected += more.rejected
    counts.suppressed += more.suppressed
    batch.put("meta", _key(source), _encode(counts))
