"""What a destination's actor is made of, from the configuration and the world."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdp.config_reading import read_table
from cdp.delivery.backlog import reader_of
from cdp.delivery.destination import Host
from cdp.delivery.gate import Gate
from cdp.delivery.registry import load_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.config import Config, DestinationConfig, Limits
    from cdp.consent.rules import Rules
    from cdp.delivery.destination import Destination, Settings
    from cdp.delivery.gate import Standings
    from cdp.environment import Environment
    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Log
    from cdp.storage.store import Store
    from cdp.telemetry import Counter, Histogram, Journal, Metrics


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The metrics of one destination."""

    attempts: Counter
    attempt_time: Histogram


@dataclass(slots=True)
class Outlet:
    """One configured destination, and all that its actor needs. Outlives the actor's crashes."""

    name: str
    config: DestinationConfig
    type: type[Destination[Any]]
    settings: Settings
    rules: Rules
    standings: Standings
    limits: Limits
    environment: Environment
    store: Store
    events: Log
    activations: Log
    cursors: Cursors
    journal: Journal
    telemetry: Telemetry
    paused: bool = field(default=False)

    @property
    def purposes(self) -> frozenset[str]:
        """What the destination uses data for: its type's purposes and the operator's."""
        return self.type.purposes | frozenset(self.config.purposes)

    def gate(self) -> Gate:
        """The rules of who and what may go there."""
        return Gate(
            names=(self.name, self.config.type),
            use=self.rules.use(self.purposes),
            receives=self.type.receives,
            event_types=self.config.events,
            standings=self.standings,
            now_us=self.environment.clock.now_us,
        )

    def build(self) -> Destination[Any]:
        """A fresh instance of the destination type. Its `http` is given by the actor."""
        return build(self.type, self.settings, self.name, self.environment)


def build(
    type_: type[Destination[Any]], settings: Settings, name: str, environment: Environment
) -> Destination[Any]:
    """An instance of a destination type, with its settings and its host."""
    destination = type_()
    destination.settings = settings
    destination.host = Host(
        name=name,
        clock=environment.clock,
        resolve=environment.network.resolve,
        run_in_thread=environment.run_in_thread,
    )
    return destination


def read_settings(
    name: str, type_: type[Destination[Any]], config: Config, environment: Environment
) -> Settings:
    """A destination's settings as its type wants them. Raises ConfigError."""
    return read_table(
        type_.settings_type,
        config.destinations[name].settings,
        file=config.path,
        environ=environment.environ,
        at=f"destinations.{name}.settings",
    )


def open_outlets(
    config: Config,
    environment: Environment,
    *,
    rules: Rules,
    standings: Standings,
    store: Store,
    events: Log,
    activations: Log,
    cursors: Cursors,
    metrics: Metrics,
    journal: Journal,
) -> list[Outlet]:
    """Every enabled destination, its plugin loaded and its settings read.

    Raises:
        ConfigError: a type is missing or broken, or its settings are wrong.
    """
    outlets = []
    for name, one in config.destinations.items():
        if not one.enabled:
            continue
        type_ = load_type(one.type)
        outlets.append(
            Outlet(
                name=name,
                config=one,
                type=type_,
                settings=read_settings(name, type_, config, environment),
                rules=rules,
                standings=standings,
                limits=config.limits,
                environment=environment,
                store=store,
                events=events,
                activations=activations,
                cursors=cursors,
                journal=journal,
                telemetry=telemetry_of(metrics, name),
                paused=store.get("meta", paused_key(name)) is not None,
            )
        )
    return outlets


def paused_key(name: str) -> bytes:
    """Where it stands that an operator has paused a destination."""
    return b"paused:" + name.encode()


def telemetry_of(metrics: Metrics, name: str) -> Telemetry:
    """The metrics of one destination."""
    return Telemetry(
        attempts=metrics.counter("cdp_delivery_attempts_total", destination=name),
        attempt_time=metrics.histogram("cdp_delivery_attempt_seconds", destination=name),
    )


def begin_new(outlets: Iterable[Outlet], store: Store, cursors: Cursors, activations: Log) -> None:
    """Gives destinations that never ran their place: the head of the log.

    What was recorded before a destination existed is not sent to it unasked; `cdp replay` does
    that. The place is written before anything can be taken in, so no later event is passed over.
    """
    saved = cursors.all()
    batch = store.batch()
    for outlet in outlets:
        if reader_of(outlet.name) not in saved:
            cursors.set(batch, reader_of(outlet.name), activations.head)
    if len(batch):
        store.write(batch)
