"""One `cdp.toml` becomes frozen structs. Unknown keys, wrong types and impossible combinations are refused.

Every limit of the daemon stands in `Limits`, with its unit in its name. Secrets are references
(`env:NAME` or `file:PATH`), never values. Relative paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from cdp.domain.identifier import NAMESPACES
from cdp.errors import ConfigError

DAY_S: Final = 86_400


class Secret:
    """A credential. Its repr and str never show it; `reveal()` does."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('****')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file: immutable, and closed to keys that it does not name."""


class Gateway(Table, frozen=True):
    """The data plane: where SDKs send events."""

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None  # what browsers reach it by; from the Host header where absent
    trusted_proxies: tuple[str, ...] = ()  # peers whose X-Forwarded-For is believed
    tls_certificate: str | None = None
    tls_key: str | None = None


class Control(Table, frozen=True):
    """The control plane: admin and profile API. Loopback unless configured."""

    host: str = "127.0.0.1"
    port: int = 8081
    token: Secret | None = None  # required where `host` is not loopback


class Source(Table, frozen=True):
    """An ingress and its credential. Browser keys are public; server keys are trusted further."""

    write_key: str
    kind: Literal["browser", "server"] = "browser"
    enabled: bool = True
    allowed_origins: tuple[str, ...] = ()  # empty: any


class DestinationConfig(Table, frozen=True):
    """An outlet. `settings` is checked by the destination type's own Settings.

    `purposes` adds to those that the destination type declares; a destination with none, in all,
    is never delivered to.
    """

    type: str
    enabled: bool = True
    purposes: tuple[str, ...] = ()
    events: tuple[str, ...] = ()  # event types to offer; empty: all
    settings: dict[str, Any] = {}


class Consent(Table, frozen=True):
    """What holds where an event says nothing. A purpose that is not listed is denied."""

    defaults: dict[str, Literal["granted", "denied"]] = {}


class NamespaceRule(Table, frozen=True):
    """How many distinct values of a namespace one profile may have, and who yields first.

    `limit` 0 means unlimited. `persons_max` is how many distinct user ids an identifier may be
    seen with before it is shared and links nobody; 0 means never shared.
    """

    priority: int
    limit: int = 5
    limit_window: Literal["ever", "annually", "monthly", "weekly", "daily"] = "ever"
    persons_max: int = 0


_DEFAULT_RULES: Final = {
    "user_id": NamespaceRule(priority=1, limit=1),
    "crm_id": NamespaceRule(priority=2, limit=1),
    "email": NamespaceRule(priority=3, limit=5, persons_max=2),
    "phone": NamespaceRule(priority=4, limit=5, persons_max=5),
    "email_canonical": NamespaceRule(priority=5, limit=5, persons_max=2),
    "device_id": NamespaceRule(priority=6, limit=50, persons_max=1),
    "ad_id": NamespaceRule(priority=7, limit=50, persons_max=1),
    "external_id": NamespaceRule(priority=8, limit=5, persons_max=2),
    "click_id": NamespaceRule(priority=9, limit=0, persons_max=1),
    "anonymous_id": NamespaceRule(priority=10, limit=0, persons_max=1),
}


class Identity(Table, frozen=True):
    """The rules of deterministic resolution. Profiles are a pure function of evidence and these."""

    key: Secret | None = None  # keys the hashes of identifiers; `cdp init` makes one
    default_region: str = "US"  # ISO 3166 alpha-2: how phone numbers without a country are read
    rules: dict[str, NamespaceRule] = {}
    blocked_values: tuple[str, ...] = ()  # besides the built-in list; compared case-folded
    hull_nodes_max: int = 5_000

    def effective_rules(self) -> dict[str, NamespaceRule]:
        """The defaults with the operator's changes."""
        return {**_DEFAULT_RULES, **self.rules}


class Retention(Table, frozen=True):
    """How long the logs keep events. Nothing is truncated that a reader still needs."""

    age_days_max: float = 90.0
    log_bytes_max: int = 50 * 2**30
    rejected_age_days_max: float = 30.0
    interval_s: float = 60.0


class Limits(Table, frozen=True):
    """Every limit in one place, with its unit. The relations between them are checked at start."""

    # requests
    body_bytes_max: int = 4 * 2**20  # decoded
    event_bytes_max: int = 32 * 2**10
    batch_events_max: int = 2_500
    json_depth_max: int = 200
    event_keys_max: int = 10_000
    message_id_chars_max: int = 100
    header_bytes_max: int = 64 * 2**10
    header_count_max: int = 64
    url_bytes_max: int = 16 * 2**10
    # connections
    connections_max: int = 20_000
    connections_per_ip_max: int = 20_000
    header_timeout_s: float = 10.0
    body_grace_s: float = 5.0
    body_bytes_per_s_min: int = 1024
    idle_timeout_s: float = 60.0
    inflight_bytes_max: int = 256 * 2**20
    # queues and folds
    intake_requests_max: int = 4_096
    intake_events_max: int = 50_000
    fold_batch_max: int = 1_024
    fragment_cache_max: int = 50_000
    # windows
    deduplication_window_s: int = 7 * DAY_S
    rejected_events_max: int = 1_000_000
    # delivery
    pending_max: int = 10_000  # per destination: deliveries that wait for a retry or behind one
    attempts_max: int = 50
    retry_window_s: float = 3 * DAY_S
    backoff_s_min: float = 1.0
    backoff_s_max: float = 3_600.0
    deliver_timeout_s: float = 30.0
    response_bytes_max: int = 64 * 2**10
    dead_letters_max: int = 1_000_000
    drain_timeout_s: float = 20.0

    def contradictions(self) -> list[str]:
        """The relations that these values break, each in words; empty where none."""
        relations = [
            (
                self.body_bytes_max >= 512_000,
                "body_bytes_max must be at least 512000: SDKs send that",
            ),
            (
                self.body_bytes_max >= self.event_bytes_max,
                "body_bytes_max must hold event_bytes_max",
            ),
            (self.inflight_bytes_max >= self.body_bytes_max, "inflight_bytes_max must hold a body"),
            (
                self.intake_events_max >= self.batch_events_max,
                "intake_events_max must hold a batch",
            ),
            (
                self.backoff_s_max >= self.backoff_s_min > 0,
                "backoff_s_max must be >= backoff_s_min > 0",
            ),
            (
                self.connections_max >= self.connections_per_ip_max,
                "connections_max < connections_per_ip_max",
            ),
        ]
        numbers = {name: getattr(self, name) for name in self.__struct_fields__}
        positive = [(value > 0, f"{name} must be positive") for name, value in numbers.items()]
        return [text for holds, text in [*relations, *positive] if not holds]


class Config(Table, frozen=True):
    """The whole configuration."""

    data_dir: Path = Path("data")
    gateway: Gateway = Gateway()
    control: Control = Control()
    sources: dict[str, Source] = {}
    destinations: dict[str, DestinationConfig] = {}
    consent: Consent = Consent()
    identity: Identity = Identity()
    retention: Retention = Retention()
    limits: Limits = Limits()
    path: Path = Path("cdp.toml")  # where it was read from; not a key of the file


_ = (tomllib, Callable, NAMESPACES, ConfigError)
