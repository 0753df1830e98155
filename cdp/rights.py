"""Erasure and access in one daemon: the engine of `cdp.consent.erasure` over everybody who holds
something of a person.

What is asked of each holder stands here and nowhere else, so this is the list of all the places
that have to forget: identity, deliveries, exports, rejected events, the event log's memory, the
destinations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from cdp.consent.destinations_told import Answer
from cdp.consent.erasure import Erasures
from cdp.consent.erasure_steps import Holders, House
from cdp.consent.reapplying import reapply
from cdp.consent.requests import RequestBook
from cdp.consent.tombstones import FileTombstones, Tombstones
from cdp.delivery.destination import Erased, ErasureAccepted, ErasureUnsupported
from cdp.delivery.destination import Erasure as ToErase
from cdp.domain.event import decode_event
from cdp.domain.identifier import NAMESPACE_CODE
from cdp.identity.actor import READER as IDENTITY
from cdp.identity.rows import moment_of
from cdp.ingestion.rejected import delete_naming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from cdp.config import Config
    from cdp.consent.destinations_told import Order
    from cdp.consent.erasure import Exports
    from cdp.delivery.control import Deliveries
    from cdp.delivery.destination import ErasureOutcome
    from cdp.environment import Environment
    from cdp.governance import Governance
    from cdp.identity.actor import IdentityActor
    from cdp.identity.profiles import Profiles
    from cdp.ingestion import Intake
    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Log
    from cdp.storage.store import Store
    from cdp.telemetry import Journal, Metrics

ROWS_AT_ONCE: Final = 256
LOOK_S: Final = 0.01  # between two looks whether identity has caught up
DAY_US: Final = 86_400_000_000

Pair = tuple[str, str]


class Held:
    """What everybody holds of people, and how it is deleted there."""

    def __init__(
        self,
        *,
        store: Store,
        events: Log,
        cursors: Cursors,
        intake: Intake,
        identity: IdentityActor,
        profiles: Profiles,
        governance: Governance,
    ) -> None:
        self._store = store
        self._events = events
        self._cursors = cursors
        self._intake = intake
        self._identity = identity
        self._profiles = profiles
        self._governance = governance

    async def identifiers_of(self, nodes: Collection[bytes]) -> Iterable[Pair]:
        """The raw identifiers behind nodes, while their keys are there."""
        values = self._profiles.values(sorted(nodes)).values()
        return [(one.namespace, one.value) for one in values]

    async def message_keys_of(self, nodes: Collection[bytes]) -> AsyncIterator[Sequence[bytes]]:
        """The keys in `seen` of the events that were stored under these nodes."""
        for node in nodes:
            start, end = node, node + b"\xff" * 17
            while rows := self._store.scan("timeline", start, end, limit=ROWS_AT_ONCE):
                yield self._message_keys(moment_of(key, value).offset for key, value in rows)
                start = rows[-1][0] + b"\x00"
                await trio.lowlevel.checkpoint()

    def _message_keys(self, offsets: Iterable[int]) -> list[bytes]:
        records = filter(None, map(self._events.get, offsets))
        return [self._intake.keys.of(decode_event(record).message_id) for record in records]

    async def purge_rejected(self, pairs: Collection[Pair]) -> int:
        """Deletes rejected events that name one of these identifiers."""
        nodes = {self.node(namespace, value) for namespace, value in pairs} - {None}
        governance = self._governance
        return await delete_naming(self._store, governance.vault, governance.namer, nodes, pairs)

    def node(self, namespace: str, value: str) -> bytes | None:
        """The node of an identifier; None where the value cannot be one."""
        code = NAMESPACE_CODE.get(namespace)
        if code is None:
            return self._profiles.node(namespace, value)
        return self._governance.namer.node(code, value)

    def resolves(self, node: bytes) -> bool:
        """Whether identity still knows a node."""
        return self._governance.people.profile_of(node) is not None

    async def settled(self) -> None:
        """Returns when identity has seen every event that is stored now."""
        until = self._events.published
        while self._cursors.get(IDENTITY) < until:  # noqa: ASYNC110 - cursors wake nobody
            await trio.sleep(LOOK_S)


class Tools:
    """The destinations, as an erasure speaks to them."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries

    def names(self) -> Collection[str]:
        """Those that are switched on."""
        return self._deliveries.names

    async def erase_at(self, name: str, order: Order) -> Answer:
        """Has a destination forget a person."""
        erasure = ToErase(
            erasure_id=order.erasure_id,
            profile_ids=order.profile_ids,
            identifiers=order.identifiers,
            requested_at=order.requested_at,
        )
        return _answer(await self._deliveries.erase(name, order.nodes, erasure))

    async def status_at(self, name: str, remote_id: str) -> Answer:
        """How far a destination is with what it accepted."""
        return _answer(await self._deliveries.erasure_status(name, remote_id))


def _answer(outcome: ErasureOutcome) -> Answer:
    if isinstance(outcome, Erased):
        return Answer(state="erased", text=outcome.evidence or "")
    if isinstance(outcome, ErasureAccepted):
        return Answer(state="accepted", remote_id=outcome.remote_id)
    if isinstance(outcome, ErasureUnsupported):
        return Answer(state="unsupported", text=outcome.instructions)
    return Answer(state="retry", text=outcome.reason, after_s=outcome.after_s or 0.0)


class Rights:
    """The engine of a daemon, and what it is made of.

    Raises:
        StoreDamaged: the ledger of erasures is not what was written.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        *,
        store: Store,
        events: Log,
        cursors: Cursors,
        intake: Intake,
        identity: IdentityActor,
        profiles: Profiles,
        deliveries: Deliveries,
        governance: Governance,
        exports: Exports,
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self.held = Held(
            store=store,
            events=events,
            cursors=cursors,
            intake=intake,
            identity=identity,
            profiles=profiles,
            governance=governance,
        )
        house = self._house(config, environment, store, governance)
        self.book = RequestBook(
            store,
            governance.vault,
            clock=environment.clock,
            new_id=environment.new_id,
            open_max=config.limits.requests_open_max,
        )
        self.erasures = Erasures(
            house=house,
            holders=self._holders(events, identity, deliveries, exports),
            book=self.book,
            outside=Tools(deliveries),
            exports=exports,
            name=self.held.node,
            retry_us_max=int(config.limits.erasure_retry_days_max * DAY_US),
            metrics=metrics,
            journal=journal,
        )

    def about(self, nodes: Sequence[bytes]) -> list[dict[str, Any]]:
        """The requests that still know whom they are about, where that is one of these."""
        asked = set(nodes)
        found = []
        for request in self.book.all():
            secret = self.book.secret(request) if request.sealed else None
            if secret is not None and not asked.isdisjoint([*secret.named, *secret.nodes]):
                found.append(self.erasures.told(request))
        return found

    async def reapply(self) -> int:
        """Erases again what a restored store brought back; to be awaited before events come in."""
        return await reapply(self.erasures.steps)

    def _house(
        self, config: Config, environment: Environment, store: Store, governance: Governance
    ) -> House:
        path = config.privacy.erasure_ledger or config.data_dir / "erasures.log"
        open_ledger = environment.open_erasures or FileTombstones
        tombstones = Tombstones(open_ledger(path), environment.clock, environment.run_in_thread)
        return House(
            store=store,
            vault=governance.vault,
            keys=governance.keys,
            suppression=governance.suppression,
            ledger=governance.ledger,
            people=governance.people,
            audit=governance.audit,
            tombstones=tombstones,
            clock=environment.clock,
            run_in_thread=environment.run_in_thread,
            data_dir=config.data_dir if environment.open_erasures is None else None,
        )

    def _holders(
        self, events: Log, identity: IdentityActor, deliveries: Deliveries, exports: Any
    ) -> Holders:
        return Holders(
            identifiers_of=self.held.identifiers_of,
            message_keys_of=self.held.message_keys_of,
            identity_erase=lambda nodes: identity.erase(list(nodes)),
            purge_deliveries=deliveries.purge,
            erase_exports=exports.erase,
            purge_rejected=self.held.purge_rejected,
            resolves=self.held.resolves,
            settled=self.held.settled,
            forget_cached=[events.forget_cached],
            forget_recipients=deliveries.forget_recipients,
        )
