"""The only wiring: a configuration and an environment become a running daemon.

`Daemon` makes every part over one store, and `run` keeps them running until it is told to stop.
The simulation makes the same daemon over its own environment.

Draining goes with the stream: the gateway answers what it has, the log writer stores what waits,
and then every fold stops at its next batch boundary. Nothing needs to be empty for that, since
what was not folded yet is folded after the next start.
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from cdp.actors import Actor, RestartPolicy, open_supervisor
from cdp.console.app import control_app, serve_control
from cdp.console.consent_routes import ConsentRoutes
from cdp.console.plan_routes import PlanRoutes
from cdp.console.rights import make_rights
from cdp.delivery.control import Deliveries
from cdp.delivery.setup import begin_new, open_outlets
from cdp.domain.identifier import NAMESPACE_CODE
from cdp.errors import ConfigError, StorageError, StoreFull
from cdp.governance import Governance
from cdp.housekeeping import Housekeeping
from cdp.identity.actor import IdentityActor
from cdp.ingestion import Gateway, Intake
from cdp.load import LoopLoad
from cdp.operations import Operations
from cdp.privacy_desk import People, PrivacyDesk
from cdp.rights import Rights
from cdp.segmentation.actor import run_segmentation
from cdp.storage.codec import SealedCodec
from cdp.storage.fold import Pace
from cdp.storage.log import Cursors, Log
from cdp.telemetry import Journal, Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from starlette.routing import Route

    from cdp.config import Config, Identity
    from cdp.environment import Environment
    from cdp.storage.store import Store

LOGS: Final = ("events", "changes", "activations")
NEVER_AGAIN: Final = RestartPolicy(crashes_max=0)
FULL_DISK_RETRY_S: Final = 10.0
KEY_BYTES_MIN: Final = 16


class Daemon:
    """Every part of one daemon, over one open store. Making it starts nothing.

    Raises:
        ConfigError: a destination's plugin or its settings cannot be used.
    """

    def __init__(self, config: Config, environment: Environment, store: Store, key: bytes) -> None:
        self.config = config
        self.environment = environment
        self.store = store
        self.key = key
        self.metrics = Metrics()
        self.journal = Journal(environment.clock)
        self.governance = self._make_governance()
        events = Log(store, "events", SealedCodec(self.governance.vault, "events"))
        self.logs = {"events": events} | {family: Log(store, family) for family in LOGS[1:]}
        self.cursors = Cursors(store)
        self.ports = Ports()
        self.folding_ends = trio.Event()
        self.intake = self._make_intake()
        self.gateway = self._make_gateway()
        self.load = LoopLoad()
        self.pace = Pace(busy=lambda: self.load.busy and self.intake.busy)
        self.identity = self._make_identity()
        self.deliveries = self._make_deliveries()
        self.operations = self._make_operations()
        self.people = self._make_people()
        self.rights = self._make_rights()
        self.privacy = self._make_privacy()
        self.housekeeping = self._make_housekeeping()

    def _make_governance(self) -> Governance:
        return Governance(
            self.config,
            self.environment,
            self.store,
            key=self.key,
            identity_rules=rules_json(self.config.identity),
            resolver=lambda: self.identity.resolver,
            metrics=self.metrics,
            journal=self.journal,
        )

    def _make_intake(self) -> Intake:
        governance = self.governance
        return Intake(
            store=self.store,
            events=self.logs["events"],
            clock=self.environment.clock,
            limits=self.config.limits,
            metrics=self.metrics,
            journal=self.journal,
            key=self.key,
            namer=governance.namer,
            suppression=governance.suppression,
            ledger=governance.ledger,
            vault=governance.vault,
            plan=governance.plan,
        )

    def _make_gateway(self) -> Gateway:
        return Gateway(
            config=self.config,
            intake=self.intake,
            environment=self.environment,
            metrics=self.metrics,
            journal=self.journal,
            stamper=self.governance.stamper,
        )

    def _make_identity(self) -> IdentityActor:
        identity = IdentityActor(
            store=self.store,
            events=self.logs["events"],
            changes=self.logs["changes"],
            cursors=self.cursors,
            key=self.key,
            rules=rules_json(self.config.identity),
            stopping=self.folding_ends,
            run_in_thread=self.environment.run_in_thread,
            batch_max=self.config.limits.fold_batch_max,
            fragment_cache_max=self.config.limits.fragment_cache_max,
            pace=self.pace,
            vault=self.governance.vault,
            suppression=self.governance.suppression,
        )
        identity.on_change = self.governance.ledger.changed
        return identity

    def _make_deliveries(self) -> Deliveries:
        activations = self.logs["activations"]
        outlets = open_outlets(
            self.config,
            self.environment,
            rules=self.governance.rules,
            standings=self.governance.standings,
            store=self.store,
            events=self.logs["events"],
            activations=activations,
            cursors=self.cursors,
            metrics=self.metrics,
            journal=self.journal,
        )
        begin_new(outlets, self.store, self.cursors, activations)
        self.governance.record_start({one.name: one.purposes for one in outlets})
        clock = self.environment.clock
        deliveries = Deliveries(outlets, self.metrics, store=self.store, clock=clock)
        self.governance.call_back_with(deliveries.recall)
        return deliveries

    def _make_operations(self) -> Operations:
        return Operations(
            config=self.config,
            environment=self.environment,
            store=self.store,
            logs=self.logs,
            cursors=self.cursors,
            metrics=self.metrics,
            intake=self.intake,
            identity=self.identity,
            deliveries=self.deliveries,
            governance=self.governance,
            key=self.key,
        )

    def _make_people(self) -> People:
        return People(
            self.config,
            self.environment,
            store=self.store,
            profiles=self.operations.profiles,
            history=self.operations.history,
            governance=self.governance,
            requests=lambda nodes: self.rights.about(nodes),
        )

    def _make_rights(self) -> Rights:
        return Rights(
            self.config,
            self.environment,
            store=self.store,
            events=self.logs["events"],
            cursors=self.cursors,
            intake=self.intake,
            identity=self.identity,
            profiles=self.operations.profiles,
            deliveries=self.deliveries,
            governance=self.governance,
            exports=self.people.exports,
            metrics=self.metrics,
            journal=self.journal,
        )

    def _make_privacy(self) -> PrivacyDesk:
        return PrivacyDesk(
            self.config,
            self.environment,
            store=self.store,
            logs=self.logs,
            people=self.people,
            profiles=self.operations.profiles,
            governance=self.governance,
            rights=self.rights,
            uses=self.deliveries.uses,
            offset_of=self.operations.offset_of,
        )

    def _make_housekeeping(self) -> Housekeeping:
        return Housekeeping(
            config=self.config,
            clock=self.environment.clock,
            store=self.store,
            logs=self.logs,
            cursors=self.cursors,
            deliveries=self.deliveries,
            message_keys=self.intake.keys,
            metrics=self.metrics,
            expire_exports=self.people.exports.expire,
            journal=self.journal,
        )

    async def run(self, stopping: trio.Event, started: Callable[[Ports], None]) -> None:
        """Runs until `stopping` is set and what was taken is stored.

        Raises:
            ExceptionGroup: of ActorGaveUp or StorageError; the process must end, and start again.
        """
        trio.lowlevel.add_instrument(self.load)
        listeners = await self._listen()
        async with open_supervisor(on_crash=self.note_crash) as supervisor:
            for actor in self.folds():
                supervisor.start(actor)
            supervisor.start(Actor("deliveries", self._deliver))
            for actor in self.governance.actors(self.folding_ends):
                run = partial(self._when_there_is_room, actor.run)
                supervisor.start(Actor(actor.name, run))
            supervisor.start(Actor("housekeeping", self._keep_house))
            await self.rights.reapply()  # before anybody is let in
            erase = partial(self._when_there_is_room, self._erase)
            supervisor.start(Actor("erasures", erase))
            supervisor.start(Actor("control plane", self._serve_control))
            take_events = partial(self._take_events, listeners, stopping)
            supervisor.start(Actor("data plane", take_events, restart=NEVER_AGAIN))
            await self.ports.bound.wait()
            started(self.ports)
            await self._drain(stopping)

    def folds(self) -> list[Actor]:
        """The folds from the event log to the activation log."""
        return [
            Actor("identity", partial(self._when_there_is_room, self.identity.run)),
            Actor("segmentation", partial(self._when_there_is_room, self._segment)),
        ]

    def note_start(self, ports: Ports) -> None:
        """Tells the journal where the daemon listens."""
        self.journal.info("started", port=ports.data, control_port=ports.control)

    def note_crash(self, actor: Actor, crash: Exception) -> None:
        """A storage error ends the process at once; any other crash is noted, and run again."""
        if is_of_the_store(crash):
            raise crash
        self.journal.error("actor_crashed", actor=actor.name, error=crash)
        self.metrics.counter("cdp_actor_crashes_total", actor=actor.name).add()

    async def _when_there_is_room(self, run: Callable[[], Awaitable[None]]) -> None:
        """Runs what writes. On a full disk it starts anew from the store, once a while has passed.

        Only this much of a full disk is waited for here: what `run` had in memory may be ahead of
        the store, so it is thrown away, and nothing of it was committed.
        """
        while True:
            try:
                return await run()
            except* StoreFull:
                self.journal.warn("disk_full", retry_after_s=FULL_DISK_RETRY_S)
            await trio.sleep(FULL_DISK_RETRY_S)

    async def _listen(self) -> Sequence[trio.abc.Listener[Any]]:
        """Listeners of the data plane; and sees that the control plane's port is free."""
        gateway, control = self.config.gateway, self.config.control
        for listener in await self._bind("control", control.host, control.port):
            await listener.aclose()
        listeners = await self._bind("gateway", gateway.host, gateway.port)
        self.ports.data = _port_of(listeners) or gateway.port
        if gateway.tls_certificate is None:
            return listeners
        context = _tls_context(self.config)
        return [
            trio.SSLListener(listener, context, https_compatible=True) for listener in listeners
        ]

    async def _bind(self, plane: str, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        try:
            return await self.environment.network.listen(host, port)
        except OSError as error:
            raise ConfigError(
                f"{self.config.path}: {plane}: cannot listen on {host}:{port}: "
                f"{error.strerror or error}; choose another port or stop what has it"
            ) from error

    async def _take_events(
        self, listeners: Sequence[trio.abc.Listener[Any]], stopping: trio.Event
    ) -> None:
        """The data plane: once the gateway has answered its last request, the writer ends."""
        async with open_supervisor(on_crash=self.note_crash) as supervisor:
            # A crash of the writer leaves requests whose outcome nobody knows: start anew.
            supervisor.start(Actor("log writer", self.intake.run, restart=NEVER_AGAIN))
            await self.gateway.serve(listeners, stopping)
            self.intake.end()

    async def _segment(self) -> None:
        await run_segmentation(
            store=self.store,
            changes=self.logs["changes"],
            activations=self.logs["activations"],
            cursors=self.cursors,
            stopping=self.folding_ends,
            batch_max=self.config.limits.fold_batch_max,
            pace=self.pace,
        )

    async def _deliver(self) -> None:
        """A supervisor of its own: a destination that gives up stops alone."""
        async with open_supervisor(on_crash=self.note_crash) as supervisor:
            for actor in self.deliveries.actors(self.folding_ends):
                supervisor.start(Actor(actor.name, partial(self._deliver_to, actor)))

    async def _deliver_to(self, actor: Actor) -> None:
        """Runs one destination's actor. One that gives up waits for an operator's restart."""
        run = partial(self._when_there_is_room, actor.run)
        try:
            async with open_supervisor(on_crash=self.note_crash) as supervisor:
                supervisor.start(Actor(actor.name, run))
        except* Exception as group:
            if is_of_the_store(group):
                raise
            self.journal.error("destination_gave_up", actor=actor.name)
            await self.folding_ends.wait()

    async def _erase(self) -> None:
        await self.rights.erasures.run(self.folding_ends)

    async def _keep_house(self) -> None:
        await self._when_there_is_room(partial(self.housekeeping.run, self.folding_ends))

    async def _serve_control(self) -> None:
        control = self.config.control
        new_id = self.environment.new_id
        rights = make_rights(
            self.privacy,
            config=self.config,
            environment=self.environment,
            store=self.store,
            journal=self.journal,
        )
        more = [*self._routes(), *rights.routes]
        app = control_app(self.operations, token=control.token, new_id=new_id, more=more)
        async with trio.open_nursery() as nursery:
            if rights.callbacks is not None:
                nursery.start_soon(rights.callbacks.run, self.folding_ends)
            serve = partial(serve_control, app, control.host, control.port, self.folding_ends)
            self.ports.control = await nursery.start(serve)
            self.ports.bound.set()

    def _routes(self) -> list[Route]:
        """The routes about people's rights and the tracking plan."""
        plan = self.governance.plan
        return [
            *ConsentRoutes(self.governance.desk).routes(),
            *PlanRoutes(self.logs["events"], lambda: plan.dropped if plan else {}).routes(),
        ]

    async def _drain(self, stopping: trio.Event) -> None:
        await stopping.wait()
        self.journal.info("draining")
        with trio.move_on_after(self.config.limits.drain_timeout_s):
            await self.intake.finished.wait()
        self.folding_ends.set()


class Ports:
    """Where the two planes listen, once `bound` is set."""

    def __init__(self) -> None:
        self.data = 0
        self.control = 0
        self.bound = trio.Event()


async def run(
    config: Config,
    environment: Environment,
    *,
    stopping: trio.Event,
    started: Callable[[Ports], None] | None = None,
) -> None:
    """Opens the store and runs the daemon until `stopping` is set.

    Raises:
        ConfigError: a plugin, its settings, the key or a port cannot be used.
        StoreInUse, StoreDamaged: see `cdp.storage.opening`.
        ExceptionGroup: an actor gave up, or the store failed while running.
    """
    with open_daemon(config, environment) as daemon:
        await daemon.run(stopping, started or daemon.note_start)


@contextmanager
def open_daemon(config: Config, environment: Environment) -> Iterator[Daemon]:
    """A daemon over the store in the configured directory, which is closed at the end."""
    key = identity_key(config)
    store = environment.open_store(config.data_dir)
    try:
        daemon = Daemon(config, environment, store, key)
        try:
            yield daemon
        finally:
            daemon.governance.close()
    finally:
        store.close()


def is_of_the_store(crash: BaseException) -> bool:
    """Whether a storage error is in it, however many nurseries it has come through."""
    if isinstance(crash, BaseExceptionGroup):
        return crash.subgroup(StorageError) is not None
    return isinstance(crash, StorageError)


def identity_key(config: Config) -> bytes:
    """The key of every identifier's hash. Raises ConfigError where it is missing or short."""
    secret = config.identity.key
    key = secret.reveal().strip().encode() if secret is not None else b""
    if len(key) < KEY_BYTES_MIN:
        raise ConfigError(
            f"{config.path}: identity.key must be a secret of at least {KEY_BYTES_MIN} characters; "
            'run `cdp init`, or set identity.key = "file:PATH"'
        )
    return key[:64]


def rules_json(identity: Identity) -> str:
    """The rules of resolution in the form that `cdp._matcher` reads."""
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


def _port_of(listeners: Sequence[trio.abc.Listener[Any]]) -> int | None:
    for listener in listeners:
        if isinstance(listener, trio.SocketListener):
            return int(listener.socket.getsockname()[1])
    return None


def _tls_context(config: Config) -> ssl.SSLContext:
    gateway = config.gateway
    assert gateway.tls_certificate is not None, "asked only where there is a certificate"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(gateway.tls_certificate, gateway.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{config.path}: gateway.tls_certificate: cannot be used: {error}; "
            "give a PEM file with the whole chain, and its key in gateway.tls_key"
        ) from error
    return context
