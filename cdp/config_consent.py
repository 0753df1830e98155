"""The tables of the configuration that are about people's rights: consent, keys, erasure, audit.

What they mean is decided in `cdp.consent`, `cdp.storage` and `cdp.ingestion`; here they are only
read. See `cdp.config` for how a file becomes these structs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cdp.config_checks import too_short
from cdp.config_reading import Secret, Table
from cdp.domain.consent import Basis


class Purpose(Table, frozen=True):
    """What data is used for. `bases` overrides, by regime name, on what ground it may be."""

    title: str = ""
    sale_or_share: bool = False  # Global Privacy Control and the opt-outs of US law bear on it
    sensitive: bool = False
    bases: dict[str, Basis] = {}


class Regime(Table, frozen=True):
    """The rules of a legal order, by table. Replaces the built-in regime of the same name."""

    version: str
    jurisdictions: tuple[str, ...]  # ISO 3166 codes, of countries or subdivisions: DE, US-CA
    basis: Basis = "opt_in"  # of a purpose that is not named in `bases`
    bases: dict[str, Basis] = {}  # by purpose
    sale_or_share_basis: Basis | None = None  # of purposes that sell or share, if it differs
    sensitive_basis: Basis | None = None  # of sensitive purposes, if it differs
    gpc: bool = True  # whether Global Privacy Control binds, as far as data is sold or shared
    grant_age_days_max: float | None = None  # a grant that is older has expired


class Policy(Table, frozen=True):
    """A policy text that people agree to. A material version ends the grants of those before."""

    version: str
    text: Path
    language: str = "en"
    purposes: tuple[str, ...] = ()  # that it is about; empty: all
    material_versions: tuple[str, ...] = ()  # earlier versions whose grants no longer count


class Signals(Table, frozen=True):
    """How the strings of consent frameworks speak of our purposes."""

    tcf_vendor: int | None = None  # our id in the Global Vendor List
    tcf_purposes: dict[str, tuple[int, ...]] = {}  # purpose -> TCF purposes, all of them needed
    gpp_sections: tuple[str, ...] = ("usnat", "usca", "usva", "usco", "usut", "usct")
    country_table: Path | None = None  # csv: first address, last address, country code


class Consent(Table, frozen=True):
    """What consent means here: purposes, regimes, and what holds where nobody said anything.

    `defaults` is the short form for small set-ups: a purpose that is "granted" there may be used
    until somebody refuses it (opt-out), wherever they are; one that is "denied" only once somebody
    agreed (opt-in). A purpose that stands nowhere follows the regime of the event's jurisdiction.
    """

    defaults: dict[str, Literal["granted", "denied"]] = {}
    jurisdiction: str = ""  # of events that do not say where they come from; empty: the strictest
    purposes: dict[str, Purpose] = {}
    regimes: dict[str, Regime] = {}
    policies: dict[str, Policy] = {}
    signals: Signals = Signals()


class Keys(Table, frozen=True):
    """The master key, under which every person's key is wrapped. Keep it off this disk's backups.

    Without one it is derived from `identity.key`. `previous` are master keys that were replaced:
    at the next start everything that they wrap is wrapped anew.
    """

    master: Secret | None = None
    master_command: tuple[str, ...] = ()  # prints the master key; its output is never shown
    previous: tuple[Secret, ...] = ()

    def contradictions(self) -> list[str]:
        found = too_short("master", self.master, chars_min=32)
        if self.master is not None and self.master_command:
            found.append("master_command: there is a master already; give one of the two")
        return found


class Privacy(Table, frozen=True):
    """Erasure, access and audit."""

    erasure_ledger: Path | None = None  # default: erasures.log in data_dir; keep a copy elsewhere
    audit_witness: Path | None = None  # a file on another disk that gets each signed checkpoint
    audit_key: Secret | None = None  # signs checkpoints; without one it is derived
    export_dir: Path | None = None  # default: exports in data_dir
    opendsr_domain: str | None = None  # the domain in our OpenDSR signatures
    opendsr_certificate: Path | None = None
    opendsr_key: Secret | None = None
    opendsr_callback_domains: tuple[str, ...] = ()  # whose callbacks we call; others are refused

    def contradictions(self) -> list[str]:
        return too_short("audit_key", self.audit_key, chars_min=32)


class TrackingPlanConfig(Table, frozen=True):
    """The plan that events are held against; without a file everything is allowed."""

    file: Path | None = None
    unplanned_events: Literal["allow", "quarantine"] = "allow"
    unplanned_fields: Literal["allow", "drop"] = "allow"
