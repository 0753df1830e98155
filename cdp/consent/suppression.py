"""Of whom nothing may be stored or sent: keyed hashes of identifiers, and nothing else.

All of them are in memory, as one set that everybody who asks holds: what is added there counts in
the same turn of the event loop. An erasure that does not keep the person out holds them only while
it runs, so each row knows who holds it, and goes with its last holder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.clock import isoformat
from cdp.domain.identifier import NODE_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from cdp.storage.store import Batch, Store

FAMILY: Final = "suppressed"
FOR_GOOD: Final = b""  # the holder that lets go only when it is told to
LOADED_ROWS: Final = 10_000  # at a time

Json = dict[str, Any]


class Suppressed(msgspec.Struct, array_like=True):
    """A row: since when, why, and the ids of the requests that hold it, or `FOR_GOOD`."""

    since_us: int
    reason: str
    holders: list[bytes]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Suppressed).decode


class Suppression:
    """The one writer of the family. `nodes` is always the same set object."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.nodes: set[bytes] = set()
        self.reload()

    def any_of(self, nodes: Iterable[bytes]) -> bool:
        """Whether one of these is suppressed."""
        return not self.nodes.isdisjoint(nodes)

    def add(
        self,
        batch: Batch,
        nodes: Iterable[bytes],
        *,
        reason: str,
        now_us: int,
        holders: Collection[bytes] = (FOR_GOOD,),
    ) -> int:
        """Suppresses identifiers, at once in memory; how many were not suppressed before.

        An identifier may be in one `add` or `release` of a batch only.
        """
        count = 0
        for node in dict.fromkeys(nodes):
            assert len(node) == NODE_BYTES, "only nodes are suppressed"
            row = self.row(node) or Suppressed(now_us, reason, [])
            fresh = [holder for holder in holders if holder not in row.holders]
            if FOR_GOOD in fresh:
                row.reason = reason
            if fresh:
                row.holders += fresh
                batch.put(FAMILY, node, _encode(row))
            count += node not in self.nodes
            self.nodes.add(node)
        return count

    def lift(self, batch: Batch, nodes: Iterable[bytes]) -> int:
        """Lets identifiers be heard of again; how many are, at once.

        Those that an erasure holds which still runs are when it has ended: nothing new may come
        in while it looks for what is left.
        """
        return len(self.release(batch, nodes, FOR_GOOD))

    def release(self, batch: Batch, nodes: Iterable[bytes], *holders: bytes) -> list[bytes]:
        """Holders let go; the identifiers that nobody holds any more."""
        free = []
        for node in dict.fromkeys(nodes):
            row = self.row(node)
            if row is None or set(holders).isdisjoint(row.holders):
                continue
            row.holders = [holder for holder in row.holders if holder not in holders]
            if row.holders:
                batch.put(FAMILY, node, _encode(row))
                continue
            batch.delete(FAMILY, node)
            self.nodes.discard(node)
            free.append(node)
        return free

    def row(self, node: bytes) -> Suppressed | None:
        """What is stored about one identifier."""
        stored = self._store.get(FAMILY, node)
        return None if stored is None else _decode(stored)

    def reload(self) -> None:
        """After a batch that was not written: memory is as the store again."""
        stored: set[bytes] = set()
        start = b""
        while rows := self._store.scan(FAMILY, start, limit=LOADED_ROWS):
            stored.update(key for key, _ in rows)
            start = rows[-1][0] + b"\x00"
        self.nodes.intersection_update(stored)
        self.nodes.update(stored)

    def listing(self, after: str | None, limit: int) -> tuple[list[Json], str | None]:
        """Rows in the order of their hashes, and what to pass as `after` for the next ones."""
        start = bytes.fromhex(after) + b"\x00" if after else b""
        rows = self._store.scan(FAMILY, start, limit=limit + 1)
        items = [_form(node, _decode(value)) for node, value in rows[:limit]]
        return items, items[-1]["node"] if len(rows) > limit else None


def _form(node: bytes, row: Suppressed) -> Json:
    return {
        "node": node.hex(),
        "since": isoformat(row.since_us),
        "reason": row.reason,
        "for_good": FOR_GOOD in row.holders,
    }
