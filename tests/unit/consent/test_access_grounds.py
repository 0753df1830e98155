import hashlib
from itertools import product

import pytest

from cdp.config_consent import Consent, Policy, Purpose
from cdp.consent.grounds import BASIS_WORDS, ground, read_policies
from cdp.consent.policy import REASONS, may
from cdp.consent.rules import Rules
from cdp.domain.consent import BASES, Latest, Standing
from cdp.domain.event import ConsentStamp
from cdp.errors import ConfigError

NOW_US = 1_772_366_400_000_000

RULES = Rules(
    Consent(
        purposes={
            "ads": Purpose(sale_or_share=True),
            "mail": Purpose(),
            "billing": Purpose(bases=dict.fromkeys(("gdpr", "strictest"), "necessary")),
        }
    )
)
GDPR = RULES.regimes["gdpr"].label
STAMPS = (
    ConsentStamp(regime=GDPR),
    ConsentStamp(present=True, purposes={"ads": True, "mail": True}, regime=GDPR),
    ConsentStamp(present=True, purposes={"ads": False}, regime=GDPR),
    ConsentStamp(readable=False, regime=GDPR),
    ConsentStamp(regime="nowhere@1", gpc=True),
)
STANDINGS = (
    Standing(),
    Standing({"ads": Latest("granted", 1, NOW_US), "mail": Latest("granted", 2, NOW_US)}),
    Standing({"ads": Latest("denied", 3, NOW_US)}),
    Standing(suppressed=True),
    Standing(restricted=True),
    Standing(gpc=True),
)
USES = (("ads",), ("mail",), ("ads", "mail"), ("billing",), ("billing", "ads"), ())


@pytest.mark.parametrize(("stamp", "standing", "purposes"), list(product(STAMPS, STANDINGS, USES)))
def test_what_is_told_is_what_the_gate_answers(stamp, standing, purposes):
    use = RULES.use(purposes)
    told = ground(use, stamp, standing, NOW_US)
    assert (told["allowed"], told["reason"]) == may(use, stamp, standing, NOW_US)
    assert told["because"] == REASONS[told["reason"]]
    if told["purposes"]:
        assert told["allowed"] == all(one["allowed"] for one in told["purposes"])
        if not told["allowed"]:
            assert told["reason"] in [one["reason"] for one in told["purposes"]]


def test_each_purpose_shows_its_basis_what_was_said_and_where_it_stands():
    stamp, standing = STAMPS[2], STANDINGS[1]
    told = ground(RULES.use(("ads", "billing")), stamp, standing, NOW_US)
    ads, billing = told["purposes"]
    assert (ads["purpose"], ads["basis"], ads["event_said"]) == ("ads", "opt_in", "denied")
    assert (ads["person_now"]["state"], ads["person_now"]["record"]) == ("granted", 1)
    assert (ads["allowed"], ads["reason"]) == (False, "denied")
    assert (billing["basis"], billing["event_said"], billing["allowed"]) == (
        "necessary",
        "not named",
        True,
    )
    assert told["regime"] == GDPR


def test_every_basis_is_put_into_words():
    assert set(BASIS_WORDS) == set(BASES)


def test_the_policy_texts_of_the_purposes_are_shown_with_their_hashes(tmp_path):
    texts = {"privacy": "We use your data.", "terms": "All is for sale."}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    policies = read_policies(
        {
            "privacy": Policy(version="3", text=tmp_path / "privacy", purposes=("ads",)),
            "terms": Policy(version="1", text=tmp_path / "terms", purposes=("mail",)),
        }
    )
    told = ground(RULES.use(("ads",)), STAMPS[1], STANDINGS[1], NOW_US, policies)
    assert told["policies"] == [
        {
            "policy": "privacy@3",
            "language": "en",
            "text_sha256": hashlib.sha256(texts["privacy"].encode()).hexdigest(),
            "text": texts["privacy"],
        }
    ]


def test_a_policy_text_that_cannot_be_read_is_said_with_its_key(tmp_path):
    with pytest.raises(ConfigError, match=r"consent\.policies\.privacy\.text: .* cannot be read"):
        read_policies({"privacy": Policy(version="1", text=tmp_path / "none")})
