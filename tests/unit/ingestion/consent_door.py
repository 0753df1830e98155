"""Ingestion with keys, suppression and the consent ledger behind it, over a store in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from cdp._matcher import Namer
from cdp.config import Identity, Limits, Source
from cdp.config_consent import Consent, Purpose
from cdp.consent.ledger import ConsentLedger
from cdp.consent.rules import Rules
from cdp.domain.event import Event, decode_event
from cdp.domain.identifier import NAMESPACE_CODE
from cdp.domain.naming import ANONYMOUS_ID, EMAIL, USER_ID
from cdp.ingestion import Intake
from cdp.ingestion.stamp import Stamper
from cdp.storage.codec import SealedCodec
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.log import Log
from cdp.storage.vault import Vault
from tests.unit.ingestion.front_door import FrontDoor, run_door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from cdp.domain.consent import Standing

IDENTITY_KEY = b"k" * 16
PAGE = "https://shop.example.com"
CONSENT = Consent(
    jurisdiction="US-CA",
    purposes={"ads": Purpose(sale_or_share=True), "email": Purpose(), "stats": Purpose()},
)
SOURCES = {
    "web": Source(write_key="wk_test"),
    "shop": Source(write_key="wk_shop", allowed_origins=(PAGE,), grants=True),
    "api": Source(write_key="wk_api", kind="server"),
}


def naming_rules(identity: Identity) -> str:
    namespaces = {
        name: {"code": NAMESPACE_CODE[name], **msgspec.to_builtins(rule)}
        for name, rule in identity.effective_rules().items()
    }
    rules = {
        "default_region": identity.default_region,
        "hull_nodes_max": identity.hull_nodes_max,
        "blocked_values": list(identity.blocked_values),
        "namespaces": namespaces,
    }
    return msgspec.json.encode(rules).decode()


class Group:
    """Who is one person: identifiers that a test says are."""

    def __init__(self) -> None:
        self.ready = True
        self.groups: list[list[bytes]] = []

    def members(self, profile_id: bytes) -> Sequence[bytes]:
        return next((group for group in self.groups if profile_id in group), [profile_id])

    def profile_of(self, node: bytes) -> bytes | None:
        return self.members(node)[0]


class SuppressedNodes:
    """Whom nothing may be stored about."""

    def __init__(self) -> None:
        self.nodes: set[bytes] = set()

    def any_of(self, nodes: Iterable[bytes]) -> bool:
        return not self.nodes.isdisjoint(nodes)


class ConsentDoor(FrontDoor):
    """A front door whose log writer has all its collaborators."""

    def __init__(self, consent: Consent = CONSENT, limits: Limits | None = None) -> None:
        self.namer = Namer(IDENTITY_KEY, naming_rules(Identity()))
        self.suppression = SuppressedNodes()
        self.people = Group()
        super().__init__(limits or Limits(), SOURCES, consent)

    def new_intake(self) -> Intake:
        self.keys = MemoryKeys()
        self.vault = Vault(self.keys, self.store, master=b"m" * 32, seed=b"s" * 32)
        self.log = Log(self.store, "events", SealedCodec(self.vault, "events"))
        self.rules = Rules.from_config(self.config)
        self.ledger = ConsentLedger(self.store, self.vault, self.rules, self.people)
        return Intake(
            store=self.store,
            events=self.log,
            clock=self.clock,
            limits=self.limits,
            metrics=self.metrics,
            journal=self.journal,
            key=IDENTITY_KEY,
            namer=self.namer,
            suppression=self.suppression,
            ledger=self.ledger,
            vault=self.vault,
        )

    def new_stamper(self) -> Stamper:
        return Stamper(
            self.config.consent,
            regime_for=self.rules.regime_for,
            head=lambda: self.ledger.head,
        )

    def node(self, namespace: int, value: str) -> bytes:
        node = self.namer.node(namespace, value)
        assert node is not None
        return node

    def user(self, value: str) -> bytes:
        return self.node(USER_ID, value)

    def device(self, value: str) -> bytes:
        return self.node(ANONYMOUS_ID, value)

    def mail(self, value: str) -> bytes:
        return self.node(EMAIL, value)

    def standing(self, node: bytes) -> Standing:
        return self.ledger.standing(node)

    def state(self, node: bytes, purpose: str) -> str | None:
        latest = self.standing(node).purposes.get(purpose)
        return latest.state if latest is not None else None

    def events(self) -> list[Event]:
        return [decode_event(one.record) for one in self.log.read(0, 100_000) if one.record]


def key_of(source: str) -> dict[str, Any]:
    """The headers of a source."""
    return {"auth": None, "X_Write_Key": SOURCES[source].write_key}


@asynccontextmanager
async def open_consent_door(**given: Any) -> AsyncIterator[ConsentDoor]:
    async with run_door(ConsentDoor(**given)) as door:
        yield door
