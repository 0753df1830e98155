from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdp.consent.countries import CountryTable, load_countries
from cdp.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LINES = [
    "# a comment, and an empty line",
    "",
    "81.0.0.0,81.0.255.255,DE",
    '"8.8.8.0","8.8.8.255","US-CA"',
    "2001:db8::, 2001:db8:0:ffff:ffff:ffff:ffff:ffff, FR",
    "81.1.0.0,81.1.0.0,AT",
]


def table() -> CountryTable:
    return CountryTable(LINES, name="table.csv")


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("81.0.0.0", "DE"),
        ("81.0.255.255", "DE"),
        ("81.1.0.0", "AT"),
        ("81.1.0.1", ""),
        ("80.255.255.255", ""),
        ("8.8.8.8", "US-CA"),
        ("::ffff:8.8.8.8", "US-CA"),
        ("2001:db8::1", "FR"),
        ("2001:db7:ffff::", ""),
        ("0.0.0.0", ""),
        ("::", ""),
        ("", ""),
        ("not an address", ""),
        ("81.0.0.0/24", ""),
    ],
)
def test_an_address_has_the_code_of_its_range_or_none(address: str, code: str) -> None:
    assert table().code_of(address) == code


def test_families_are_apart() -> None:
    v4 = CountryTable(["0.0.0.1,0.0.0.9,DE"], name="t")
    assert v4.code_of("0.0.0.5") == "DE"
    assert v4.code_of("::5") == ""


@given(st.sets(st.integers(0, 2_000), max_size=40), st.integers(0, 2_100))
def test_it_answers_as_a_search_through_all_lines_would(edges: set[int], asked: int) -> None:
    listed = sorted(edges)
    pairs = list(zip(listed[::2], listed[1::2], strict=False))
    codes = {pair: ("DE", "FR", "AT")[place % 3] for place, pair in enumerate(pairs)}
    lines = [f"{IPv4Address(a)},{IPv4Address(b)},{code}" for (a, b), code in codes.items()]
    found = CountryTable(reversed(lines), name="t")
    assert len(found) == len(pairs)
    expected = [code for (a, b), code in codes.items() if a <= asked <= b]
    assert found.code_of(str(IPv4Address(asked))) == "".join(expected)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1.2.3.4,1.2.3.5", "expected first address, last address, country code"),
        ("1.2.3.4,1.2.3.5,DE,x", "expected first address, last address, country code"),
        ("1.2.3.400,1.2.3.5,DE", "1.2.3.400"),
        ("1.2.3.4,::1,DE", "one address is IPv4 and the other IPv6"),
        ("1.2.3.5,1.2.3.4,DE", "the first address comes after the last"),
        ("1.2.3.4,1.2.3.5,Germany", '"Germany" is no country code'),
        ("1.2.3.4,1.2.3.5,de", '"de" is no country code'),
        ("81.0.9.0,81.0.9.9,FR", "overlaps line 3"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "countries.csv"
    path.write_text("\n".join([*LINES, line]))
    with pytest.raises(ConfigError, match=r"countries\.csv:7: ") as caught:
        load_countries(path)
    assert words in str(caught.value)


def test_a_file_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "countries.csv"
    path.write_text("\n".join(LINES))
    assert len(load_countries(path)) == 4
    with pytest.raises(ConfigError, match=r"absent\.csv: cannot be read"):
        load_countries(tmp_path / "absent.csv")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file"):
        load_countries(path)
