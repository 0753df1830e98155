"""People's rights in one daemon: keys, suppression, consent, audit, made over one open store.

What each of them does is decided in `cdp.storage.vault` and `cdp.consent`; here they are only put
together. Its actors keep the keys' pool filled, sign the audit log, and write down what was in
flight when somebody withdrew.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from cdp import __version__
from cdp._matcher import Namer
from cdp.actors import Actor
from cdp.config import Secret
from cdp.consent.audit import AuditLog
from cdp.consent.checkpoints import Checkpoints, open_signer
from cdp.consent.desk import ConsentDesk
from cdp.consent.ledger import ConsentLedger
from cdp.consent.rules import Rules
from cdp.consent.start_record import record_start
from cdp.consent.suppression import Suppression
from cdp.consent.texts import PolicyTexts
from cdp.domain.naming import named_in_event
from cdp.identity.people import People
from cdp.ingestion.plan import open_plan
from cdp.ingestion.stamp import Stamper
from cdp.storage.master import master_key
from cdp.storage.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from cdp._matcher import Resolver
    from cdp.config import Config
    from cdp.delivery.flights import Recalled
    from cdp.domain.consent import Standing
    from cdp.domain.event import Event
    from cdp.environment import Environment
    from cdp.storage.store import Store
    from cdp.telemetry import Journal, Metrics


class Standings:
    """Where people stand, as delivery asks."""

    def __init__(self, ledger: ConsentLedger, people: People, namer: Namer) -> None:
        self.standing: Callable[[bytes], Standing] = ledger.standing
        self._ledger = ledger
        self._people = people
        self._namer = namer

    @property
    def ready(self) -> bool:
        """Whether it is known who is who."""
        return self._people.ready

    def standing_apart(self, leaf: bytes, profile_id: bytes) -> Standing | None:
        """Where the person of an identifier stands; None where it is this profile's, or nobody's.

        What a shared device says holds for nobody who is known: its events are somebody's by a
        sign-in, and that person is asked.
        """
        people = self._people
        today = people.profile_of(leaf)
        if today is None or today == profile_id or today == people.profile_of(profile_id):
            return None
        return None if people.is_shared(leaf) else self._ledger.standing(today)

    def standing_of_device(self, event: Event) -> Standing:
        """Where an event's own identifiers stand, where it belongs to nobody who is known."""
        (nodes,) = self._namer.nodes([named_in_event(event)])
        return self._ledger.standing_of(nodes)


class Governance:
    """Everything that people's rights need, over one store.

    Raises:
        ConfigError: a key, a regime, a policy text, the plan or the country table cannot be used.
        StoreDamaged: the key file is missing, older than the store, or changed.
    """

    def __init__(
        self,
        config: Config,
        environment: Environment,
        store: Store,
        *,
        key: bytes,
        identity_rules: str,
        resolver: Callable[[], Resolver | None],
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self._config = config
        self._environment = environment
        self._store = store
        self._journal = journal
        clock = environment.clock
        self.keys = environment.open_keys(config.data_dir)
        self.vault = _open_vault(config, environment, store, self.keys)
        self.namer = Namer(key, identity_rules)
        self.suppression = Suppression(store)
        self.audit = AuditLog(store, clock)
        self.rules = Rules.from_config(config)
        self.people = People(resolver)
        self.ledger = ConsentLedger(
            store,
            self.vault,
            self.rules,
            self.people,
            suppressed=self.suppression.nodes,
            cache_max=config.limits.standing_cache_max,
        )
        self.standings = Standings(self.ledger, self.people, self.namer)
        self.texts = PolicyTexts(store, config.consent.policies, now_us=clock.now_us())
        self.plan = open_plan(config.tracking_plan, metrics)
        self.stamper = Stamper.from_config(
            config, regime_for=self.rules.regime_for, head=lambda: self.ledger.head
        )
        self.desk = ConsentDesk(
            store,
            self.ledger,
            self.rules,
            self.texts,
            self.namer,
            self.vault,
            self.audit,
            clock,
            suppressed=self.suppression.nodes,
        )
        self.checkpoints = Checkpoints(
            store=store,
            audit=self.audit,
            signer=open_signer(config.privacy, key),
            clock=clock,
            run_in_thread=environment.run_in_thread,
            metrics=metrics,
            journal=journal,
            witness=config.privacy.audit_witness,
        )
        self._recall: Callable[[Collection[bytes]], list[Recalled]] | None = None
        self._recalled: list[Recalled] = []
        self._noticed = trio.Event()
        self.ledger.on_restriction.append(self._call_back)
        for name in self.vault.statistics():
            metrics.gauge(f"cdp_keys_{name}", partial(self._key_count, name))

    def record_start(self, uses: Mapping[str, Collection[str]]) -> None:
        """Writes down with which configuration the daemon starts, and what changed in it."""
        plan = "" if self.plan is None else self.plan.plan.digest
        record_start(
            self._store,
            self.audit,
            configuration=msgspec.json.encode(self._config, enc_hook=_shown, order="deterministic"),
            uses=uses,
            plan_sha256=plan,
            version=__version__,
        )

    def call_back_with(self, recall: Callable[[Collection[bytes]], list[Recalled]]) -> None:
        """Who takes attempts back when a person withdraws."""
        self._recall = recall

    def actors(self, stopping: trio.Event) -> list[Actor]:
        """What runs beside the folds. All of it writes, but the pool of keys."""
        return [
            Actor("keys", partial(self.vault.keep_pool, stopping, self._environment.run_in_thread)),
            Actor("audit", partial(self.checkpoints.run, stopping)),
            Actor("recalls", partial(self._note_recalls, stopping)),
        ]

    def close(self) -> None:
        """Forgets the keys and lets go of their file."""
        self.vault.close()

    def _key_count(self, name: str) -> float:
        return self.vault.statistics()[name]

    def _call_back(self, nodes: Sequence[bytes]) -> None:
        """Stops what flies about a person at once; that it flew is written down soon after."""
        if self._recall is None:
            return
        affected = set(nodes)
        if self.people.ready:
            for node in nodes:
                affected.update(self.ledger.person(node))
        recalled = self._recall(affected)
        if recalled:
            self._recalled += recalled
            self._noticed.set()

    async def _note_recalls(self, stopping: trio.Event) -> None:
        # Not where it happens: somebody else's batch is open then, with records of its own.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._stop_noting, stopping)
            while not stopping.is_set():
                await self._noticed.wait()
                self._noticed = trio.Event()
                if self._recalled:
                    self._write_recalls()
            nursery.cancel_scope.cancel()

    async def _stop_noting(self, stopping: trio.Event) -> None:
        await stopping.wait()
        self._noticed.set()

    def _write_recalls(self) -> None:
        batch = self._store.batch()
        for destination, offsets in self._recalled:
            self.audit.add(
                batch,
                actor="cdp",
                action="in_flight_at_withdrawal",
                object=destination,
                details={"destination": destination, "event_offsets": list(offsets)},
            )
        self._store.write(batch)
        self._recalled.clear()


def _open_vault(config: Config, environment: Environment, store: Store, keys: Any) -> Vault:
    current, previous = master_key(config)
    return Vault(
        keys,
        store,
        master=current,
        previous=previous,
        seed=environment.new_seed(),
        cache_max=config.limits.key_cache_max,
    )


def _shown(value: object) -> str:
    """What a configuration's hash is made of; a secret counts by being there."""
    if isinstance(value, (Path, Secret)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a value of a configuration")
