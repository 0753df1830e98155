"""On what ground data may be used: the regimes, as tables, and the operator's changes to them.

`Rules` is made once from the configuration and refuses what contradicts itself. `Use` is what one
destination uses data for, compiled: for each regime the purposes with their basis, so that the
gate asks one dict. Who said what is not known here: see `cdp.consent.ledger`.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from cdp.clock import DAY_US
from cdp.config_consent import Regime
from cdp.config_reading import read_table, unknown
from cdp.domain.consent import BASES, Basis
from cdp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cdp.config import Config
    from cdp.config_consent import Consent

__all__ = ["STRICTEST", "RegimeRules", "Rules", "Term", "Use"]

STRICTEST: Final = "strictest"  # the regime where nothing is known about the place

_BY_DEFAULT: Final[dict[str, Basis]] = {"granted": "opt_out", "denied": "opt_in"}
_JURISDICTION: Final = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")


class RegimeRules(NamedTuple):
    """One legal order: its name, its version, and its table."""

    name: str
    version: str
    table: Regime

    @property
    def label(self) -> str:
        """Name and version, as stamps and records carry them."""
        return f"{self.name}@{self.version}"


class Term(NamedTuple):
    """One purpose under one regime: what the gate has to look at."""

    purpose: str
    basis: Basis
    gpc_binds: bool  # a sale or a share, where the law honours Global Privacy Control
    grant_age_us_max: int  # 0: a grant does not age


class Use:
    """What one destination uses data for, compiled for every regime."""

    __slots__ = ("_by_label", "purposes")

    def __init__(
        self,
        purposes: tuple[str, ...],
        by_name: Mapping[str, tuple[Term, ...]],
        labels: Mapping[str, str],
        default: str,
    ) -> None:
        """`labels` maps the label of each regime of today to its name."""
        self.purposes = purposes
        self._by_label = {**by_name, **{label: by_name[name] for label, name in labels.items()}}
        self._by_label[""] = by_name[default]

    def terms(self, regime: str) -> tuple[Term, ...] | None:
        """The purposes under the regime of a stamp; None where there is no such regime.

        A stamp with an older version of a regime is judged by the regime of today, and one that
        names none by what holds where nothing is said about the place.
        """
        terms = self._by_label.get(regime)
        if terms is None and (name := regime.partition("@")[0]):
            terms = self._by_label.get(name)
        return terms


class Rules:
    """Every regime, and the basis of every purpose in each of them."""

    def __init__(self, consent: Consent, *, file: Path = Path("cdp.toml")) -> None:
        problems = _contradictions(consent)
        if problems:
            raise ConfigError("\n".join(f"{file}: consent.{problem}" for problem in problems))
        self._consent = consent
        kept = {name: table for name, table in built_in().items() if name not in consent.regimes}
        self.regimes = {
            name: RegimeRules(name, table.version, table)
            for name, table in {**kept, **consent.regimes}.items()
        }
        self._by_jurisdiction = _claims(kept) | _claims(consent.regimes)
        self.sale_or_share = frozenset(
            name for name, purpose in consent.purposes.items() if purpose.sale_or_share
        )
        self.sensitive = frozenset(
            name for name, purpose in consent.purposes.items() if purpose.sensitive
        )
        # Purposes that somebody here has a use for; `use` adds to them.
        self.named: set[str] = {*consent.purposes, *consent.defaults}
        self._superseded = {
            f"{policy_id}@{version}": frozenset(policy.purposes)
            for policy_id, policy in consent.policies.items()
            for version in policy.material_versions
        }

    @classmethod
    def from_config(cls, config: Config) -> Rules:
        """The rules of a configuration. Raises ConfigError, with every problem."""
        problems = [
            f"sources.{name}.jurisdiction: {_no_jurisdiction(source.jurisdiction)}"
            for name, source in config.sources.items()
            if not _is_jurisdiction(source.jurisdiction)
        ]
        if problems:
            raise ConfigError("\n".join(f"{config.path}: {problem}" for problem in problems))
        rules = cls(config.consent, file=config.path)
        for destination in config.destinations.values():
            rules.named.update(destination.purposes)
        return rules

    def regime_for(self, jurisdiction: str) -> RegimeRules:
        """The regime of a place such as DE or US-CA; the strictest where none is known."""
        place = (jurisdiction or self._consent.jurisdiction).upper()
        claimed = self._by_jurisdiction
        name = claimed.get(place) or claimed.get(place.partition("-")[0]) or STRICTEST
        return self.regimes[name]

    def basis(self, regime: str, purpose: str) -> Basis:
        """On what ground data may be used for a purpose, under the regime of this name."""
        table = self.regimes[regime].table
        given = self._consent.purposes.get(purpose)
        if given is not None and regime in given.bases:
            return given.bases[regime]
        if purpose in self._consent.defaults:
            return _BY_DEFAULT[self._consent.defaults[purpose]]
        if purpose in table.bases:
            return table.bases[purpose]
        bases = [
            basis
            for basis, holds in (
                (table.sale_or_share_basis, purpose in self.sale_or_share),
                (table.sensitive_basis, purpose in self.sensitive),
            )
            if basis is not None and holds
        ]
        return min(bases, key=BASES.index) if bases else table.basis

    def is_sale_or_share(self, purpose: str) -> bool:
        """Whether data is sold or shared for it: Global Privacy Control bears on it."""
        return purpose in self.sale_or_share

    def honours_gpc(self, regime: str) -> bool:
        """Whether Global Privacy Control binds under the regime of a stamp; unknown ones do."""
        known = self.regimes.get(regime.partition("@")[0])
        return known is None or known.table.gpc

    def is_superseded(self, policy: str, purpose: str) -> bool:
        """Whether a grant for this policy text (id@version) no longer counts for a purpose."""
        purposes = self._superseded.get(policy)
        return purposes is not None and (not purposes or purpose in purposes)

    def use(self, purposes: Collection[str]) -> Use:
        """What a destination with these purposes does, compiled. Once for each destination."""
        ordered = tuple(sorted(purposes))
        self.named.update(ordered)
        return Use(
            ordered,
            {name: tuple(self._term(name, one) for one in ordered) for name in self.regimes},
            {regime.label: name for name, regime in self.regimes.items()},
            self.regime_for("").name,
        )

    def _term(self, regime: str, purpose: str) -> Term:
        table = self.regimes[regime].table
        return Term(
            purpose=purpose,
            basis=self.basis(regime, purpose),
            gpc_binds=table.gpc and purpose in self.sale_or_share,
            grant_age_us_max=int((table.grant_age_days_max or 0) * DAY_US),
        )


@cache
def built_in() -> dict[str, Regime]:
    """The regimes that the package brings, by name."""
    source = files("cdp.consent").joinpath("regimes.toml")
    tables = tomllib.loads(source.read_text(encoding="utf-8"))
    return {
        name: read_table(Regime, table, file=Path(str(source)), environ=_nothing, at=name)
        for name, table in tables.items()
    }


def _nothing(_: str) -> None:
    return None


def _claims(regimes: Mapping[str, Regime]) -> dict[str, str]:
    return {place: name for name, table in regimes.items() for place in table.jurisdictions}


def _is_jurisdiction(text: str) -> bool:
    return not text or _JURISDICTION.fullmatch(text) is not None


def _no_jurisdiction(text: str) -> str:
    return (
        f'found "{text}"; expected an ISO 3166 code in capitals, of a country such as DE '
        "or of a part of it such as US-CA"
    )


def _contradictions(consent: Consent) -> list[str]:
    """What the tables cannot be together, each as `key: found what; what is allowed`."""
    found = []
    if not _is_jurisdiction(consent.jurisdiction):
        found.append(f"jurisdiction: {_no_jurisdiction(consent.jurisdiction)}")
    known = {*consent.purposes, *consent.defaults}
    return [
        *found,
        *_bad_purposes(consent),
        *_bad_regimes(consent, known),
        *_strays(consent, known),
    ]


def _bad_purposes(consent: Consent) -> Iterable[str]:
    regimes = {*built_in(), *consent.regimes}
    for name, purpose in consent.purposes.items():
        for regime in purpose.bases:
            if regime not in regimes:
                yield f"purposes.{name}.bases.{regime}: {unknown('regime', regime, regimes)}"
        if purpose.bases and name in consent.defaults:
            yield (
                f"defaults.{name}: the basis of this purpose stands in purposes.{name}.bases "
                "already; keep one of the two"
            )


def _bad_regimes(consent: Consent, known: set[str]) -> Iterable[str]:
    owners: dict[str, str] = {}
    for name, table in consent.regimes.items():
        if name == STRICTEST:
            yield (
                f"regimes.{name}: it holds where nothing is known and cannot be replaced; "
                "set consent.jurisdiction to say where events without a place come from"
            )
        if not table.version or "@" in f"{name}{table.version}":
            yield f'regimes.{name}.version: expected a text such as "1", without @'
        if table.grant_age_days_max is not None and table.grant_age_days_max <= 0:
            yield f"regimes.{name}.grant_age_days_max: expected more than 0; none means no end"
        for place in table.jurisdictions:
            if not place or not _is_jurisdiction(place):
                yield f"regimes.{name}.jurisdictions: {_no_jurisdiction(place)}"
            if owners.setdefault(place, name) != name:
                yield (
                    f"regimes.{name}.jurisdictions: {place} is also in regimes.{owners[place]}; "
                    "a place has one regime"
                )
        for purpose in table.bases:
            if purpose in consent.defaults:
                yield (
                    f"regimes.{name}.bases.{purpose}: defaults.{purpose} decides for every "
                    "regime; keep one of the two"
                )
            elif purpose not in known:
                yield f"regimes.{name}.bases.{purpose}: {unknown('purpose', purpose, known)}"


def _strays(consent: Consent, known: set[str]) -> Iterable[str]:
    """Purposes that other tables speak of and nobody has named."""
    for policy_id, policy in consent.policies.items():
        if "@" in f"{policy_id}{policy.version}" or not policy.version:
            yield f'policies.{policy_id}.version: expected a text such as "2", without @'
        if policy.version in policy.material_versions:
            yield (
                f"policies.{policy_id}.material_versions: {policy.version} is the version that "
                "holds; name earlier ones"
            )
        for purpose in policy.purposes:
            if purpose not in known:
                yield f"policies.{policy_id}.purposes: {unknown('purpose', purpose, known)}"
    for purpose in consent.signals.tcf_purposes:
        if purpose not in known:
            yield f"signals.tcf_purposes.{purpose}: {unknown('purpose', purpose, known)}"
