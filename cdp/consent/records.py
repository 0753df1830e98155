"""Consent records: what was said, once, about one identifier; never rewritten but to forget.

Records are a chain: each carries the hash of the one before. The hash covers what was decided and
when, and the *ciphertext* of who said it and how that can be shown; the node that the record is
about, and the way from one of its records to the one before, stand beside it. So a record can be
forgotten, by taking these away and destroying the key, and the chain still holds.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec
from msgspec.structs import replace

from cdp.clock import MINUTE_US
from cdp.domain.consent import Authority, Proof, Statement  # noqa: TC001  msgspec reads them
from cdp.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cdp.storage.store import Batch, Store

__all__ = [
    "GENESIS",
    "Record",
    "RowVault",
    "forgotten",
    "key_of",
    "link_of",
    "order_us",
    "read_records",
    "verify_chain",
]

RECORD_SCHEMA: Final = 1
GENESIS: Final = sha256(b"cdp consent ledger").digest()  # what the first record follows
CLOCKS_DIFFER_US: Final = 5 * MINUTE_US  # from then on the server's clock decides what came first

Action = Literal["said", "restricted", "unrestricted"]


class RowVault(Protocol):
    """Seals rows under the keys of people; what a destroyed key sealed opens to nothing."""

    def seal_row(self, batch: Batch, subject: bytes, record: bytes, context: bytes) -> bytes: ...

    def open_row(self, sealed: bytes, context: bytes) -> bytes: ...


class Record(msgspec.Struct, frozen=True, array_like=True):
    """One statement about one identifier. A field is only ever added at the end.

    `node`, `previous` and `lifts` are outside the chain's hash. `previous` is the record about the
    same node before this one, 0 for none; `lifts` are other members of the profile whose older
    denials this grant overrules while they are one person. `sealed` holds the node, the lifts and
    the whole proof, under the node's key.
    """

    schema: int
    seq: int
    node: bytes
    previous: int
    lifts: tuple[bytes, ...]
    chain: bytes  # the hash of the record before
    action: Action
    said: dict[str, bool]
    kind: str
    authority: Authority
    source: str
    at_us: int
    received_at_us: int
    jurisdiction: str
    regime: str
    objection: bool
    expires_at_us: int
    policy: str  # id@version
    text_sha256: str
    language: str
    method: str
    sealed: bytes


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What only the key of the person opens."""

    node: bytes
    lifts: tuple[bytes, ...]
    proof: Proof


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode
_decode_sealed = msgspec.msgpack.Decoder(Sealed).decode


def key_of(seq: int) -> bytes:
    """Where a record stands in the family `consent`."""
    return seq.to_bytes(8, "big")


def policy_label(proof: Proof) -> str:
    """The policy text of a proof as id@version; empty where it names none."""
    return f"{proof.policy}@{proof.policy_version or ''}" if proof.policy else ""


def make_record(
    statement: Statement,
    *,
    seq: int,
    node: bytes,
    previous: int,
    chain: bytes,
    said: dict[str, bool],
    lifts: tuple[bytes, ...] = (),
    action: Action = "said",
) -> Record:
    """The record of a statement, not sealed yet."""
    proof = statement.proof
    return Record(
        schema=RECORD_SCHEMA,
        seq=seq,
        node=node,
        previous=previous,
        lifts=lifts,
        chain=chain,
        action=action,
        said=said,
        kind=statement.kind,
        authority=statement.authority,
        source=statement.source,
        at_us=statement.at_us,
        received_at_us=statement.received_at_us,
        jurisdiction=statement.jurisdiction,
        regime=statement.regime,
        objection=statement.objection,
        expires_at_us=statement.expires_at_us or 0,
        policy=policy_label(proof),
        text_sha256=proof.text_sha256 or "",
        language=proof.language or "",
        method=proof.method or "",
        sealed=b"",
    )


def seal(record: Record, proof: Proof, vault: RowVault, batch: Batch) -> Record:
    """The record with who it is about and the proof sealed into it."""
    secret = _encode(Sealed(record.node, record.lifts, proof))
    return replace(record, sealed=vault.seal_row(batch, record.node, secret, record.node))


def open_proof(record: Record, vault: RowVault) -> Proof | None:
    """The proof of a record; None where its key is destroyed. Raises StoreDamaged."""
    if not record.node:
        return None
    opened = vault.open_row(record.sealed, record.node)
    if not opened:
        return None
    sealed = _decode_sealed(opened)
    if sealed.node != record.node or not set(record.lifts) <= set(sealed.lifts):
        raise StoreDamaged(
            f"the consent record {record.seq} is about another identifier than it was written for; "
            "restore the data directory from a backup"
        )
    return sealed.proof


def forgotten(record: Record) -> Record:
    """The record without whom it is about. Its place in the chain is the same."""
    return replace(record, node=b"", previous=0, lifts=())


def link_of(record: Record) -> bytes:
    """The hash of a record, which the next one carries."""
    return sha256(_encode(forgotten(record))).digest()


def order_us(statement: Statement | Record) -> int:
    """When a statement counts as said, among others about the same purpose.

    The sender's clock, unless it differs from ours by more than five minutes: then ours. But a
    grant is never taken to be newer than its sender says, and nor is an import of either kind: so
    an old yes that arrives late overrules no newer no.
    """
    at_us, received_us = statement.at_us, statement.received_at_us
    counts_us = at_us if abs(at_us - received_us) <= CLOCKS_DIFFER_US else received_us
    return min(counts_us, received_us)


def grant_order_us(statement: Statement | Record) -> int:
    """The same for a grant, and for whatever is imported with its own times."""
    return min(statement.at_us, statement.received_at_us)


def encode_record(record: Record) -> bytes:
    """A record as it is stored."""
    return _encode(record)


def decode_record(row: bytes) -> Record:
    """A stored record. Raises StoreDamaged where it is none."""
    try:
        return _decode(row)
    except msgspec.DecodeError as error:
        raise StoreDamaged(
            f"a consent record cannot be read ({error}); restore the data directory from a backup"
        ) from error


def read_records(store: Store) -> Iterator[Record]:
    """Every record in order."""
    return (decode_record(row) for _, row in store.items("consent"))


def verify_chain(records: Iterable[Record]) -> int:
    """How many records there are. Raises StoreDamaged where one was changed, lost or put in."""
    tip, count = GENESIS, 0
    for record in records:
        count += 1
        if record.seq != count or record.chain != tip:
            raise StoreDamaged(
                f"the chain of consent records breaks at {record.seq} (expected {count}); "
                "restore the data directory from a backup"
            )
        tip = link_of(record)
    return count
