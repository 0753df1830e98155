"""The consent ledger: what people said about purposes, recorded, and where they stand by it.

Records go into the batch of whoever heard the statement, and count from that moment in memory:
whoever asks next gets the new answer. Where the batch is not written, `forget_unwritten` takes
that back. Most statements are echoes of the last one and cost one comparison.

A grant of a verified identifier (one that a login knows) also overrules the older denials of the
other identifiers that are the same person today: see `cdp.consent.standing`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from msgspec.structs import replace

from cdp.consent import records, standing
from cdp.consent.forgetting import Forgetting
from cdp.consent.records import GENESIS, Record, decode_record, key_of, link_of
from cdp.consent.standing import EXPLICIT, Row, apply, apply_lifts, lifted_by, meet, weigh
from cdp.domain.consent import Proof, Standing, Statement
from cdp.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Sequence

    from cdp.consent.records import Action, RowVault
    from cdp.consent.rules import Rules
    from cdp.consent.standing import Verdict
    from cdp.storage.store import Batch, Store

_T = TypeVar("_T")
_Key: TypeAlias = tuple[object, ...]  # a statement, as far as it matters whether it is the same

__all__ = ["ConsentLedger", "NotReady", "People", "Said"]

CACHE_MAX: Final = 100_000
KEYS_MAX: Final = 4_096  # different statements that are kept, each once
UNNAMED_PURPOSES_MAX: Final = 64  # that nothing here has a use for, kept for each identifier
# What an unnamed purpose may look like: the ids of consent dialogues do, addresses do not.
_PURPOSE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


class NotReady(Overloaded):
    """Who is one person is not known yet, so neither is where they stand. Ask again."""

    def __init__(self) -> None:
        super().__init__("who is who is still being loaded; try again", retry_after_s=1)


class People(Protocol):
    """Which identifiers are one person."""

    @property
    def ready(self) -> bool:
        """Whether everything that was resolved before the start is loaded."""
        ...

    def members(self, profile_id: bytes) -> Sequence[bytes]:
        """The nodes of the profile that this one is part of today, without shared ones."""
        ...

    def profile_of(self, node: bytes) -> bytes | None: ...


class Said(NamedTuple):
    """A record and its proof; None where its key is destroyed."""

    record: Record
    proof: Proof | None


class ConsentLedger:
    """The one writer of the families `consent` and `standing`. Called on the event loop only."""

    def __init__(
        self,
        store: Store,
        vault: RowVault,
        rules: Rules,
        people: People,
        *,
        suppressed: Container[bytes] = frozenset(),
        cache_max: int = CACHE_MAX,
    ) -> None:
        """`suppressed` are the nodes of whom nothing may be sent, as they are at any moment."""
        self._store = store
        self._vault = vault
        self._rules = rules
        self._people = people
        self._suppressed = suppressed
        self._cache_max = cache_max
        self._standings: dict[bytes, Standing] = {}
        self._rows: dict[bytes, Row] = {}
        self._settled: dict[bytes, _Key] = {}  # the statement that a row agrees with
        self._late: dict[bytes, _Key] = {}  # recorded already, to no effect
        self._keys: dict[_Key, _Key] = {}
        self._last: tuple[Statement | None, _Key] = (None, ())
        self._batch: Batch | None = None
        self._dirty: dict[bytes, Row] = {}  # rows as `_batch` leaves them
        # Called with nodes as soon as something about them may be forbidden that was not.
        self.on_restriction: list[Callable[[Sequence[bytes]], None]] = []
        self._head, self._tip = _end_of(store)

    @property
    def head(self) -> int:
        """The number that the next record gets; the first is 1."""
        return self._head

    def note(
        self,
        batch: Batch,
        nodes: Sequence[bytes],
        statement: Statement,
        said_at_us: tuple[int, int] | None = None,
        *,
        verified: Collection[bytes] = (),
    ) -> int:
        """Records what was said about these identifiers; how many records that took.

        Nothing is recorded where nothing changes. `verified` are those of the nodes that a login
        knows: a user id, a customer number. `said_at_us` is when it was said and when it came in,
        where many said the same and share one statement.
        """
        last, key = self._last
        if statement is not last:
            key = self._key_of(statement)
            self._last = (statement, key)
        settled = self._settled
        for node in nodes:
            if settled.get(node) is not key:
                if said_at_us is not None:
                    at_us, received_us = said_at_us
                    statement = replace(statement, at_us=at_us, received_at_us=received_us)
                return self._note(batch, nodes, statement, key, verified)
        return 0

    def restrict(
        self,
        batch: Batch,
        nodes: Sequence[bytes],
        on: bool,
        *,
        now_us: int,
        kind: str = "request",
        source: str = "",
        proof: Proof | None = None,
    ) -> int:
        """Restricts processing of these identifiers' data (GDPR article 18), or ends that."""
        order = Statement(
            purposes={},
            kind=kind,
            authority="server",
            source=source,
            at_us=now_us,
            received_at_us=now_us,
            proof=proof or Proof(),
        )
        meant = [node for node in nodes if bool(self._row(batch, node).restricted) is not on]
        for node in meant:
            action: Action = "restricted" if on else "unrestricted"
            self._record(batch, node, self._row(batch, node), order, {}, action=action)
        self._took_effect(meant, forbids=on)
        return len(meant)

    def standing(self, profile_id: bytes) -> Standing:
        """Where a person stands now. Raises NotReady while nobody knows who is who."""
        if not self._people.ready:
            raise NotReady
        # Under ids that are in use today alone: `changed` tells of those that are so no more.
        found = self._standings.get(profile_id)
        if found is not None:
            return found
        today = self._people.profile_of(profile_id)
        if today is None:
            return self._meet(profile_id)  # not kept: nobody would tell when it is somebody
        found = self._standings.get(today)
        if found is None:
            found = self._meet(today)
            _keep(self._standings, today, found, self._cache_max)
        return found

    def standing_of(self, nodes: Sequence[bytes]) -> Standing:
        """Where these identifiers would stand if they, and they alone, were one person."""
        rows = {node: self._seen_row(node) for node in nodes}
        return meet(
            {node: row for node, row in rows.items() if row.last},
            self._rules,
            suppressed=any(node in self._suppressed for node in nodes),
        )

    def person(self, node: bytes) -> Sequence[bytes]:
        """The identifiers of the person whom this one names. Raises NotReady."""
        if not self._people.ready:
            raise NotReady
        return self._people.members(self._people.profile_of(node) or node) or (node,)

    def changed(self, profile_ids: Iterable[bytes]) -> None:
        """Forgets where these people stand: their identifiers are others now."""
        for profile_id in profile_ids:
            self._standings.pop(profile_id, None)

    def suppressed(self, nodes: Sequence[bytes]) -> None:
        """To be called after identifiers were suppressed, or are no longer."""
        self._took_effect(nodes, forbids=True)

    def history(self, nodes: Iterable[bytes]) -> list[Said]:
        """Every record about these identifiers, oldest first, with its proof."""
        found = {}
        for node in nodes:
            seq = self._seen_row(node).last
            while seq:
                record = self._stored(seq)
                found[seq] = Said(record, records.open_proof(record, self._vault))
                seq = record.previous
        return [found[seq] for seq in sorted(found)]

    def record(self, seq: int) -> Said | None:
        """One record by its number; None where there is none."""
        row = self._store.get("consent", key_of(seq))
        if row is None:
            return None
        record = decode_record(row)
        return Said(record, records.open_proof(record, self._vault))

    def forget(self, batch: Batch, nodes: Sequence[bytes]) -> int:
        """Takes whom they are about out of records, and removes rows; how many records.

        Decisions, dates and hashes stay, and so does the chain. Destroying the keys is the
        caller's, as is writing what was noted before: only what is stored is forgotten.
        """
        assert not self._dirty or self._batch is not batch, "write what was noted first"
        forgotten = Forgetting(self._store, nodes)
        forgotten.put(batch)
        touched = list(forgotten.touched)
        for node in touched:
            for cache in (self._dirty, self._rows, self._settled, self._late):
                cache.pop(node, None)
        self._took_effect(touched, forbids=False)
        return forgotten.count

    def forget_unwritten(self) -> None:
        """After a batch that was not written: memory is as the store again."""
        self._head, self._tip = _end_of(self._store)
        self._batch = None
        for cache in (self._dirty, self._rows, self._standings, self._settled, self._late):
            cache.clear()

    def _note(
        self,
        batch: Batch,
        nodes: Sequence[bytes],
        statement: Statement,
        key: _Key,
        verified: Collection[bytes],
    ) -> int:
        recorded, denied = [], False
        for node in nodes:
            if self._settled.get(node) is key:
                continue
            row = self._row(batch, node)
            said = self._counting(row, statement)
            verdicts = self._verdicts(row, statement, said)
            if self._is_news(node, verdicts, statement, key):
                lifts: tuple[bytes, ...] = ()
                if node in verified:
                    granted = [
                        name for name, one in verdicts.items() if one == "takes" and said.get(name)
                    ]
                    lifts = self._lifted(batch, node, nodes, statement, granted)
                self._record(batch, node, row, statement, said, lifts=lifts)
                recorded.append(node)
                denied = denied or statement.kind == "gpc" or not all(said.values())
            if statement.kind in EXPLICIT or "late" in verdicts.values():
                _keep(self._late, node, key, self._cache_max)
            else:
                _keep(self._settled, node, key, self._cache_max)
        self._took_effect(recorded, forbids=denied)
        return len(recorded)

    def _key_of(self, statement: Statement) -> _Key:
        """What makes statements the same: one object for all who say it."""
        proof = statement.proof
        key = (
            statement.kind,
            statement.authority,
            statement.grants_count,
            proof.policy,
            proof.policy_version,
            statement.expires_at_us,
            statement.regime,
            *statement.purposes.items(),
        )
        if len(self._keys) >= KEYS_MAX:
            self._keys.clear()
        return self._keys.setdefault(key, key)

    def _counting(self, row: Row, statement: Statement) -> dict[str, bool]:
        """What of a statement may be recorded."""
        if statement.kind == "gpc":
            honoured = self._rules.honours_gpc(statement.regime)
            return dict.fromkeys(sorted(self._rules.sale_or_share), False) if honoured else {}
        grants_count, named = statement.grants_count, self._rules.named
        said = {
            purpose: granted is True
            for purpose, granted in statement.purposes.items()
            if (granted is not True or grants_count)
            and (purpose in named or purpose in row.cells or _PURPOSE.fullmatch(purpose))
        }
        unnamed = [one for one in said if one not in named and one not in row.cells]
        room = UNNAMED_PURPOSES_MAX - sum(one not in named for one in row.cells)
        for purpose in unnamed[max(0, room) :]:
            del said[purpose]
        return said

    def _verdicts(
        self, row: Row, statement: Statement, said: dict[str, bool]
    ) -> dict[str, Verdict]:
        """What a statement does to each purpose; "" is Global Privacy Control itself."""
        if statement.kind == "gpc":
            new = not row.gpc or (said and not row.gpc_denies)
            return {"": "takes"} if new else {}
        policy = records.policy_label(statement.proof)
        return {
            purpose: weigh(row.cells.get(purpose), granted, statement, policy)
            for purpose, granted in said.items()
        }

    def _is_news(
        self, node: bytes, verdicts: dict[str, Verdict], statement: Statement, key: _Key
    ) -> bool:
        """Whether a statement has to be recorded: it changes something, or was not heard yet."""
        if "takes" in verdicts.values():
            return True
        unheard = self._late.get(node) != key
        return unheard and bool(
            "late" in verdicts.values() or (verdicts and statement.kind in EXPLICIT)
        )

    def _lifted(
        self,
        batch: Batch,
        node: bytes,
        speakers: Sequence[bytes],
        statement: Statement,
        granted: Sequence[str],
    ) -> tuple[bytes, ...]:
        """The other members of the person whose older denials these grants overrule."""
        profile_id = self._people.profile_of(node) if self._people.ready else None
        if profile_id is None or not granted:
            return ()
        members = self._people.members(profile_id)
        if node not in members:
            return ()
        return tuple(
            member
            for member in members
            if member not in speakers
            and lifted_by(self._row(batch, member), granted, statement, node)
        )

    def _record(
        self,
        batch: Batch,
        node: bytes,
        row: Row,
        statement: Statement,
        said: dict[str, bool],
        *,
        lifts: tuple[bytes, ...] = (),
        action: Action = "said",
    ) -> None:
        record = records.make_record(
            statement,
            seq=self._head,
            node=node,
            previous=row.last,
            chain=self._tip,
            said=said,
            lifts=lifts,
            action=action,
        )
        record = records.seal(record, statement.proof, self._vault, batch)
        batch.put("consent", key_of(record.seq), records.encode_record(record))
        granted = apply(row, record)
        self._put(batch, node, row)
        for member in lifts:
            lifted = self._row(batch, member)
            apply_lifts(lifted, granted, record)
            self._put(batch, member, lifted)
        self._head, self._tip = record.seq + 1, link_of(record)

    def _put(self, batch: Batch, node: bytes, row: Row) -> None:
        batch.put("standing", node, standing.encode_row(row))
        self._dirty[node] = row
        for cache in (self._rows, self._settled, self._late):
            cache.pop(node, None)
        _keep(self._rows, node, row, self._cache_max)

    def _row(self, batch: Batch, node: bytes) -> Row:
        """A row as this batch leaves it so far."""
        if batch is not self._batch:
            self._dirty.clear()
            self._batch = batch
        return self._seen_row(node)

    def _seen_row(self, node: bytes) -> Row:
        row = self._dirty.get(node) or self._rows.get(node)
        if row is None:
            stored = self._store.get("standing", node)
            if stored is None:
                return Row()
            row = standing.decode_row(stored)
            _keep(self._rows, node, row, self._cache_max)
        return row

    def _meet(self, profile_id: bytes) -> Standing:
        members = self._people.members(profile_id) or (profile_id,)
        rows, missing = {}, []
        for node in members:
            row = self._dirty.get(node) or self._rows.get(node)
            if row is None:
                missing.append(node)
            else:
                rows[node] = row
        for node, stored in zip(missing, self._store.get_many("standing", missing), strict=True):
            if stored is not None:
                rows[node] = row = standing.decode_row(stored)
                _keep(self._rows, node, row, self._cache_max)
        return meet(
            rows,
            self._rules,
            suppressed=any(node in self._suppressed for node in members),
        )

    def _took_effect(self, nodes: Sequence[bytes], *, forbids: bool) -> None:
        """Forgets where the people of these identifiers stood, and tells who must know."""
        if not nodes:
            return
        if not self._people.ready:
            self._standings.clear()
        elif self._standings:
            for node in nodes:
                self._standings.pop(node, None)
                profile_id = self._people.profile_of(node)
                if profile_id is not None:
                    self._standings.pop(profile_id, None)
        if forbids:
            for listener in self.on_restriction:
                listener(nodes)

    def _stored(self, seq: int) -> Record:
        row = self._store.get("consent", key_of(seq))
        assert row is not None, "a record is never deleted"
        return decode_record(row)


def _keep(cache: dict[bytes, _T], key: bytes, value: _T, cache_max: int) -> None:
    """Keeps a value, and drops the one that was kept first where there are too many."""
    if len(cache) >= cache_max and key not in cache:
        del cache[next(iter(cache))]
    cache[key] = value


def _end_of(store: Store) -> tuple[int, bytes]:
    """The number of the next record, and the hash that it has to carry."""
    newest = store.scan("consent", reverse=True, limit=1)
    if not newest:
        return 1, GENESIS
    record = decode_record(newest[0][1])
    return record.seq + 1, link_of(record)
