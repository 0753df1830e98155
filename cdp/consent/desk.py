"""The consent desk: what an operator, or a server of theirs, asks about consent and records.

Everything that is recorded here has the authority of a server, goes into the audit log in the same
batch, and is on disk before it is answered. Answers are plain JSON values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from cdp.clock import isoformat
from cdp.consent.grounds import standing_form
from cdp.consent.imports import read_consent_state
from cdp.domain.consent import Proof, Statement
from cdp.domain.identifier import NAMESPACE_CODE, NAMESPACES, parse_profile_id
from cdp.errors import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from cdp.clock import Clock
    from cdp.consent.ledger import ConsentLedger, Said
    from cdp.consent.rules import Rules
    from cdp.consent.texts import PolicyTexts
    from cdp.storage.store import Batch, Store

__all__ = ["ConsentDesk", "ConsentOrder"]

Json = dict[str, Any]
Identifiers = tuple[tuple[str, str], ...]

SOURCE: Final = "control"  # what records name as the source of what was said here
_LOGINS: Final = ("user_id", "crm_id")  # what only somebody who logged in is known by


class Namer(Protocol):
    """Identifiers to nodes."""

    def node(self, namespace: int, value: str) -> bytes | None: ...


class Unwritten(Protocol):
    """What remembers something of a batch, and has to forget it where that was not written."""

    def forget_unwritten(self) -> None: ...


class Audit(Protocol):
    """Where it is written down who did what."""

    def add(
        self,
        batch: Batch,
        *,
        actor: str,
        action: str,
        object: bytes | str,
        details: Mapping[str, Any],
    ) -> int: ...


class ConsentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A statement to record: purposes, or the consent state of another platform."""

    identifiers: Identifiers
    purposes: dict[str, bool] = {}
    consent_state: Any = None
    kind: str = "api"
    by: str = "operator"
    at_us: int | None = None  # when it was said, where that was not now
    jurisdiction: str = ""
    objection: bool = False
    expires_at_us: int | None = None
    proof: Proof = Proof()


class ConsentDesk:
    """Reads and writes the ledger for the control plane."""

    def __init__(
        self,
        store: Store,
        ledger: ConsentLedger,
        rules: Rules,
        texts: PolicyTexts,
        namer: Namer,
        vault: Unwritten,
        audit: Audit,
        clock: Clock,
        *,
        suppressed: Container[bytes] = frozenset(),
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._rules = rules
        self._texts = texts
        self._namer = namer
        self._vault = vault
        self._audit = audit
        self._clock = clock
        self._suppressed = suppressed

    def consent_of(self, namespace: str, value: str) -> Json:
        """Where the person stands whom an identifier names. Raises InvalidEvent, Overloaded."""
        node = self._named(namespace, value)
        standing = standing_form(self._ledger.standing(node))
        return {"identifiers": len(self._ledger.person(node)), "standing": standing}

    def consent_history(self, namespace: str, value: str) -> list[Json]:
        """Everything that the person ever said, oldest first, with the proof of it."""
        node = self._named(namespace, value)
        return [self._record_form(said) for said in self._ledger.history(self._ledger.person(node))]

    async def record_consent(self, order: ConsentOrder) -> Json:
        """Records what somebody said, durably. Raises InvalidEvent where it cannot be."""
        nodes = self._nodes(order.identifiers)
        now_us = self._clock.now_us()
        statements = self._statements(order, now_us)
        logins = self._nodes(tuple(one for one in order.identifiers if one[0] in _LOGINS))
        batch, first = self._store.batch(), self._ledger.head
        try:
            count = sum(
                self._ledger.note(batch, nodes, statement, verified=logins)
                for statement in statements
            )
            self._note_audit(batch, order.by, "consent_recorded", nodes, first, count)
            self._store.write(batch)
        except BaseException:
            self._forget_unwritten()
            raise
        await self._store.sync()
        return {"records": list(range(first, first + count))}

    async def restrict_processing(
        self, identifiers: Identifiers, *, on: bool, by: str, reason: str
    ) -> Json:
        """Restricts processing of somebody's data, or ends that, durably."""
        nodes = self._nodes(identifiers)
        batch, first = self._store.batch(), self._ledger.head
        proof = Proof(actor=by, notice=reason)
        now_us = self._clock.now_us()
        try:
            count = self._ledger.restrict(
                batch, nodes, on, now_us=now_us, kind="console", source=SOURCE, proof=proof
            )
            action = "restricted" if on else "unrestricted"
            self._note_audit(batch, by, action, nodes, first, count)
            self._store.write(batch)
        except BaseException:
            self._forget_unwritten()
            raise
        await self._store.sync()
        return {"records": list(range(first, first + count)), "restricted": on}

    def _statements(self, order: ConsentOrder, now_us: int) -> list[Statement]:
        regime = self._rules.regime_for(order.jurisdiction).label
        if order.consent_state is not None:
            return read_consent_state(
                order.consent_state,
                sale_or_share=self._rules.sale_or_share,
                source=SOURCE,
                received_at_us=now_us,
                regime=regime,
                jurisdiction=order.jurisdiction,
            )
        self._check_purposes(order)
        return [
            Statement(
                purposes=order.purposes,
                kind=order.kind,
                authority="server",
                source=SOURCE,
                at_us=now_us if order.at_us is None else order.at_us,
                received_at_us=now_us,
                jurisdiction=order.jurisdiction,
                regime=regime,
                objection=order.objection,
                expires_at_us=order.expires_at_us,
                proof=self._proof(order),
            )
        ]

    def _check_purposes(self, order: ConsentOrder) -> None:
        """A server that names a purpose of nobody's has misspelt one."""
        unknown = sorted(order.purposes.keys() - self._rules.named)
        if unknown or not order.purposes:
            raise InvalidEvent(
                "unknown_purpose",
                f"purposes: expected one or more of {', '.join(sorted(self._rules.named))}",
            )
        if order.objection and any(order.purposes.values()):
            raise InvalidEvent("invalid_consent", "an objection cannot grant: write false")

    def _proof(self, order: ConsentOrder) -> Proof:
        """The proof with the hash of the text that was shown, which must be one of ours."""
        proof = msgspec.structs.replace(order.proof, actor=order.by)
        if proof.policy is None:
            return proof
        version = proof.policy_version or self._texts.version_of(proof.policy)
        shown = self._texts.labelled(f"{proof.policy}@{version}")
        if proof.language is not None:
            shown = tuple(text for text in shown if text.language == proof.language)
        hashes = {text.sha256: text for text in shown}
        text = hashes.get(proof.text_sha256) if proof.text_sha256 else next(iter(shown), None)
        if text is None:
            raise InvalidEvent(
                "unknown_policy",
                "proof: no such policy text was ever configured; see [consent.policies]",
            )
        return msgspec.structs.replace(
            proof, policy_version=text.version, text_sha256=text.sha256, language=text.language
        )

    def _record_form(self, said: Said) -> Json:
        record = said.record
        return {
            "record": record.seq,
            "action": record.action,
            "purposes": record.said,
            "objection": record.objection,
            "how": record.kind,
            "said_by": record.authority,
            "source": record.source,
            "said_at": isoformat(record.at_us),
            "received_at": isoformat(record.received_at_us),
            "expires_at": isoformat(record.expires_at_us) if record.expires_at_us else None,
            "jurisdiction": record.jurisdiction or None,
            "regime": record.regime or None,
            "policy": record.policy or None,
            "text_sha256": record.text_sha256 or None,
            "identifier": record.node.hex(),
            "proof": None if said.proof is None else msgspec.to_builtins(said.proof),
        }

    def _named(self, namespace: str, value: str) -> bytes:
        """Whom a question names: an identifier, or a profile id."""
        profile_id = parse_profile_id(value) if namespace == "profile_id" else None
        return profile_id or self._node(namespace, value)

    def _nodes(self, identifiers: Sequence[tuple[str, str]]) -> list[bytes]:
        nodes = [self._named(namespace, value) for namespace, value in identifiers]
        if any(node in self._suppressed for node in nodes):
            raise InvalidEvent(
                "suppressed", "the person was erased or suppressed; nothing is stored about them"
            )
        return list(dict.fromkeys(nodes))

    def _node(self, namespace: str, value: str) -> bytes:
        code = NAMESPACE_CODE.get(namespace)
        if code is None:
            raise InvalidEvent(
                "unknown_namespace",
                f"identifiers: expected a namespace of {', '.join(NAMESPACES)}",
            )
        node = self._namer.node(code, value)
        if node is None:
            raise InvalidEvent(
                "unusable_identifier",
                f"identifiers.{namespace}: not a value that tells people apart",
            )
        return node

    def _note_audit(
        self, batch: Batch, by: str, action: str, nodes: list[bytes], first: int, count: int
    ) -> None:
        for node in nodes:
            details = {"first_record": first, "records": count}
            self._audit.add(batch, actor=by, action=action, object=node, details=details)

    def _forget_unwritten(self) -> None:
        for one in (self._ledger, self._vault):
            one.forget_unwritten()
