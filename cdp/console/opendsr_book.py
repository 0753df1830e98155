"""Which OpenDSR requests there are, and which of their callbacks are still owed.

Rows of `meta`: `opendsr:request:ID`, and as long as somebody is to be told something,
`opendsr:owed:ID` as well. There is no personal data in them: ids, times, the controller's URLs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.storage.store import Store

_REQUEST: Final = b"opendsr:request:"
_OWED: Final = b"opendsr:owed:"

PENDING: Final = "pending"

_encode = msgspec.msgpack.Encoder().encode


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One request of a controller: which of ours it became."""

    subject_request_id: str
    request_id: str
    received_us: int
    due_at: str
    callbacks: tuple[str, ...] = ()


class Owed(msgspec.Struct, array_like=True):
    """What each callback URL was last told, how often a try failed, and when the next one is.

    Mutable: who tells the controllers keeps it, for the length of one look.
    """

    told: dict[str, str] = {}
    failures: dict[str, int] = {}
    due_us: dict[str, int] = {}
    first_failure_us: dict[str, int] = {}


_decode_entry = msgspec.msgpack.Decoder(Entry).decode
_decode_owed = msgspec.msgpack.Decoder(Owed).decode


class Book:
    """The rows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, subject_request_id: str) -> Entry | None:
        """A request by the controller's id for it."""
        row = self._store.get("meta", _REQUEST + subject_request_id.encode())
        return None if row is None else _decode_entry(row)

    async def add(self, entry: Entry) -> None:
        """Writes a request down, durably, and owes its callbacks.

        The answer to the request says that it is pending, so that is what they know.
        """
        batch = self._store.batch()
        name = entry.subject_request_id.encode()
        batch.put("meta", _REQUEST + name, _encode(entry))
        if entry.callbacks:
            batch.put("meta", _OWED + name, _encode(Owed(dict.fromkeys(entry.callbacks, PENDING))))
        self._store.write(batch)
        await self._store.sync()

    def owed(self, after: str, limit: int) -> Sequence[tuple[Entry, Owed]]:
        """Requests of which somebody is to be told something, by id."""
        start = _OWED + after.encode() + (b"\x00" if after else b"")
        rows = self._store.scan("meta", start, _OWED[:-1] + b";", limit=limit)
        found = []
        for key, value in rows:
            entry = self.get(key[len(_OWED) :].decode())
            assert entry is not None, "the two rows are written together"
            found.append((entry, _decode_owed(value)))
        return found

    async def note(self, entry: Entry, owed: Owed | None) -> None:
        """Writes down how far the callbacks are, durably; None where nothing is owed any more."""
        batch = self._store.batch()
        key = _OWED + entry.subject_request_id.encode()
        if owed is None:
            batch.delete("meta", key)
        else:
            batch.put("meta", key, _encode(owed))
        self._store.write(batch)
        await self._store.sync()
