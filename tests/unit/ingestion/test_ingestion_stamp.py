"""Stamps and statements: where an event came from, who said what, and whose word counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from cdp.config import Config, Source
from cdp.config_consent import Consent, Purpose, Signals
from cdp.consent.countries import CountryTable
from cdp.domain.event import EVENT_SCHEMA, ConsentStamp, Event
from cdp.ingestion.authentication import KnownSource
from cdp.ingestion.stamp import Sender, Stamper
from tests.unit.consent.consent_strings import tc_string

if TYPE_CHECKING:
    from cdp.domain.consent import Statement

NOW_US = 1_795_000_000_000_000
CONSENT = Consent(
    jurisdiction="FR",
    purposes={"ads": Purpose(sale_or_share=True), "email": Purpose()},
    signals=Signals(tcf_vendor=7, tcf_purposes={"email": (1,)}),
)
TABLE = CountryTable(["81.0.0.0,81.255.255.255,DE", "8.0.0.0,8.255.255.255,US-CA"], name="t")
PAGE = "https://shop.example.com"


class Rule(NamedTuple):
    name: str
    version: str


def rule_for(jurisdiction: str) -> Rule:
    return Rule({"": "strictest", "DE": "gdpr"}.get(jurisdiction, "other"), "3")


def sender(source: Source | None = None, **given: Any) -> Sender:
    countries = given.pop("countries", TABLE)
    stamper = Stamper(CONSENT, regime_for=rule_for, countries=countries, head=lambda: 41)
    known = KnownSource("web", source or Source(write_key="wk"))
    return Sender(stamper, known, **given)


SERVER = Source(write_key="sk", kind="server")


def event(by: Sender, context: dict[str, Any]) -> Event:
    return Event(
        EVENT_SCHEMA,
        "track",
        "m1",
        "web",
        NOW_US - 5,
        NOW_US,
        user_id="u1",
        context=context,
        stamp=by.stamp_of(context),
    )


def said(by: Sender, context: dict[str, Any]) -> list[Statement]:
    return by.statements_of(event(by, context))


def preferring(**purposes: bool) -> dict[str, Any]:
    return {"consent": {"categoryPreferences": purposes}}


def test_a_stamp_without_a_consent_object_tells_where_and_when() -> None:
    by = sender(address="81.2.3.4")
    expected = ConsentStamp(head=41, jurisdiction="DE", regime="gdpr@3")
    assert by.stamp_of({}) == expected
    assert by.stamp_of({"page": {}}) is by.stamp_of({})
    assert by.statements_of(event(by, {})) == []


@pytest.mark.parametrize(
    ("source", "address", "context", "place"),
    [
        (Source(write_key="k", jurisdiction="AT"), "81.2.3.4", {"jurisdiction": "US"}, "AT"),
        (Source(write_key="k"), "81.2.3.4", {"jurisdiction": "US", "ip": "8.8.8.8"}, "DE"),
        (Source(write_key="k"), "9.9.9.9", {}, "FR"),
        (Source(write_key="k"), None, {}, "FR"),
        (SERVER, "81.2.3.4", {}, "FR"),
        (SERVER, "81.2.3.4", {"ip": "8.8.8.8"}, "US-CA"),
        (SERVER, "81.2.3.4", {"jurisdiction": "BR", "ip": "8.8.8.8"}, "BR"),
        (SERVER, None, {"jurisdiction": "Brazil", "ip": "8.8.8.8"}, ""),
        (SERVER, None, {"jurisdiction": 7}, ""),
        (SERVER, None, {"location": {"country": "US", "region": "CA"}}, "US-CA"),
        (SERVER, None, {"location": {"country": "US", "region": "US-NY"}}, "US-NY"),
        (SERVER, None, {"location": {"country": "US", "region": "California"}}, "US"),
        (SERVER, None, {"location": {"country": "Germany"}, "ip": "81.1.1.1"}, "DE"),
        (
            Source(write_key="k", kind="server", jurisdiction="AT"),
            None,
            {"jurisdiction": "US"},
            "AT",
        ),
    ],
)
def test_the_jurisdiction_is_the_first_that_may_be_believed(
    source: Source, address: str | None, context: dict[str, Any], place: str
) -> None:
    stamp = sender(source, address=address).stamp_of(context)
    assert stamp.jurisdiction == place
    assert stamp.regime == "@".join(rule_for(place))


def test_without_a_table_the_default_holds() -> None:
    assert sender(address="81.2.3.4", countries=None).stamp_of({}).jurisdiction == "FR"


def test_sec_gpc_denies_what_is_sold_or_shared_whatever_the_body_says() -> None:
    by = sender(gpc=True)
    assert by.stamp_of({}) == ConsentStamp(head=41, jurisdiction="FR", regime="other@3", gpc=True)
    context = preferring(ads=True, email=True)
    assert by.stamp_of(context).purposes == {"ads": False, "email": True}
    body, gpc = said(by, context)
    assert (body.kind, body.purposes) == ("event", {"email": True})
    assert (gpc.kind, gpc.purposes, gpc.proof.method) == ("gpc", {"ads": False}, "gpc")
    assert said(by, {}) == [gpc]


def test_gpc_in_a_body_is_a_servers_word_only() -> None:
    context = {"consent": {"gpc": True}}
    assert not sender().stamp_of(context).gpc
    stamp = sender(SERVER).stamp_of(context)
    assert (stamp.gpc, stamp.present) == (True, False)
    [statement] = said(sender(SERVER), context)
    assert (statement.kind, statement.authority) == ("gpc", "server")
    assert not sender(SERVER).stamp_of({"consent": {"gpc": "1"}}).gpc


@pytest.mark.parametrize(
    ("source", "origin", "counts"),
    [
        (Source(write_key="k"), PAGE, False),
        (Source(write_key="k", allowed_origins=(PAGE,)), PAGE, False),
        (Source(write_key="k", allowed_origins=(PAGE,), grants=True), PAGE, True),
        (Source(write_key="k", allowed_origins=(PAGE,), grants=True), None, False),
        (Source(write_key="k", allowed_origins=(PAGE,), grants=True), PAGE + ".evil", False),
        (Source(write_key="k", grants=True), PAGE, False),
        (Source(write_key="k", kind="server"), None, True),
        (Source(write_key="k", kind="server", grants=False), None, False),
    ],
)
def test_grants_count_from_servers_and_from_pages_that_may_ask(
    source: Source, origin: str | None, counts: bool
) -> None:
    [statement] = said(sender(source, origin=origin), preferring(email=True, ads=False))
    assert statement.grants_count is counts
    assert statement.authority == ("server" if source.kind == "server" else "public")
    assert statement.purposes == {"email": True, "ads": False}  # what was said stays as it was


def test_a_statement_has_its_proof_and_no_whole_address() -> None:
    text = tc_string(purposes=[1], vendor_consents=[7])
    context = {"consent": {"tcf": text, "policy": "privacy@3"}}
    by = sender(origin=PAGE, address="81.2.3.4", kept_address="81.2.3.4", agent=b"Mozilla/5.0")
    [statement] = said(by, context)
    proof = statement.proof
    assert (statement.kind, statement.purposes) == ("tcf", {"email": True})
    assert (statement.at_us, statement.received_at_us) == (NOW_US - 5, NOW_US)
    assert (statement.jurisdiction, statement.regime) == ("DE", "gdpr@3")
    assert (proof.signal, proof.policy, proof.policy_version) == (text, "privacy", "3")
    assert (proof.origin, proof.address) == (PAGE, "81.2.3.0")
    assert proof.signal_sha256 is not None
    assert proof.signal_sha256.startswith(event(by, context).stamp.signals["tcf"])
    assert proof.user_agent_sha256 is not None
    assert len(proof.user_agent_sha256) == 64


def test_what_cannot_be_read_states_only_what_it_denies() -> None:
    assert said(sender(), {"consent": {"tcf": "DDDD"}}) == []
    context = {"consent": {"tcf": "DDDD", "categoryPreferences": {"ads": False, "email": True}}}
    [statement] = said(sender(), context)
    assert statement.purposes == {"ads": False}


def test_the_head_is_that_of_the_moment() -> None:
    heads = iter((1, 1, 2))
    stamper = Stamper(Config().consent, head=lambda: next(heads))
    assert [stamper.stamp("DE", gpc=False).head for _ in range(3)] == [1, 1, 2]
