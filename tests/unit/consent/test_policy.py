"""The gate against an independent oracle, over every combination, and on whatever is made up."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from cdp.clock import DAY_US
from cdp.config_consent import Consent, Purpose, Regime
from cdp.consent.policy import REASONS, may
from cdp.consent.rules import Rules
from cdp.domain.consent import BASES, NOBODY, Latest, Standing
from cdp.domain.event import ConsentStamp

NOW_US = 2_000 * DAY_US
HEAD = 10
STAMPS = ("granted", "denied", "absent", "unnamed", "unreadable")
LATEST = ("granted", "denied", "none", "expired", "superseded")
GPC = ("", "event", "person")


def rules_with(basis="opt_in", **fields):
    """Rules with one purpose, `ads`, that sells, and one regime, `law`."""
    law = Regime(version="1", jurisdictions=("ZZ",), basis=basis, **fields)
    return Rules(Consent(purposes={"ads": Purpose(sale_or_share=True)}, regimes={"law": law}))


USES = {basis: rules_with(basis).use(["ads"]) for basis in BASES}
NO_USE = rules_with().use([])


def stamp_of(state, *, gpc=False, head=HEAD, regime="law@1"):
    said = {"granted": {"ads": True}, "denied": {"ads": False}, "unnamed": {"other": True}}
    return ConsentStamp(
        present=state != "absent",
        purposes=said.get(state, {}),
        readable=state != "unreadable",
        head=head,
        regime=regime,
        gpc=gpc,
    )


def standing_of(state, *, gpc=False, suppressed=False, restricted=False, seq=HEAD - 1):
    purposes = {} if state == "none" else {"ads": Latest(state, seq, NOW_US - DAY_US)}
    return Standing(purposes, gpc=gpc, suppressed=suppressed, restricted=restricted)


def oracle(basis, stamp, latest, gpc, suppressed, restricted, mapped):
    """The rules in other words: what a person's data may be used for. One answer, no reasons."""
    if suppressed or restricted or not mapped:
        return False
    if stamp == "unreadable":
        return False
    if basis == "necessary":
        return True
    if gpc == "event":
        return False
    if basis == "legitimate_interest":
        return "denied" not in (stamp, latest) and not gpc
    if basis == "opt_out":
        return stamp in ("granted", "absent") and latest != "denied" and not gpc
    assert basis == "opt_in"
    # With no word on the event itself the grant that was recorded before it stands for it.
    return stamp in ("granted", "absent") and latest == "granted"


CELLS = list(product(BASES, STAMPS, LATEST, GPC, *[(False, True)] * 3))


def test_the_table_has_every_cell():
    assert len(CELLS) == 2_400  # 1,600 with one bit of Global Privacy Control; here it has a place
    assert len({cell for cell in CELLS if cell[3] != "person"}) == 1_600


def test_every_cell_is_what_the_oracle_says():
    wrong = []
    allowed = 0
    for cell in CELLS:
        basis, stamp, latest, gpc, suppressed, restricted, mapped = cell
        decision = may(
            USES[basis] if mapped else NO_USE,
            stamp_of(stamp, gpc=gpc == "event"),
            standing_of(latest, gpc=gpc == "person", suppressed=suppressed, restricted=restricted),
            NOW_US,
        )
        allowed += decision.allowed
        if decision.allowed != oracle(*cell) or decision.allowed != (decision.reason == "granted"):
            wrong.append((cell, decision))
    assert wrong == []
    assert allowed == 84  # necessary 60, legitimate interest 12, opt-out 8, opt-in 4


@pytest.mark.parametrize(
    ("basis", "stamp", "standing", "reason"),
    [
        ("opt_in", stamp_of("granted"), standing_of("granted"), "granted"),
        ("opt_in", stamp_of("granted"), NOBODY, "no_grant"),
        ("opt_in", stamp_of("absent"), NOBODY, "no_grant"),
        ("opt_in", stamp_of("denied"), standing_of("granted"), "denied"),
        ("opt_in", stamp_of("unnamed"), standing_of("granted"), "not_in_stamp"),
        ("opt_in", stamp_of("granted"), standing_of("denied"), "withdrawn"),
        ("opt_in", stamp_of("granted"), standing_of("expired"), "expired"),
        ("opt_in", stamp_of("granted"), standing_of("superseded"), "superseded"),
        ("opt_in", stamp_of("absent"), standing_of("granted", seq=HEAD), "granted_later"),
        ("opt_in", stamp_of("absent", head=0), standing_of("granted"), "granted_later"),
        ("opt_in", stamp_of("granted"), standing_of("granted", seq=HEAD), "granted"),
        ("opt_in", stamp_of("granted", gpc=True), standing_of("granted"), "gpc"),
        ("opt_in", stamp_of("granted"), standing_of("granted", gpc=True), "granted"),
        ("opt_out", stamp_of("absent"), NOBODY, "granted"),
        ("opt_out", stamp_of("absent"), standing_of("denied"), "withdrawn"),
        ("opt_out", stamp_of("absent"), standing_of("none", gpc=True), "gpc"),
        ("opt_out", stamp_of("unnamed"), NOBODY, "not_in_stamp"),
        ("opt_out", stamp_of("unreadable"), NOBODY, "unreadable"),
        ("legitimate_interest", stamp_of("unnamed"), NOBODY, "granted"),
        ("legitimate_interest", stamp_of("denied"), NOBODY, "objected"),
        ("legitimate_interest", stamp_of("absent"), standing_of("denied"), "objected"),
        ("necessary", stamp_of("denied", gpc=True), standing_of("denied", gpc=True), "granted"),
        ("necessary", stamp_of("granted"), Standing(suppressed=True), "suppressed"),
        ("necessary", stamp_of("granted"), Standing(restricted=True), "restricted"),
        ("necessary", stamp_of("granted", regime="other@1"), NOBODY, "unknown"),
        ("necessary", stamp_of("granted", regime="@1"), NOBODY, "unknown"),
    ],
)
def test_each_reason(basis, stamp, standing, reason):
    assert may(USES[basis], stamp, standing, NOW_US) == (reason == "granted", reason)
    assert reason in REASONS


@pytest.mark.parametrize("value", [1, "true", "granted", None, [True]])
@pytest.mark.parametrize("basis", ["opt_in", "opt_out", "legitimate_interest"])
def test_only_true_itself_grants(basis, value):
    stamp = ConsentStamp(present=True, purposes={"ads": value}, head=HEAD, regime="law@1")
    assert not may(USES[basis], stamp, standing_of("granted"), NOW_US).allowed


def test_a_grant_ends_with_the_age_that_the_regime_of_the_event_allows():
    use = rules_with(grant_age_days_max=30).use(["ads"])
    granted = Standing({"ads": Latest("granted", 1, at_us=NOW_US)})
    at = [may(use, stamp_of("granted"), granted, NOW_US + days * DAY_US) for days in (0, 29, 30)]
    assert [decision.reason for decision in at] == ["granted", "granted", "expired"]
    opt_out = rules_with("opt_out", grant_age_days_max=30).use(["ads"])
    assert may(opt_out, stamp_of("granted"), granted, NOW_US + 99 * DAY_US).allowed


def test_a_grant_ends_when_it_was_given_until():
    until = Standing({"ads": Latest("granted", 1, at_us=NOW_US, expires_at_us=NOW_US + 5)})
    at = [may(USES["opt_in"], stamp_of("granted"), until, NOW_US + one) for one in (4, 5)]
    assert [decision.reason for decision in at] == ["granted", "expired"]


@pytest.mark.parametrize(("basis", "reason"), [("opt_out", "withdrawn"), ("opt_in", "withdrawn")])
def test_a_denial_that_a_grant_overruled_holds_again_when_the_grant_ends(basis, reason):
    lifted = Latest("granted", 1, at_us=NOW_US, expires_at_us=NOW_US + 5, lifts=True)
    standing = Standing({"ads": lifted})
    use = USES[basis]
    assert may(use, stamp_of("granted"), standing, NOW_US).allowed
    assert may(use, stamp_of("granted"), standing, NOW_US + 5) == (False, reason)


def test_every_purpose_must_be_allowed():
    consent = Consent(defaults={"mail": "granted", "ads": "denied"})
    rules = Rules(consent)
    silent = ConsentStamp(head=HEAD)
    assert may(rules.use(["mail"]), silent, NOBODY, NOW_US).allowed
    assert may(rules.use(["mail", "ads"]), silent, NOBODY, NOW_US) == (False, "no_grant")
    assert may(rules.use(["ads", "mail"]), silent, standing_of("granted"), NOW_US).allowed


def test_a_stamp_of_an_older_version_of_a_regime_is_judged_by_the_regime_of_today():
    assert may(USES["opt_out"], stamp_of("absent", regime="law@0"), NOBODY, NOW_US).allowed


WORDS = ("ads", "mail", "sale", "else", "")
STATES = ("granted", "denied", "expired", "superseded", "no state of ours")
REGIMES = ("", "gdpr@1", "gdpr@0", "strictest@1", "nowhere@1", "@", "GDPR@1")
IN_EUROPE = Rules(Consent(purposes={"sale": Purpose(sale_or_share=True)}, jurisdiction="DE"))


def made_up(rng):
    """A destination's purposes, a stamp and a standing, of anything at all."""
    some = [word for word in WORDS if rng.random() < 0.6]
    stamp = ConsentStamp(
        present=rng.random() < 0.5,
        purposes={word: rng.choice([True, True, True, False, None, "true"]) for word in some},
        readable=rng.random() < 0.9,
        head=rng.randrange(10),
        regime=rng.choice(REGIMES),
        gpc=rng.random() < 0.3,
    )
    latest = {
        word: Latest(
            "granted" if rng.random() < 0.6 else rng.choice(STATES),
            rng.randrange(1, 10),
            rng.choice([0, NOW_US - DAY_US, NOW_US]),
            expires_at_us=rng.choice([0, 0, NOW_US - 1, NOW_US + 1]),
            lifts=rng.random() < 0.3,
        )
        for word in WORDS
        if rng.random() < 0.7
    }
    purposes = frozenset(rng.choices(WORDS, k=rng.randrange(3)))
    return purposes, stamp, Standing(latest, gpc=rng.random() < 0.3)


@pytest.mark.slow
def test_under_opt_in_nothing_unmapped_unknown_unreadable_or_unsaid_is_allowed():
    rng = Random(20)
    allowed = 0
    for _ in range(100_000):
        purposes, stamp, standing = made_up(rng)
        if may(IN_EUROPE.use(purposes), stamp, standing, NOW_US).allowed:
            allowed += 1
            assert_permitted(purposes, stamp, standing)
    assert allowed > 1_000


def assert_permitted(purposes, stamp, standing):
    assert purposes
    assert stamp.readable
    assert stamp.regime not in ("nowhere@1", "@", "GDPR@1")
    for purpose in purposes:
        latest = standing.purposes[purpose]
        assert latest.state == "granted"
        assert latest.at_us > 0
        assert not 0 < latest.expires_at_us <= NOW_US
        if stamp.present:
            assert stamp.purposes[purpose] is True
        else:
            assert latest.seq < stamp.head
        assert not (stamp.gpc and purpose == "sale")
