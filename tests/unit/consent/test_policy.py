"""The gate fails closed: a table of what was said, what is configured, and the answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.consent.policy import REASONS, may
from cdp.domain.event import ConsentStamp

SILENT = ConsentStamp()


def said(**purposes: bool) -> ConsentStamp:
    return ConsentStamp(present=True, purposes=purposes)


@pytest.mark.parametrize(
    ("purposes", "stamp", "defaults", "reason"),
    [
        ({"ads"}, said(ads=True), {}, "granted"),
        ({"ads"}, said(ads=True), {"ads": "denied"}, "granted"),
        ({"ads", "mail"}, said(ads=True, mail=True, other=False), {}, "granted"),
        ({"ads"}, SILENT, {"ads": "granted"}, "granted"),
        (set(), said(ads=True), {"ads": "granted"}, "no_purpose"),
        ({"ads"}, said(ads=False), {"ads": "granted"}, "denied"),
        ({"ads"}, said(), {"ads": "granted"}, "not_in_stamp"),
        ({"ads"}, said(mail=True), {"ads": "granted"}, "not_in_stamp"),
        (("ads", "mail"), said(ads=True, mail=False), {}, "denied"),
        (("ads", "mail"), said(ads=True), {}, "not_in_stamp"),
        ({"ads"}, SILENT, {"ads": "denied"}, "denied_by_default"),
        ({"ads"}, SILENT, {}, "unknown"),
        ({"ads"}, SILENT, {"mail": "granted"}, "unknown"),
        ({"ads"}, SILENT, {"ads": "Granted"}, "denied_by_default"),
        ({"ads"}, ConsentStamp(present=False, purposes={"ads": True}), {}, "unknown"),
    ],
)
def test_the_answer_to_what_was_said(purposes, stamp, defaults, reason):
    assert may(purposes, stamp, defaults) == (reason == "granted", reason)


@pytest.mark.parametrize("value", [1, "true", "granted", None, [True]])
def test_only_true_itself_grants(value):
    assert not may({"ads"}, ConsentStamp(present=True, purposes={"ads": value}), {}).allowed


words = st.sampled_from(["a", "b", "c"])


@given(
    st.sets(words),
    st.builds(ConsentStamp, present=st.booleans(), purposes=st.dictionaries(words, st.booleans())),
    st.dictionaries(words, st.sampled_from(["granted", "denied"])),
)
def test_it_is_allowed_only_where_every_purpose_was_granted(purposes, stamp, defaults):
    decision = may(purposes, stamp, defaults)
    granted = (
        {name for name, value in stamp.purposes.items() if value}
        if stamp.present
        else {name for name, value in defaults.items() if value == "granted"}
    )
    assert decision.allowed == (bool(purposes) and purposes <= granted)
    assert decision.reason in REASONS
    assert decision.allowed == (decision.reason == "granted")
