"""One `cdp.toml` becomes frozen structs.

Unknown keys, wrong types and impossible combinations are refused before anything starts, with the
file, the key, the value and what is allowed. Every limit of the daemon stands in `Limits`, with
its unit in its name. Secrets are references (`env:NAME` or `file:PATH`), never values. Relative
paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, Literal

from cdp.config_checks import (
    bad_names,
    bad_origins,
    bad_port,
    bad_proxies,
    bad_public_url,
    bad_region,
    bad_tls,
    bad_write_key,
    is_loopback,
    not_positive,
    same_priority,
    too_short,
)
from cdp.config_consent import Consent, Keys, Privacy, TrackingPlanConfig
from cdp.config_reading import Environ, MaybeSecret, Secret, Table, read_table, unknown
from cdp.domain.event import EVENT_TYPES
from cdp.domain.identifier import NAMESPACES
from cdp.errors import ConfigError

__all__ = [
    "Config",
    "Consent",
    "Control",
    "DestinationConfig",
    "Gateway",
    "Identity",
    "Keys",
    "Limits",
    "NamespaceRule",
    "Privacy",
    "Retention",
    "Secret",
    "Source",
    "Table",
    "TrackingPlanConfig",
    "load",
    "read_toml",
]

DAY_S: Final = 86_400


class Gateway(Table, frozen=True):
    """The data plane: where SDKs send events."""

    host: str = "127.0.0.1"
    port: int = 8080
    public_url: str | None = None  # what browsers reach it by; from the Host header where absent
    trusted_proxies: tuple[str, ...] = ()  # peers whose X-Forwarded-For is believed
    tls_certificate: Path | None = None
    tls_key: Path | None = None

    def contradictions(self) -> list[str]:
        return [
            *bad_port(self.port),
            *bad_public_url(self.public_url),
            *bad_proxies(self.trusted_proxies),
            *bad_tls(self.tls_certificate, self.tls_key),
        ]


class Control(Table, frozen=True):
    """The control plane: admin and profile API. Loopback unless configured."""

    host: str = "127.0.0.1"
    port: int = 8081
    token: Secret | None = None  # required where `host` is not loopback

    def contradictions(self) -> list[str]:
        found = bad_port(self.port)
        if self.token is None and not is_loopback(self.host):
            found.append(
                f'token: missing, and host "{self.host}" can be reached from other machines; '
                'set token = "file:PATH" or "env:NAME", or host = "127.0.0.1"'
            )
        return found + too_short("token", self.token, chars_min=16)


class Source(Table, frozen=True):
    """An ingress and its credential. Browser keys are public; server keys are trusted further."""

    write_key: MaybeSecret
    kind: Literal["browser", "server"] = "browser"
    enabled: bool = True
    allowed_origins: tuple[str, ...] = ()  # empty: any
    jurisdiction: str = ""  # of its events: DE, US-CA ...; empty: see [consent]
    # Whether what its events say grants consent; denials always count. A browser key is public, so
    # its grants count only where this is said and the request comes from an allowed origin.
    grants: bool | None = None  # None: a server's do, a browser's do not

    @property
    def grants_count(self) -> bool:
        """Whether grants from this source are recorded at all."""
        return self.kind == "server" if self.grants is None else self.grants

    def contradictions(self) -> list[str]:
        found = bad_write_key(self.write_key) + bad_origins(self.allowed_origins)
        if self.kind == "browser" and self.grants and not self.allowed_origins:
            found.append(
                "grants: a browser key is public; name the pages whose consent dialogue may grant: "
                'allowed_origins = ["https://shop.example.com"]'
            )
        return found


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

    def contradictions(self) -> list[str]:
        return [
            f'events: "{event}" is an {unknown("event type", event, EVENT_TYPES)}'
            for event in self.events
            if event not in EVENT_TYPES
        ]


class NamespaceRule(Table, frozen=True):
    """How many distinct values of a namespace one profile may have, and who yields first.

    `limit` 0 means unlimited. `persons_max` is how many distinct user ids an identifier may be
    seen with before it is shared and links nobody; 0 means never shared.
    """

    priority: int
    limit: int = 5
    limit_window: Literal["ever", "annually", "monthly", "weekly", "daily"] = "ever"
    persons_max: int = 0

    def contradictions(self) -> list[str]:
        numbers = {"limit": self.limit, "persons_max": self.persons_max, "priority": self.priority}
        return [
            f"{key}: found {value}; expected 0 or more"
            for key, value in numbers.items()
            if value < 0
        ]


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

    def contradictions(self) -> list[str]:
        found = [
            f"rules.{name}: {unknown('namespace', name, NAMESPACES)}"
            for name in self.rules
            if name not in NAMESPACES
        ]
        found += same_priority(
            {name: rule.priority for name, rule in self.effective_rules().items()}
        )
        found += bad_region(self.default_region)
        found += too_short("key", self.key, chars_min=32)
        if not all(self.blocked_values):
            found.append("blocked_values: an empty text is always blocked; leave it out")
        if self.hull_nodes_max < 1:
            found.append(f"hull_nodes_max: found {self.hull_nodes_max}; expected 1 or more")
        return found


class Retention(Table, frozen=True):
    """How long the logs keep events. Nothing is truncated that a reader still needs."""

    age_days_max: float = 90.0
    log_bytes_max: int = 50 * 2**30
    rejected_age_days_max: float = 30.0
    interval_s: float = 60.0

    def contradictions(self) -> list[str]:
        return not_positive(self)


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
    # consent and erasure
    standing_cache_max: int = 100_000  # people whose standing is kept in memory
    key_cache_max: int = 200_000  # keys of people kept in memory, 100 bytes each
    consent_string_bytes_max: int = 4 * 2**10  # a TC or GPP string
    erasure_retry_days_max: float = 30.0  # how long a destination is asked again to erase
    requests_open_max: int = 100_000  # requests of data subjects under way
    drain_timeout_s: float = 20.0

    def contradictions(self) -> list[str]:
        """The relations that these values break, each as `key: what must hold`."""
        relations = [
            ("body_bytes_max", self.body_bytes_max, 512_000, "what SDKs send in a request"),
            ("body_bytes_max", self.body_bytes_max, self.event_bytes_max, "event_bytes_max"),
            ("inflight_bytes_max", self.inflight_bytes_max, self.body_bytes_max, "body_bytes_max"),
            (
                "intake_events_max",
                self.intake_events_max,
                self.batch_events_max,
                "batch_events_max",
            ),
            ("backoff_s_max", self.backoff_s_max, self.backoff_s_min, "backoff_s_min"),
            (
                *("connections_max", self.connections_max),
                *(self.connections_per_ip_max, "connections_per_ip_max"),
            ),
        ]
        return not_positive(self) + [
            f"{key}: found {value}; expected at least {least} ({why})"
            for key, value, least, why in relations
            if value < least
        ]


class Config(Table, frozen=True):
    """The whole configuration."""

    data_dir: Path = Path("data")
    gateway: Gateway = Gateway()
    control: Control = Control()
    sources: dict[str, Source] = {}
    destinations: dict[str, DestinationConfig] = {}
    consent: Consent = Consent()
    keys: Keys = Keys()
    privacy: Privacy = Privacy()
    tracking_plan: TrackingPlanConfig = TrackingPlanConfig()
    identity: Identity = Identity()
    retention: Retention = Retention()
    limits: Limits = Limits()
    path: Path = Path("cdp.toml")  # where it was read from; not a key of the file

    def contradictions(self) -> list[str]:
        found = bad_names("sources", self.sources) + bad_names("destinations", self.destinations)
        owners: dict[str, str] = {}
        for name, source in self.sources.items():
            owner = owners.setdefault(source.write_key, name)
            if owner != name:
                found.append(
                    f"sources.{name}.write_key: the same as that of sources.{owner}; "
                    "each source needs its own"
                )
        window_days = self.limits.deduplication_window_s / DAY_S
        if self.retention.age_days_max < window_days:
            found.append(
                f"retention.age_days_max: must be at least {window_days:g}, "
                "the days of limits.deduplication_window_s"
            )
        gateway, control = self.gateway, self.control
        if gateway.port and (gateway.host, gateway.port) == (control.host, control.port):
            found.append(f"control.port: {control.port} is taken by the gateway; choose another")
        return found


def load(path: Path, environ: Environ) -> Config:
    """Reads and checks a configuration file. `environ` looks an environment variable up.

    Raises:
        ConfigError: names every problem of the file, one a line.
    """
    raw = read_toml(path)
    _fill_rules(raw)
    # `data_dir` has a default that is relative to the file, as every other path is.
    raw.setdefault("data_dir", str(Config().data_dir))
    return read_table(Config, raw, file=path, environ=environ, path=path)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file as they stand, unchecked. Raises ConfigError where it is not TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `cdp init` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def _fill_rules(raw: dict[str, Any]) -> None:
    """An operator's rule need only name what differs from the default rule of its namespace."""
    identity = raw.get("identity")
    rules = identity.get("rules") if isinstance(identity, dict) else None
    for name, rule in (rules if isinstance(rules, dict) else {}).items():
        if isinstance(rule, dict) and name in _DEFAULT_RULES:
            default = _DEFAULT_RULES[name]
            for key in default.__struct_fields__:
                rule.setdefault(key, getattr(default, key))
