"""What is left of consent records when people are forgotten, and rows made anew from records.

A forgotten record keeps its number, its place in the chain, what was decided and when; whom it is
about is taken out, and the key of its proof is destroyed elsewhere. What others' records and rows
say about a forgotten identifier goes too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from cdp.consent.records import decode_record, encode_record, forgotten, key_of, read_records
from cdp.consent.standing import Row, apply, apply_lifts, decode_row, drop_lifts, encode_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.consent.records import Record
    from cdp.storage.store import Batch, Store

REBUILD_RECORDS: Final = 5_000  # in one batch
_ALL_NODES_END: Final = b"\xff" * 17


class Forgetting:
    """The records and rows that change when some identifiers are forgotten together."""

    def __init__(self, store: Store, nodes: Sequence[bytes]) -> None:
        self._store = store
        self._nodes = frozenset(nodes)
        self._records: dict[int, Record] = {}
        self._rows: dict[bytes, Row] = {}
        self.count = 0
        for node in self._nodes:
            self._forget(node)

    @property
    def touched(self) -> frozenset[bytes]:
        """The nodes whose rows change or go."""
        return self._nodes.union(self._rows)

    def put(self, batch: Batch) -> None:
        """Puts all that changes into a batch."""
        for seq, record in self._records.items():
            batch.put("consent", key_of(seq), encode_record(record))
        for node, row in self._rows.items():
            batch.put("standing", node, encode_row(row))
        for node in self._nodes:
            batch.delete("standing", node)

    def _forget(self, node: bytes) -> None:
        stored = self._store.get("standing", node)
        if stored is None:
            return
        row = decode_row(stored)
        for lifts in row.lifts.values():
            for lift in lifts:
                self._drop_from_sayer(lift.seq, node)
        seq = row.last
        while seq:
            record = self._record(seq)
            self.count += 1
            for member in self._original(seq).lifts:
                self._drop_from_member(member, node)
            seq = self._original(seq).previous
            self._records[record.seq] = forgotten(record)

    def _drop_from_sayer(self, seq: int, node: bytes) -> None:
        """A record that overruled this identifier's denial no longer names it."""
        record = self._record(seq)
        kept = tuple(one for one in record.lifts if one != node)
        self._records[seq] = replace(record, lifts=kept)

    def _drop_from_member(self, member: bytes, sayer: bytes) -> None:
        if member in self._nodes:
            return
        row = self._rows.get(member)
        if row is None:
            stored = self._store.get("standing", member)
            if stored is None:
                return
            row = self._rows[member] = decode_row(stored)
        drop_lifts(row, {sayer})

    def _record(self, seq: int) -> Record:
        return self._records.get(seq) or self._original(seq)

    def _original(self, seq: int) -> Record:
        stored = self._store.get("consent", key_of(seq))
        assert stored is not None, "a record is never deleted"
        return decode_record(stored)


def rebuild(store: Store) -> int:
    """Makes every row of `standing` anew from the records; how many records there are.

    Nobody else may write meanwhile. The rows come out byte for byte as they were written.
    """
    batch = store.batch()
    batch.delete_range("standing", b"", _ALL_NODES_END)
    store.write(batch)
    rows: dict[bytes, Row] = {}
    count = 0
    for record in read_records(store):
        count += 1
        if record.node:
            _replay(store, rows, record)
        if count % REBUILD_RECORDS == 0:
            _flush(store, rows)
    _flush(store, rows)
    return count


def _replay(store: Store, rows: dict[bytes, Row], record: Record) -> None:
    granted = apply(_row(store, rows, record.node), record)
    for member in record.lifts:
        apply_lifts(_row(store, rows, member), granted, record)


def _row(store: Store, rows: dict[bytes, Row], node: bytes) -> Row:
    row = rows.get(node)
    if row is None:
        stored = store.get("standing", node)
        row = rows[node] = Row() if stored is None else decode_row(stored)
    return row


def _flush(store: Store, rows: dict[bytes, Row]) -> None:
    batch = store.batch()
    for node, row in rows.items():
        batch.put("standing", node, encode_row(row))
    store.write(batch)
    rows.clear()
