"""Where identifiers and people stand: rows that follow from records, and their meet. Pure.

A row holds one cell a purpose, made by the record that decides. `apply` is the only way in which a
record changes a row, when it is written and when rows are rebuilt, so both give the same bytes.

Between statements about one identifier the newer one decides, with three exceptions, all towards
no: at the same time a denial wins; what a server denied, a public key cannot grant again; and a
server's denial holds against a public grant whenever either was said. An event that repeats what
the sender's last one said is an echo of a dialogue long closed: it changes nothing.

A person is the meet over the identifiers of the profile: one denial is a denial. A grant by a
verified identifier overrules the older denials of the others for as long as they are one person.
Where several have granted, the newest grant is the person's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from cdp.consent.records import grant_order_us, order_us
from cdp.domain.consent import Authority, Latest, Standing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cdp.consent.records import Record
    from cdp.domain.consent import Statement

__all__ = ["Cell", "Lift", "Row", "Verdict", "apply", "apply_lifts", "meet", "weigh"]

Verdict = Literal["takes", "same", "late", "outranked"]

# Ways in which a person says something anew. The others repeat what a dialogue left behind.
EXPLICIT: Final = frozenset({"api", "console", "import", "request"})


class Cell(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What decides one purpose for one identifier. `seq` is its record."""

    granted: bool
    seq: int
    at_us: int
    authority: Authority
    kind: str
    policy: str
    expires_at_us: int


class Lift(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A grant of another identifier that overrules this one's denials up to record `seq`."""

    sayer: bytes
    seq: int


class Row(msgspec.Struct, array_like=True):
    """Where one identifier stands. Sequence numbers are 0 where there is none.

    `last` is its newest record; `gpc` the one that first told of Global Privacy Control, and
    `gpc_denies` the one that denied by it; `restricted` the one that restricted processing.
    """

    last: int = 0
    gpc: int = 0
    gpc_denies: int = 0
    restricted: int = 0
    cells: dict[str, Cell] = {}
    lifts: dict[str, list[Lift]] = {}


class Texts(Protocol):
    """Which grants are for policy texts that no longer hold, and what sells or shares."""

    @property
    def sale_or_share(self) -> Collection[str]: ...

    def is_superseded(self, policy: str, purpose: str) -> bool: ...


encode_row = msgspec.msgpack.Encoder(order="deterministic").encode
decode_row = msgspec.msgpack.Decoder(Row).decode


def said_at_us(statement: Statement | Record, granted: bool) -> int:
    """When it counts as said."""
    if granted or statement.kind == "import":
        return grant_order_us(statement)
    return order_us(statement)


def weigh(cell: Cell | None, granted: bool, statement: Statement | Record, policy: str) -> Verdict:
    """What a statement about one purpose does to the cell that decides so far."""
    if cell is None:
        return "takes"
    at_us, server = said_at_us(statement, granted), statement.authority == "server"
    if granted == cell.granted:
        return _weigh_same(cell, statement, policy, at_us)
    if statement.kind == "gpc":
        return "takes"
    if granted:
        if cell.authority == "server" and not server:
            return "outranked"
        return "takes" if at_us > cell.at_us else "late"
    if server and cell.authority == "public":
        return "takes"
    if statement.kind != "import":
        # By either clock: where ours was set back, a no must not look older than the yes before.
        at_us = max(at_us, statement.at_us)
    return "takes" if at_us >= cell.at_us else "late"


def _weigh_same(cell: Cell, statement: Statement | Record, policy: str, at_us: int) -> Verdict:
    if statement.authority == "server" and cell.authority == "public":
        return "takes"
    if at_us < cell.at_us:
        return "late" if statement.kind in EXPLICIT else "same"
    renewed = statement.kind in EXPLICIT or (
        cell.granted
        and (policy != cell.policy or (statement.expires_at_us or 0) != cell.expires_at_us)
    )
    return "takes" if renewed else "same"


def apply(row: Row, record: Record) -> list[str]:
    """Changes a row by a record about its node; the purposes that it granted."""
    row.last = record.seq
    if record.action != "said":
        row.restricted = record.seq if record.action == "restricted" else 0
        return []
    if record.kind == "gpc":
        row.gpc = row.gpc or record.seq
        row.gpc_denies = record.seq if record.said else row.gpc_denies
    granted_now = []
    for purpose, granted in record.said.items():
        cell = row.cells.get(purpose)
        if weigh(cell, granted, record, record.policy) == "takes":
            row.cells[purpose] = _cell_after(cell, granted, record)
            if granted:
                granted_now.append(purpose)
    return granted_now


def _cell_after(cell: Cell | None, granted: bool, record: Record) -> Cell:
    at_us, authority = said_at_us(record, granted), record.authority
    if cell is not None and not granted:
        at_us = max(at_us, cell.at_us)  # it is no older than what it overrules
    if cell is not None and cell.granted == granted:
        at_us = max(at_us, cell.at_us)
        if not granted and cell.authority == "server":
            authority = "server"  # a denial is not weakened by being repeated
    expires = record.expires_at_us if granted else 0
    return Cell(granted, record.seq, at_us, authority, record.kind, record.policy, expires)


def lifted_by(
    row: Row, granted: Collection[str], record: Record | Statement, sayer: bytes
) -> list[str]:
    """The purposes that a member denied earlier, and that a grant of `sayer` now overrules."""
    at_us = grant_order_us(record)
    return [
        purpose
        for purpose in granted
        if (cell := row.cells.get(purpose)) is not None
        and not cell.granted
        and cell.at_us < at_us
        and (cell.authority == "public" or record.authority == "server")
        and not any(
            lift.sayer == sayer and lift.seq > cell.seq for lift in row.lifts.get(purpose, ())
        )
    ]


def apply_lifts(row: Row, granted: Collection[str], record: Record) -> None:
    """Notes in a member's row which of its denials a grant overrules."""
    for purpose in lifted_by(row, granted, record, record.node):
        lift = Lift(record.node, record.seq)
        row.lifts.setdefault(purpose, []).append(lift)


def drop_lifts(row: Row, sayers: Collection[bytes]) -> None:
    """Takes the lifts of forgotten identifiers out of a row."""
    for purpose, lifts in list(row.lifts.items()):
        lifts[:] = [one for one in lifts if one.sayer not in sayers]
        if not lifts:
            del row.lifts[purpose]


def meet(rows: Mapping[bytes, Row], texts: Texts, *, suppressed: bool = False) -> Standing:
    """Where a person stands whose identifiers stand like this."""
    names = {purpose: None for row in rows.values() for purpose in row.cells}
    return Standing(
        purposes={purpose: _latest(purpose, rows, texts) for purpose in names},
        gpc=any(_gpc_stands(row, rows, texts) for row in rows.values()),
        suppressed=suppressed,
        restricted=any(row.restricted for row in rows.values()),
    )


def _latest(purpose: str, rows: Mapping[bytes, Row], texts: Texts) -> Latest:
    """The newest denial that nothing overrules; else the newest grant."""
    denial: Cell | None = None
    grant: Cell | None = None
    lifting: list[Cell] = []
    for row in rows.values():
        cell = row.cells.get(purpose)
        if cell is None:
            continue
        if cell.granted:
            grant = cell if grant is None or cell.seq > grant.seq else grant
        elif (lift := _lift_of(row, purpose, rows, texts)) is not None:
            lifting.append(lift)
        elif denial is None or cell.seq > denial.seq:
            denial = cell
    if denial is not None:
        return _as_latest(denial, "denied")
    assert grant is not None, "a lift comes from a member's grant"
    if texts.is_superseded(grant.policy, purpose):
        return _as_latest(grant, "superseded", lifts=bool(lifting))
    return _with_lifts(_as_latest(grant, "granted"), lifting)


def _lift_of(row: Row, purpose: str, rows: Mapping[bytes, Row], texts: Texts) -> Cell | None:
    """The grant that overrules a row's denial today, the newest of them; None where it holds."""
    denied = row.cells[purpose]
    found: Cell | None = None
    for lift in row.lifts.get(purpose, ()):
        if lift.seq < denied.seq or lift.sayer not in rows:
            continue
        grant = rows[lift.sayer].cells.get(purpose)
        if grant is None or not grant.granted:
            continue
        if texts.is_superseded(grant.policy, purpose):
            continue
        found = grant if found is None or grant.seq > found.seq else found
    return found


def _as_latest(
    cell: Cell, state: Literal["granted", "denied", "superseded"], *, lifts: bool = False
) -> Latest:
    return Latest(
        state,
        cell.seq,
        cell.at_us,
        cell.kind,
        cell.policy,
        cell.authority,
        cell.expires_at_us,
        lifts,
    )


def _with_lifts(latest: Latest, lifting: list[Cell]) -> Latest:
    """A grant that overrules denials ends with the first of the grants that do."""
    if not lifting:
        return latest
    ends = [cell.expires_at_us for cell in lifting if cell.expires_at_us]
    if latest.expires_at_us:
        ends.append(latest.expires_at_us)
    return msgspec.structs.replace(
        latest,
        at_us=min(latest.at_us, *(cell.at_us for cell in lifting)),
        expires_at_us=min(ends, default=0),
        lifts=True,
    )


def _gpc_stands(row: Row, rows: Mapping[bytes, Row], texts: Texts) -> bool:
    """Whether Global Privacy Control holds: until every sale and share was granted after it."""
    if not row.gpc:
        return False
    for purpose in texts.sale_or_share:
        cell = row.cells.get(purpose)
        if cell is None or (cell.granted and cell.seq < row.gpc):
            return True
        if not cell.granted and _lift_of(row, purpose, rows, texts) is None:
            return True
    return not texts.sale_or_share
