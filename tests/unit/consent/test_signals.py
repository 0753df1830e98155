from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.config_consent import Consent, Purpose, Signals
from cdp.consent.gpp import FORMATS
from cdp.consent.signals import Said, SignalReader, strictest
from tests.unit.consent.consent_strings import gpp_string, tc_string, us_section

CONSENT = Consent(
    purposes={
        "ads": Purpose(sale_or_share=True),
        "partners": Purpose(sale_or_share=True),
        "analytics": Purpose(),
        "health": Purpose(sensitive=True),
    },
    signals=Signals(tcf_vendor=7, tcf_purposes={"ads": (1, 3, 4), "analytics": (1, 8)}),
)
GRANTING = tc_string(purposes=[1, 3, 4, 8], vendor_consents=[7])
REFUSING = tc_string(purposes=[1, 8], vendor_consents=[7])
VERDICTS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.booleans())


def reader(consent: Consent = CONSENT) -> SignalReader:
    return SignalReader(consent, string_bytes_max=4_096)


def read(consent: Any = None, management: Any = None) -> Said:
    said = reader().read(consent, management)
    assert said is not None
    return said


def us(section: int, **values: Any) -> str:
    gpc = values.pop("gpc", None)
    layout = FORMATS[section].layouts[1][0]
    return gpp_string({section: us_section(layout, values, gpc=gpc)})


def test_a_tc_string_speaks_of_our_purposes_by_the_table() -> None:
    assert read({"tcf": GRANTING}).purposes == {"ads": True, "analytics": True}
    assert read({"tcf": REFUSING}).purposes == {"ads": False, "analytics": True}
    other = tc_string(purposes=range(1, 25), vendor_consents=[8])
    assert read({"tcf": other}).purposes == {"ads": False, "analytics": False}


def test_the_stamp_keeps_the_digest_of_a_string_and_not_the_string() -> None:
    ours = reader()
    said = ours.read({"tcf": GRANTING}, None)
    assert said is not None
    assert said.signals == {"tcf": sha256(GRANTING.encode()).hexdigest()[:16]}
    assert GRANTING not in repr((said, ours.__dict__))


def test_a_tc_string_within_a_gpp_string_counts_as_one() -> None:
    assert read({"gpp": gpp_string({2: REFUSING})}).purposes == {"ads": False, "analytics": True}
    both = read({"tcf": GRANTING, "gpp": gpp_string({2: REFUSING})})
    assert both.purposes == {"ads": False, "analytics": True}
    assert set(both.signals) == {"tcf", "gpp"}


@pytest.mark.parametrize(
    "text",
    [
        us(8, SaleOptOut=1),
        us(8, SharingOptOut=1),
        us(12, TargetedAdvertisingOptOut=1),
        us(7, KnownChildSensitiveDataConsents=[0, 1]),
        us(10, SaleOptOut=2, gpc=True),
    ],
)
def test_an_opt_out_of_us_law_denies_what_is_sold_or_shared(text: str) -> None:
    assert read({"gpp": text}).purposes == {"ads": False, "partners": False}


def test_not_opting_out_is_not_consent() -> None:
    assert read({"gpp": us(8, SaleOptOut=2, SharingOptOut=2, gpc=False)}).purposes == {}


def test_a_missing_consent_to_sensitive_data_denies_sensitive_purposes() -> None:
    sensitive = [2, 1, 0, 2, 2, 2, 2, 2, 2]
    text = us(8, SaleOptOut=2, SensitiveDataProcessing=sensitive)
    assert read({"gpp": text}).purposes == {"health": False}


def test_only_the_sections_that_are_configured_count() -> None:
    narrow = Consent(purposes=CONSENT.purposes, signals=Signals(gpp_sections=("usnat",)))
    said = reader(narrow).read({"gpp": us(8, SaleOptOut=1)}, None)
    assert said is not None
    assert (said.purposes, said.readable) == ({}, True)


def test_what_the_body_says_and_strings_combine_so_that_a_denial_wins() -> None:
    said = read({"categoryPreferences": {"ads": True, "analytics": False}, "tcf": GRANTING})
    assert said.purposes == {"ads": True, "analytics": False}
    said = read({"categoryPreferences": {"ads": True, "email": True}, "tcf": REFUSING})
    assert said.purposes == {"ads": False, "analytics": True, "email": True}
    said = read({"categoryPreferences": {"ads": True}, "gpp": us(8, SaleOptOut=1)})
    assert said.purposes == {"ads": False, "partners": False}


@pytest.mark.parametrize(
    "consent",
    [
        "yes",
        ["ads"],
        True,
        {"tcf": ""},
        {"tcf": "DDDD"},
        {"tcf": 7},
        {"tcf": GRANTING * 40},
        {"tcf": "\ud800"},
        {"gpp": ""},
        {"gpp": {"gppString": "DBAA"}},
        {"categoryPreferences": ["ads"]},
        {"categoryPreferences": None},
    ],
)
def test_what_cannot_be_read_grants_nothing_whatever_else_is_said(consent: Any) -> None:
    said = read(consent, {"allowedConsentIds": ["ads"], "deniedConsentIds": ["email"]})
    assert not said.readable
    assert said.purposes == {"email": False}
    assert not read(consent).readable


@pytest.mark.parametrize(
    "management", ["no", [], 0, {"allowedConsentIds": "ads"}, {"deniedConsentIds": [7, "email"]}]
)
def test_lists_of_ids_that_cannot_be_read_grant_nothing(management: Any) -> None:
    said = read({"categoryPreferences": {"ads": True, "email": False}}, management)
    assert not said.readable
    assert said.purposes == {"email": False}


@pytest.mark.parametrize(
    ("consent", "management"),
    [(None, None), ({}, None), ({}, {}), ({"tcf": None}, {"a": 1})],
)
def test_saying_nothing_is_no_statement(consent: Any, management: Any) -> None:
    assert reader().read(consent, management) is None


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("privacy@3", "privacy@3"),
        ({"id": "privacy", "version": "3"}, "privacy@3"),
        ({"id": "privacy", "version": 3}, ""),
        (["privacy"], ""),
        ("x" * 200, "x" * 100),
    ],
)
def test_the_policy_is_kept_as_id_and_version(policy: Any, text: str) -> None:
    assert read({"categoryPreferences": {}, "policy": policy}).policy == text


@given(st.lists(VERDICTS, max_size=5))
def test_the_strictest_of_all_grants_only_where_nobody_denies(
    said: list[dict[str, bool]],
) -> None:
    together = strictest(said)
    for purpose in ("a", "b", "c"):
        answers = [verdict[purpose] for verdict in said if purpose in verdict]
        assert together.get(purpose) == (all(answers) if answers else None)


def test_a_string_is_read_once_and_not_remembered_for_ever() -> None:
    ours = reader()
    for number in range(5_000):
        ours.read({"tcf": f"junk{number}"}, None)
    said = [ours.read({"tcf": GRANTING}, None) for _ in range(3)]
    assert said[0] == said[1] == said[2]
    assert len(ours._remembered) <= 4_096


def test_a_segment_of_25_000_vendors_is_read_and_one_letter_too_many_is_not() -> None:
    wide = tc_string(purposes=[1, 3, 4, 8], vendor_consents=[7], disclosed=[(1, 25_000)])
    assert read({"tcf": wide}).purposes == {"ads": True, "analytics": True}
    longest = tc_string(
        purposes=[1, 3, 4, 8], vendor_consents=[7], disclosed=[(n, n) for n in range(1, 1_420)]
    )
    ours = SignalReader(CONSENT, string_bytes_max=len(longest))
    said = ours.read({"tcf": longest}, None)
    assert said is not None
    assert said.purposes == {"ads": True, "analytics": True}
    said = ours.read({"tcf": longest + "A"}, None)
    assert said == Said({}, readable=False)
