"""Regimes are data: what they say, what an operator may change, and what cannot be together."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdp.config import Config, DestinationConfig, Source
from cdp.config_checks import _REGIONS
from cdp.config_consent import Consent, Policy, Purpose, Regime, Signals
from cdp.consent.rules import Rules, built_in
from cdp.errors import ConfigError

PURPOSES = {
    "ads": Purpose(sale_or_share=True),
    "health": Purpose(sensitive=True),
    "both": Purpose(sale_or_share=True, sensitive=True),
    "statistics": Purpose(),
}


@pytest.mark.parametrize(
    ("place", "regime"),
    [
        ("DE", "gdpr"),
        ("DE-BY", "gdpr"),
        ("de", "gdpr"),
        ("NO", "gdpr"),
        ("GB", "uk_gdpr"),
        ("CH", "swiss"),
        ("BR", "lgpd"),
        ("US-CA", "ccpa"),
        ("US-CO", "us_opt_out"),
        ("US-VA", "us_opt_out_without_signals"),
        ("US-UT", "us_opt_out_of_all"),
        ("US-NY", "strictest"),
        ("US", "strictest"),
        ("ZZ", "strictest"),
        ("", "strictest"),
        ("anywhere", "strictest"),
    ],
)
def test_a_place_has_its_regime_and_no_place_the_strictest(place, regime):
    assert Rules(Consent()).regime_for(place).name == regime


def test_the_places_of_the_built_in_regimes_are_places_and_have_one_regime_each():
    places = [place for table in built_in().values() for place in table.jurisdictions]
    assert len(places) == len(set(places))
    assert {place[:2] for place in places} <= _REGIONS
    assert sum(len(place) == 2 for place in built_in()["gdpr"].jurisdictions) == 27 + 3 + 8
    assert all(
        table.basis == "opt_in"
        for name, table in built_in().items()
        if "US-" not in str(table.jurisdictions)
    )


@pytest.mark.parametrize(
    ("regime", "bases"),
    [
        ("gdpr", ["opt_in", "opt_in", "opt_in", "opt_in"]),
        ("ccpa", ["opt_out", "opt_out", "opt_out", "opt_out"]),
        ("us_opt_out", ["opt_out", "opt_in", "opt_in", "opt_out"]),
        ("us_opt_out_without_signals", ["opt_out", "opt_in", "opt_in", "opt_out"]),
        ("us_opt_out_of_all", ["opt_out", "opt_out", "opt_out", "opt_out"]),
        ("strictest", ["opt_in", "opt_in", "opt_in", "opt_in"]),
    ],
)
def test_the_basis_of_a_purpose_follows_from_its_kind(regime, bases):
    rules = Rules(Consent(purposes=PURPOSES))
    assert [rules.basis(regime, purpose) for purpose in PURPOSES] == bases


def test_where_the_law_does_not_honour_signals_they_do_not_bind():
    rules = Rules(Consent(purposes=PURPOSES))
    bound = {name for name in rules.regimes if rules.use(["ads"]).terms(name)[0].gpc_binds}
    assert {"gdpr", "ccpa", "us_opt_out", "strictest"} <= bound
    assert not bound & {"us_opt_out_without_signals", "us_opt_out_of_all"}
    assert not rules.use(["statistics"]).terms("ccpa")[0].gpc_binds
    assert rules.honours_gpc("ccpa@1")
    assert not rules.honours_gpc("us_opt_out_of_all@1")
    assert rules.honours_gpc("of nobody@1")


def test_a_purpose_may_have_a_basis_of_its_own_under_a_regime():
    rules = Rules(Consent(purposes={"care": Purpose(bases={"gdpr": "legitimate_interest"})}))
    assert rules.basis("gdpr", "care") == "legitimate_interest"
    assert rules.basis("uk_gdpr", "care") == "opt_in"


def test_the_short_form_holds_in_every_regime():
    rules = Rules(Consent(defaults={"mail": "granted", "ads": "denied"}))
    assert {rules.basis(name, "mail") for name in rules.regimes} == {"opt_out"}
    assert {rules.basis(name, "ads") for name in rules.regimes} == {"opt_in"}


def test_a_regime_of_the_operators_takes_its_places_from_the_built_in_ones():
    german = Regime(version="3", jurisdictions=("DE",), basis="necessary")
    rules = Rules(Consent(regimes={"german": german}))
    assert rules.regime_for("DE").label == "german@3"
    assert rules.regime_for("FR").name == "gdpr"


def test_a_replaced_regime_keeps_only_the_places_that_it_names():
    rules = Rules(Consent(regimes={"gdpr": Regime(version="2", jurisdictions=("FR",))}))
    assert rules.regime_for("FR").label == "gdpr@2"
    assert rules.regime_for("DE").name == "strictest"


def test_events_without_a_place_are_judged_by_the_configured_one():
    rules = Rules(Consent(purposes=PURPOSES, jurisdiction="US-CA"))
    assert rules.regime_for("").name == "ccpa"
    assert rules.use(["ads"]).terms("")[0].basis == "opt_out"
    assert rules.regime_for("ZZ").name == "strictest"


def test_grants_for_a_text_that_changed_materially_no_longer_count():
    text = Policy(version="3", text=Path("p"), purposes=("ads",), material_versions=("1",))
    rules = Rules(Consent(purposes=PURPOSES, policies={"shop": text}))
    assert rules.is_superseded("shop@1", "ads")
    assert not rules.is_superseded("shop@1", "statistics")
    assert not rules.is_superseded("shop@2", "ads")
    whole = Policy(version="3", text=Path("p"), material_versions=("1",))
    assert Rules(Consent(policies={"shop": whole})).is_superseded("shop@1", "anything")


@pytest.mark.parametrize(
    ("consent", "told"),
    [
        (
            Consent(purposes={"ads": Purpose(bases={"gdrp": "opt_in"})}),
            "consent.purposes.ads.bases.gdrp: unknown regime; did you mean gdpr? (known: ccpa,",
        ),
        (
            Consent(
                purposes={"ads": Purpose(bases={"gdpr": "opt_in"})}, defaults={"ads": "granted"}
            ),
            "consent.defaults.ads: the basis of this purpose stands in purposes.ads.bases",
        ),
        (
            Consent(regimes={"strictest": Regime(version="1", jurisdictions=())}),
            "consent.regimes.strictest: it holds where nothing is known and cannot be replaced",
        ),
        (
            Consent(
                regimes={
                    "a": Regime(version="1", jurisdictions=("DE",)),
                    "b": Regime(version="1", jurisdictions=("DE",)),
                }
            ),
            "consent.regimes.b.jurisdictions: DE is also in regimes.a",
        ),
        (
            Consent(regimes={"a": Regime(version="1", jurisdictions=("Germany",))}),
            'consent.regimes.a.jurisdictions: found "Germany"; expected an ISO 3166 code',
        ),
        (
            Consent(regimes={"a": Regime(version="1", jurisdictions=(), bases={"adds": "opt_in"})}),
            "consent.regimes.a.bases.adds: unknown purpose (known: none)",
        ),
        (
            Consent(
                defaults={"ads": "granted"},
                regimes={"a": Regime(version="1", jurisdictions=(), bases={"ads": "opt_in"})},
            ),
            "consent.regimes.a.bases.ads: defaults.ads decides for every regime",
        ),
        (
            Consent(regimes={"a": Regime(version="1", jurisdictions=(), grant_age_days_max=0)}),
            "consent.regimes.a.grant_age_days_max: expected more than 0",
        ),
        (
            Consent(regimes={"a": Regime(version="", jurisdictions=())}),
            "consent.regimes.a.version: expected a text",
        ),
        (Consent(jurisdiction="europe"), 'consent.jurisdiction: found "europe"; expected an ISO'),
        (
            Consent(policies={"shop": Policy(version="1", text=Path("p"), purposes=("adds",))}),
            "consent.policies.shop.purposes: unknown purpose",
        ),
        (
            Consent(
                policies={"shop": Policy(version="1", text=Path("p"), material_versions=("1",))}
            ),
            "consent.policies.shop.material_versions: 1 is the version that holds",
        ),
        (
            Consent(signals=Signals(tcf_purposes={"adds": (1,)})),
            "consent.signals.tcf_purposes.adds: unknown purpose",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_what_is_allowed(consent, told):
    with pytest.raises(ConfigError) as refused:
        Rules(consent, file=Path("my.toml"))
    assert str(refused.value).startswith(f"my.toml: {told}")


def test_the_jurisdiction_of_a_source_must_be_one():
    config = Config(sources={"web": Source(write_key="k", jurisdiction="Bavaria")})
    with pytest.raises(ConfigError, match=r"sources\.web\.jurisdiction: found \"Bavaria\""):
        Rules.from_config(config)


def test_the_purposes_that_anything_here_names_are_known():
    config = Config(
        consent=Consent(defaults={"mail": "granted"}, purposes={"ads": Purpose()}),
        destinations={"crm": DestinationConfig(type="webhook", purposes=("support",))},
    )
    rules = Rules.from_config(config)
    rules.use(["statistics"])
    assert rules.named == {"mail", "ads", "support", "statistics"}
