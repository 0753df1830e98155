from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.consent.bits import Malformed, Unreadable
from cdp.consent.gpp import FORMATS, GppString, read_gpp_string, read_header
from cdp.consent.tcf import read_tc_string
from tests.unit.consent.consent_strings import (
    damaged,
    gpp_header,
    gpp_string,
    number,
    tc_string,
    to_text,
    us_section,
)

LIMIT = 4_096
# Every section with its defaults, as the reference implementation writes them.
DEFAULTS = (
    "DBACOdM~CPSG_8APSG_8AAAAAAENAACAAAAAAAAAAAAAAAAAAAAA.QAAA.IAAA~BPSG_8APSG_8AAAAAAENAACAAAA"
    "AAAAAAAAAAAAAAA.YAAAAAAAAAA~1---~BAAAAAAAAABA.QA~BAAAAABA.QA~BAAAABA~BAAAAEA.QA~BAAAAAQA~B"
    "AAAAAEA.QA~BAAAAABA~BAAAAABA.QA~BAAAAAABAA.QA~BAAAAAQA.QA~BAAAAAABAA.QA~BAAAAAQA.QA~BAAAAA"
    "QA.QA~BAAAAABA.QA~BAAAAAAAQA.QA~BAAAAAQA.QA"
)


def read(text: str) -> GppString:
    found = read_gpp_string(text, bytes_max=LIMIT)
    assert isinstance(found, GppString), found
    return found


def reason(text: str, limit: int = LIMIT) -> str:
    found = read_gpp_string(text, bytes_max=limit)
    assert isinstance(found, Unreadable)
    return found.reason


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        ("DBAA", []),
        ("DBABM", [2]),
        ("DBABMA", [2]),
        ("DBACNY", [2, 6]),
        ("DBACNYA", [2, 6]),
        ("DBABjw", [5, 6]),
        ("DBABTA", [6]),
        ("DBABBg", [8]),
        ("DBACOdM", [2, *range(5, 23)]),
    ],
)
def test_headers_of_the_specification_and_its_implementations(header: str, ids: list[int]) -> None:
    assert read_header(header, ids_max=64) == ids


@given(st.sets(st.integers(1, 60), max_size=40))
def test_any_header_is_read_as_it_was_written(ids: set[int]) -> None:
    assert read_header(gpp_header(sorted(ids)), ids_max=64) == sorted(ids)


def test_every_section_of_the_reference_implementation_is_read() -> None:
    found = read(DEFAULTS)
    assert found.tcf is not None
    assert found.unknown == (5,)
    known = {known.name for section, known in FORMATS.items() if section < 23}
    assert set(found.sections) == {"uspv1", *known}
    for name, section in found.sections.items():
        if name == "uspv1":
            continue
        assert section.gpc is (None if name in ("usva", "usut", "usfl") else False)
        # It alone is not zero by default and stands near the end: the widths before it are right.
        assert section.fields["MspaCoveredTransaction"] == (1,), name
        others = [
            values for key, values in section.fields.items() if key != "MspaCoveredTransaction"
        ]
        assert {value for values in others for value in values} == {0}


@pytest.mark.parametrize(
    ("section", "text", "fields"),
    [
        (
            7,
            "BVVVkkkklWA.YA",
            {
                "SaleOptOut": (1,),
                "SensitiveDataProcessing": (2, 1, 0, 2, 1, 0, 2, 1, 0, 2, 1, 0),
                "KnownChildSensitiveDataConsents": (2, 1),
                "MspaServiceProviderMode": (2,),
            },
        ),
        (
            8,
            "BVWSSSVY.YA",
            {
                "SensitiveDataLimitUseNotice": (1,),
                "SharingOptOut": (1,),
                "SensitiveDataProcessing": (2, 1, 0, 2, 1, 0, 2, 1, 0),
                "KnownChildSensitiveDataConsents": (2, 1),
                "PersonalDataConsents": (1,),
                "MspaServiceProviderMode": (2,),
            },
        ),
        (
            17,
            "BVWSSSSVYA.YA",
            {
                "TargetedAdvertisingOptOut": (1,),
                "SensitiveDataProcessing": (2, 1, 0, 2, 1, 0, 2, 1, 0),
                "KnownChildSensitiveDataConsents": (2, 1, 0, 2, 1),
                "MspaServiceProviderMode": (2,),
            },
        ),
        (
            21,
            "BVWSSRklWA.YA",
            {
                "SensitiveDataProcessing": (2, 1, 0, 2, 1, 0, 2, 1, 0, 1),
                "KnownChildSensitiveDataConsents": (2, 1, 0, 2, 1),
                "AdditionalDataProcessingConsent": (1,),
                "MspaServiceProviderMode": (2,),
            },
        ),
    ],
)
def test_sections_of_the_reference_implementation(
    section: int, text: str, fields: dict[str, tuple[int, ...]]
) -> None:
    found = read(f"{gpp_header([section])}~{text}").sections[FORMATS[section].name]
    assert found.gpc is True
    assert found.version == 1
    assert {name: found.fields[name] for name in fields} == fields


def layouts() -> list[tuple[int, int, int]]:
    return [
        (section, version, place)
        for section, known in FORMATS.items()
        for version, options in known.layouts.items()
        for place in range(len(options))
    ]


@given(st.sampled_from(layouts()), st.one_of(st.none(), st.booleans()), st.data())
def test_any_section_is_read_as_it_was_written(
    which: tuple[int, int, int], gpc: bool | None, data: st.DataObject
) -> None:
    section, version, place = which
    known = FORMATS[section]
    layout = known.layouts[version][place]
    values = {
        name: tuple(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
        for name, count in layout
    }
    if not known.has_gpc:
        gpc = None
    text = us_section(layout, values, gpc=gpc, version=version)
    found = read(gpp_string({section: text})).sections[known.name]
    assert (found.version, found.fields, found.gpc) == (version, values, gpc)


def test_the_european_section_is_read_as_a_tc_string() -> None:
    text = tc_string(purposes=[1, 3], vendor_consents=[7])
    found = read(gpp_string({2: text}))
    assert found.tcf == read_tc_string(text, bytes_max=LIMIT)


def test_the_older_us_privacy_string_is_a_section_of_four_letters() -> None:
    assert read("DBABTA~1YNN").sections["uspv1"].fields == {"SaleOptOut": (2,)}
    assert read("DBABTA~1YYN").sections["uspv1"].says_no("SaleOptOut")
    for text in ("1YN", "2YNN", "1YNX", "1YNNN", "11NN", ""):
        assert "uspv1" in reason(f"DBABTA~{text}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty segment"),
        ("DDDD", "version 1"),
        ("z", "not of type 3"),
        ("D", "ends too early"),
        ("CPcqBNJPcqBNJNwAAAENAwCAAAAAAAAAAAAAAAAAAAAA", "not of type 3"),
        ("DBABM", "another number of sections"),
        ("DBABM~a~b", "another number of sections"),
        ("DBABM~", "tc string: empty segment"),
        ("DBABM~DDDD", "tc string: version is 3"),
        ("DBAA" + "A" * 200, "header is longer"),
        ("DBABBg~", "section usca: empty segment"),
        ("DBABBg~BAAAA", "section usca: ends too early"),
        ("DBABBg~CAAAAABA", "section usca: version 2 is unknown"),
        ("DBABBg~BAAAAABA.QA.QA", "section usca: has more sub-sections"),
        ("DBABBg~BAAAAABA.gA", "sub-section is not of type gpc"),
        ("DBABBg~BAAAAABAAAAAAA", "section usca: has more than its fields"),
        ("DBABBg~B_AAAABA", "has a value that the format does not know"),
        ("DBABBg~BAAAAAB=", "not base64url"),
        (gpp_header([9]) + "~BAAAABA.QA", "section usva: has more sub-sections"),
    ],
)
def test_what_is_not_a_gpp_string_has_a_reason(text: str, words: str) -> None:
    assert words in reason(text)


def test_one_section_that_cannot_be_read_makes_the_whole_unreadable() -> None:
    good = us_section(FORMATS[8].layouts[1][0], {"SaleOptOut": 2})
    assert read(gpp_string({8: good}))
    assert "usnat" in reason(gpp_string({7: "BAAA", 8: good}))


def test_sections_that_we_do_not_know_are_listed_and_say_nothing() -> None:
    found = read(gpp_string({27: "anything", 31: "!"}))
    assert (found.sections, found.tcf, found.unknown) == ({}, None, (27, 31))


def test_a_header_cannot_make_more_sections_than_there_may_be() -> None:
    wide = to_text(number(3, 6) + number(1, 6) + number(1, 12) + "1" + "11" + "0" * 20 + "11")
    with pytest.raises(Malformed, match="too many sections"):
        read_header(wide, ids_max=64)


def test_the_limit_is_exact() -> None:
    assert read_gpp_string(DEFAULTS, bytes_max=len(DEFAULTS)) == read(DEFAULTS)
    assert f"longer than {len(DEFAULTS) - 1}" in reason(DEFAULTS, len(DEFAULTS) - 1)


def test_50_000_damaged_strings_are_read_or_refused_and_none_takes_long() -> None:
    rng = random.Random(29)
    seeds = [
        DEFAULTS,
        "DBACNYA~CPSG_8APSG_8ANwAAAENAwCAAAAAAAAAAAAAAAAAAAAA.QAAA.IAAA~1YNN",
        gpp_string({2: tc_string(vendor_consents=[(n, n) for n in range(1, 1_800, 2)]), 7: "BAAA"}),
        "DBA_" + "_" * 100,
        "DBAA" + "~" * 3_000,
    ]
    slowest_s, refused = 0.0, 0
    for _ in range(50_000):
        text = damaged(rng, rng.choice(seeds))
        elapsed_s, found = timed(text)
        if elapsed_s > 0.001:  # the machine may have been busy: the least of three counts
            elapsed_s = min(elapsed_s, timed(text)[0], timed(text)[0])
        slowest_s = max(slowest_s, elapsed_s)
        refused += isinstance(found, Unreadable)
    assert slowest_s < 0.001
    assert 1_000 < refused < 50_000


def timed(text: str) -> tuple[float, GppString | Unreadable]:
    started_s = time.thread_time()
    found = read_gpp_string(text, bytes_max=LIMIT)
    return time.thread_time() - started_s, found
