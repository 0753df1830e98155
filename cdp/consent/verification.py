"""Finds what was changed in an audit log: recomputes the chain, the tree and every checkpoint.

Trusts nothing that is stored. The public keys and the witness's lines come from elsewhere; what
was witnessed must be found again, to the bit. What came after the last checkpoint is held together
by the chain alone, so its end can be rewritten unseen until the next one.

Reads everything; for the command line, not for the event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cdp.consent.audit import (
    ACTIONS,
    FAMILY,
    NO_RECORD,
    RECORD_SCHEMA,
    AuditRecord,
    decode_record,
    encode_record,
    saved_edge,
)
from cdp.consent.checkpoints import (
    Checkpoint,
    checkpoint_key,
    decode_checkpoint,
    encode_checkpoint,
    is_signed_by,
    line_of,
    parse_line,
    stored_checkpoints,
)
from cdp.consent.merkle import HASH_BYTES, Growing, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.storage.store import Store

FINDINGS_MAX: Final = 50  # more of them say nothing new

# What bytes that somebody made up can raise when they are read as one of ours.
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError)


class Report(NamedTuple):
    """What was found. `ok` where nothing speaks against the log."""

    records: int
    root: bytes
    checkpoints: int
    last: Checkpoint | None  # the newest stored one
    witnessed: Checkpoint | None  # the newest one in the witness
    findings: list[str]

    @property
    def ok(self) -> bool:
        return not self.findings

    @property
    def unsigned(self) -> int:
        """Records after the last checkpoint, but for its own."""
        return max(0, self.records - (self.last.size + 1 if self.last else 0))


def verify(store: Store, public_keys: Sequence[bytes], witness: bytes | None = None) -> Report:
    """Checks all of the log, and that it is the one that the witness saw."""
    check = _Check(public_keys, _read_witness(witness))
    for key, value in stored_checkpoints(store):
        check.take_checkpoint(key, value)
    edge_size, edge = saved_edge(store)
    check.wanted.add(edge_size)
    for key, value in store.items(FAMILY):
        check.take_record(key, value)
    if check.edges.get(edge_size, []) != edge:
        check.found(f"the saved edge of the tree is not that of the first {edge_size} records")
    check.compare_checkpoints()
    check.compare_witness()
    return check.report()


class _Line(NamedTuple):
    """A line of the witness; `checkpoint` is None where it cannot be read."""

    number: int
    text: bytes
    checkpoint: Checkpoint | None


def _read_witness(content: bytes | None) -> list[_Line]:
    texts = enumerate((content or b"").split(b"\n"), 1)
    return [_Line(number, text, _parsed(text)) for number, text in texts if text]


def _parsed(text: bytes) -> Checkpoint | None:
    try:
        found = parse_line(text)
    except _UNREADABLE:
        return None
    return found if line_of(found) == text else None


class _Check:
    """One pass over a log. What is wrong is added to `findings`."""

    def __init__(self, public_keys: Sequence[bytes], witness: list[_Line]) -> None:
        self.findings: list[str] = []
        self.edges: dict[int, list[bytes]] = {}
        self.wanted = {line.checkpoint.size for line in witness if line.checkpoint}
        self._keys = tuple(public_keys)
        self._witness = witness
        self._tree = Growing()
        self._roots: dict[int, bytes] = {}
        self._previous = NO_RECORD
        self._stored: dict[int, Checkpoint] = {}
        self._announced: dict[int, AuditRecord] = {}  # the records about checkpoints, by place

    def found(self, text: str) -> None:
        """Notes what is wrong; beyond a limit only that there is something."""
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)

    def take_checkpoint(self, key: bytes, value: bytes) -> None:
        """A stored checkpoint: whether it is one at all. Its root is compared later."""
        name = f"the checkpoint in row {key[1:].hex()}"
        try:
            checkpoint = decode_checkpoint(value)
        except _UNREADABLE:
            self.found(f"{name} cannot be read")
            return
        if encode_checkpoint(checkpoint) != value or checkpoint_key(checkpoint.size) != key:
            self.found(f"{name} is not written as the log writes")
        self._stored[checkpoint.size] = checkpoint
        self.wanted.add(checkpoint.size)

    def take_record(self, key: bytes, value: bytes) -> None:
        """The next row of the family, in the order of keys."""
        place = self._tree.size
        if len(key) != 8:
            if checkpoint_key(int.from_bytes(key[1:9], "big")) != key:
                self.found(f"row {key.hex()} is neither a record nor a checkpoint")
            return
        if key != place.to_bytes(8, "big"):
            self.found(f"record {place} is missing: record {int.from_bytes(key, 'big')} follows")
        if wrong := self._wrong_with(value, place):
            self.found(f"record {place} {wrong}")
        self._previous = leaf_hash(value)
        self._tree.append(self._previous)
        if self._tree.size in self.wanted:
            self._roots[self._tree.size] = self._tree.root()
            self.edges[self._tree.size] = self._tree.edge

    def _wrong_with(self, value: bytes, place: int) -> str:
        try:
            record = decode_record(value)
            canonical = encode_record(record) == value
        except _UNREADABLE:
            return "cannot be read"
        if record.action == "checkpoint":
            self._announced[place] = record
        if not canonical:
            return "is not written as the log writes"
        if record.seq != place:
            return f"says that it is record {record.seq}"
        if record.previous != self._previous:
            return "does not name the record before it"
        known = record.action in ACTIONS and record.schema == RECORD_SCHEMA
        return "" if known and len(record.object) == HASH_BYTES else "is not one that is written"

    def compare_checkpoints(self) -> None:
        """Each stored checkpoint has a root that is right, a signature, and a record of its own."""
        for size, checkpoint in self._stored.items():
            self._compare(checkpoint, f"the checkpoint of {size} records")
            record = self._announced.get(size)
            if record is None or record.details.get("root") != checkpoint.root:
                self.found(f"the checkpoint of {size} records has no record of its own")
        for place in self._announced.keys() - self._stored.keys():
            self.found(f"record {place} is about a checkpoint that is not stored")

    def compare_witness(self) -> None:
        """Each line of the witness is a checkpoint of this very log."""
        last, seen = 0, set()
        for number, text, checkpoint in self._witness:
            name = f"line {number} of the witness"
            if checkpoint is None:
                if not self._is_torn(text):
                    self.found(f"{name} cannot be read")
                continue
            self._compare(checkpoint, name)
            # After a power cut lines may be sent again: only a new line must be about more.
            if checkpoint.size < last and text not in seen:
                self.found(f"{name} is about fewer records than a line before it")
            if self._stored.get(checkpoint.size) != checkpoint:
                self.found(f"{name} is not a checkpoint that is stored here")
            seen.add(text)
            last = max(last, checkpoint.size)
        self._find_gaps()

    def _compare(self, checkpoint: Checkpoint, name: str) -> None:
        if not any(is_signed_by(checkpoint, key) for key in self._keys):
            self.found(f"{name} is not signed by a key that is known ({checkpoint.key_id})")
        size, root = checkpoint.size, self._roots.get(checkpoint.size)
        if root is None:
            records = self._tree.size
            self.found(
                f"{name} saw {size} records, there are {records}: the log was cut or replaced"
            )
        elif root != checkpoint.root:
            self.found(f"{name}: the first {size} records are not those that were signed")

    def _is_torn(self, text: bytes) -> bool:
        """Whether a power cut can have left it: the beginning of a line that was sent again."""
        return any(line_of(one).startswith(text) for one in self._stored.values())

    def _find_gaps(self) -> None:
        sizes = {line.checkpoint.size for line in self._witness if line.checkpoint}
        if sizes:
            first, last = min(sizes), max(sizes)
            for size in self._stored.keys() - sizes:
                if first < size < last:
                    self.found(f"the witness has no line for the checkpoint of {size} records")

    def report(self) -> Report:
        """What was found."""
        seen = [line.checkpoint for line in self._witness if line.checkpoint]
        return Report(
            records=self._tree.size,
            root=self._tree.root(),
            checkpoints=len(self._stored),
            last=self._stored[max(self._stored)] if self._stored else None,
            witnessed=max(seen, key=lambda one: one.size, default=None),
            findings=self.findings,
        )
