"""The daemon in a world: what `cdp.app` builds, over the world's environment.

Nothing of the daemon is replaced but its edges: destination types come from the world instead of
installed plugins, the journal is read by the world, and the control plane, which needs a real
socket, is left out; what it would call is called here.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from cdp import app
from cdp.config import Config, Consent, DestinationConfig, Identity, Limits, Secret, Source
from cdp.console.privacy_surface import Asked
from cdp.delivery import setup
from cdp.delivery.control import Deliveries, DestinationUnknown, ReplayRefused
from cdp.delivery.jobs import DeadLetterFilter
from cdp.storage.log import Log
from cdp.telemetry import Journal
from tests.simulation.outlets import destination_type
from tests.simulation.patching import patched

if TYPE_CHECKING:
    from tests.simulation.world import World

IDENTITY: Final = Identity(key=Secret("the key of every simulated world"))
IDENTITY_KEY: Final = app.identity_key(Config(identity=IDENTITY))
IDENTITY_RULES: Final = app.rules_json(IDENTITY)

# Journal events that no fault of a world explains: each is a bug.
BUGS_NOTED: Final = frozenset(
    ("actor_crashed", "connection_crashed", "destination_gave_up", "destination_start_failed")
)


def configuration(world: World) -> Config:
    """The configuration of a world's daemon, as its operator has it now."""
    o = world.options
    granted = {purpose: "granted" if yes else "denied" for purpose, yes in world.consent.items()}
    return Config(
        sources={
            name: Source(write_key=f"key-{name}", kind="server") for name in ("source0", "source1")
        },
        destinations={
            one.name: DestinationConfig(type=one.name, purposes=one.purposes) for one in o.outlets
        },
        consent=msgspec.convert({"defaults": granted}, Consent),
        identity=IDENTITY,
        limits=Limits(
            fold_batch_max=o.fold_batch_max,
            pending_max=o.pending_max,
            attempts_max=o.attempts_max,
            fragment_cache_max=o.fragment_cache_max,
            intake_requests_max=o.intake_requests_max,
            backoff_s_max=o.backoff_s_max,
            deliver_timeout_s=o.deliver_timeout_s,
        ),
    )


async def no_control_plane(
    asgi: object,
    host: str,
    port: int,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Stands where the control plane would listen."""
    task_status.started(port)
    await stopping.wait()


class Daemon:
    """One process of the daemon, from its start to its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stopping = trio.Event()
        self._running: app.Daemon | None = None
        self.ready = False

    def drain(self) -> None:
        """What SIGTERM does."""
        self._stopping.set()

    async def run(self) -> None:
        """Runs until it is drained. Raises StorageError, or Crash in the middle of a write."""
        world = self._world
        types = {name: destination_type(outlet) for name, outlet in world.outlets.items()}
        with ExitStack() as edges:
            edges.enter_context(patched(setup, "load_type", types.__getitem__))
            edges.enter_context(patched(app, "Journal", self._journal))
            edges.enter_context(patched(app, "control_app", lambda *_, **__: None))
            edges.enter_context(patched(app, "serve_control", no_control_plane))
            with app.open_daemon(configuration(world), world.environment()) as self._running:
                await self._running.run(self._stopping, self._started)

    def _started(self, ports: app.Ports) -> None:
        self.ready = True

    def _journal(self, clock: Any) -> Journal:
        return Journal(clock, self._noted)

    def _noted(self, line: str) -> None:
        record = msgspec.json.decode(line)
        self._world.check(record["event"] not in BUGS_NOTED, f"a bug: {record['event']}", record)

    # -- what operators ask of it ---------------------------------------------------------------

    @property
    def _deliveries(self) -> Deliveries:
        assert self._running is not None, "only a running daemon is asked"
        return self._running.deliveries

    async def redrive(self, name: str) -> int | str:
        """Sends every dead letter again; how many they are."""
        try:
            return await self._deliveries.redrive(name, DeadLetterFilter())
        except DestinationUnknown:
            return "not running"

    def replay(self, name: str, share: float) -> str:
        """Offers a stretch of the log again, from that share of it on."""
        try:
            head = Log(self._world.store, "activations").head
            self._deliveries.replay(name, start=int(share * head))
        except (DestinationUnknown, ReplayRefused) as refusal:
            return type(refusal).__name__
        return "started"

    async def erase(self, user_id: str, external_id: str) -> str:
        """A person asks to be forgotten; returns the request's id once that is on disk."""
        assert self._running is not None, "only a running daemon is asked"
        asked = Asked(
            kind="erasure",
            identifiers=(("user_id", user_id),),
            external_id=external_id,
            verified_by="operator",
        )
        request = await self._running.privacy.submit_request(asked)
        if request["state"] == "verified":
            await self._running.privacy.approve_request(request["id"], by="operator")
        return str(request["id"])

    def state_of(self, request_id: str) -> str:
        """How far a request is."""
        assert self._running is not None, "only a running daemon is asked"
        return str(self._running.privacy.request(request_id)["state"])

    async def repair(self, row_id: str, body: dict[str, Any]) -> str:
        """Sends a rejected event again, corrected."""
        assert self._running is not None, "only a running daemon is asked"
        done = await self._running.operations.resubmit(row_id, body)
        return str(done["outcome"])
