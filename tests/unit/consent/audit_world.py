"""An audit log with signed checkpoints and a witness, and every way to tamper with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cdp.clock import MINUTE_US
from cdp.consent.audit import (
    FAMILY,
    NO_RECORD,
    AuditLog,
    decode_record,
    encode_record,
    stored_records,
)
from cdp.consent.checkpoints import (
    Checkpoints,
    Signer,
    checkpoint_key,
    decode_checkpoint,
    encode_checkpoint,
    stored_checkpoints,
)
from cdp.consent.merkle import Growing, leaf_hash
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal, Metrics

if TYPE_CHECKING:
    from random import Random

KEY = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER_KEY = Signer(Ed25519PrivateKey.from_private_bytes(b"o" * 32))


class Clock:
    """Goes with virtual time."""

    def now_us(self) -> int:
        return 1_700_000_000_000_000 + int(trio.current_time() * 1e6)


class Witness:
    """A witness in memory, which can be out of reach."""

    def __init__(self) -> None:
        self.content = b""
        self.errno = 0
        self.appends = 0

    def append(self, lines: bytes, *, known: bool) -> None:
        if self.errno:
            raise OSError(self.errno, "out of reach")
        self.appends += 1
        self.content += lines

    def last(self) -> bytes:
        return self.content.splitlines()[-1] if self.content else b""


async def run_here(function: Any, *args: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return function(*args)


class World:
    """A store with an audit log in it."""

    def __init__(self, store: MemoryStore | None = None, witness: Witness | None = None) -> None:
        self.store = store or MemoryStore()
        self.witness = witness or Witness()
        self.lines: list[str] = []
        self.metrics = Metrics()
        self.audit = AuditLog(self.store, Clock())
        self.checkpoints = Checkpoints(
            store=self.store,
            audit=self.audit,
            signer=KEY,
            clock=Clock(),
            run_in_thread=run_here,
            metrics=self.metrics,
            journal=Journal(Clock(), self.lines.append),
            witness_file=self.witness,
        )

    def record(self, count: int = 1) -> None:
        batch = self.store.batch()
        for place in range(count):
            self.audit.add(
                batch, actor="api", action="suppressed", object=f"n{place}", details={"n": place}
            )
        self.store.write(batch)


def copy_of(store: MemoryStore) -> MemoryStore:
    """A store with the same audit log, to tamper with."""
    copied = MemoryStore()
    batch = copied.batch()
    for family in (FAMILY, "meta"):
        for key, value in store.items(family):
            batch.put(family, key, value)
    copied.write(batch)
    return copied


def replace(store: MemoryStore, rows: dict[bytes, bytes]) -> None:
    """Makes these the rows of the family, and nothing else."""
    batch = store.batch()
    batch.delete_range(FAMILY, b"", b"\xff" * 20)
    for key, value in rows.items():
        batch.put(FAMILY, key, value)
    store.write(batch)


class Tampering:
    """One change of the history, somewhere among what was witnessed, by someone who knows how.

    `skill` 0 changes bytes. 1 makes the chain fit again. 2 also signs all checkpoints anew, with
    the true key, and mends the saved edge: inside the house nothing is wrong any more.
    """

    KINDS = ("flip", "drop", "swap", "insert", "truncate", "fork")

    def __init__(self, store: MemoryStore, rng: Random, witnessed: int) -> None:
        self.store, self.rng, self.witnessed = store, rng, witnessed
        self.values = [value for _, value in stored_records(store)]
        self.checkpoints = {key: value for key, value in stored_checkpoints(store)}

    def apply(self, kind: str, skill: int) -> None:
        before = list(self.values), dict(self.checkpoints)
        while (self.values, self.checkpoints) == before:
            getattr(self, f"_{kind}")(skill)
        if skill:
            self._chain_again()
        if skill == 2:
            self._sign_again()
        rows = {place.to_bytes(8, "big"): value for place, value in enumerate(self.values)}
        if kind == "drop" and not skill:
            rows = self._with_a_hole(before[0])
        replace(self.store, rows | self.checkpoints)

    def _place(self, last: int = 0) -> int:
        return self.rng.randrange(self.witnessed - last)

    def _flip(self, skill: int) -> None:
        rows: Any = self.values
        key: Any = self._place()
        if not skill and self.rng.random() < 0.3:
            rows, key = self.checkpoints, self.rng.choice(list(self.checkpoints))
        if skill:  # a flip that can still be read
            record = decode_record(rows[key])
            rows[key] = encode_record(_changed(record, actor=record.actor[::-1] + "x"))
            return
        value = bytearray(rows[key])
        value[self.rng.randrange(len(value))] ^= 1 << self.rng.randrange(8)
        rows[key] = bytes(value)

    def _drop(self, skill: int) -> None:
        if not skill and self.rng.random() < 0.3:
            del self.checkpoints[self.rng.choice(list(self.checkpoints))]
            return
        del self.values[self._place()]

    def _swap(self, skill: int) -> None:
        one, other = self._place(), self._place()
        self.values[one], self.values[other] = self.values[other], self.values[one]

    def _insert(self, skill: int) -> None:
        place = self._place()
        self.values.insert(place, self.values[self._place()])

    def _truncate(self, skill: int) -> None:
        size = self._place()
        del self.values[size:]
        for key in [key for key in self.checkpoints if key >= checkpoint_key(size)]:
            del self.checkpoints[key]

    def _fork(self, skill: int) -> None:
        """Another history from one place on, as long as the true one or longer."""
        for place in range(self._place(), len(self.values)):
            record = decode_record(self.values[place])
            if record.action != "checkpoint":
                self.values[place] = encode_record(_changed(record, object=bytes(32)))
        if self.rng.random() < 0.5:
            self.values.append(self.values[0])

    def _with_a_hole(self, before: list[bytes]) -> dict[bytes, bytes]:
        kept = list(self.values)
        rows, place = {}, 0
        for number, value in enumerate(before):
            if place < len(kept) and value == kept[place]:
                rows[number.to_bytes(8, "big")] = value
                place += 1
        return rows

    def _chain_again(self) -> None:
        """Numbers, names and roots all fit again."""
        previous, tree = NO_RECORD, Growing()
        for place, value in enumerate(self.values):
            record = decode_record(value)
            details = record.details
            if record.action == "checkpoint":
                details = details | {"size": place, "root": tree.root()}
            value = encode_record(_changed(record, seq=place, previous=previous, details=details))
            self.values[place] = value
            previous = leaf_hash(value)
            tree.append(previous)

    def _sign_again(self) -> None:
        """A checkpoint for every record about one, signed by whoever has the key."""
        times = [decode_checkpoint(value).time_us for value in self.checkpoints.values()]
        self.checkpoints = {}
        tree, place = Growing(), 0
        for value in self.values:
            record = decode_record(value)
            if record.action == "checkpoint":
                time_us = times[place] if place < len(times) else record.at_us
                place += 1
                made = KEY.sign(tree.size, tree.root(), time_us)
                self.checkpoints[checkpoint_key(tree.size)] = encode_checkpoint(made)
                self._save_edge(tree)
            tree.append(leaf_hash(value))
        if not self.checkpoints:
            batch = self.store.batch()
            batch.delete("meta", b"audit:edge")
            self.store.write(batch)

    def _save_edge(self, tree: Growing) -> None:
        batch = self.store.batch()
        batch.put("meta", b"audit:edge", encode_record((tree.size, tree.edge)))
        self.store.write(batch)


def _changed(record: Any, **fields: Any) -> Any:
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return type(record)(**(values | fields))


__all__ = ["KEY", "MINUTE_US", "OTHER_KEY", "Tampering", "Witness", "World", "copy_of"]
