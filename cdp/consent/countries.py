"""Which country an address is in, by a local table; nothing is asked over the network.

The table is a CSV file of three columns: first address, last address, code. A code is a country
(DE) or a subdivision (US-CA). Both families of addresses may stand in one file, in any order, and
ranges must not overlap: of two answers neither would be right.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from cdp.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_CODE: Final = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,3})?")
_FOUND_MAX: Final = 4_096  # answers kept at hand
_COLUMNS: Final = 3


class _Range(NamedTuple):
    first: int
    last: int
    code: str
    line: int


class _Family:
    """The ranges of one family of addresses, in order."""

    __slots__ = ("_codes", "_firsts", "_lasts")

    def __init__(self, ranges: Sequence[_Range]) -> None:
        self._firsts = [entry.first for entry in ranges]
        self._lasts = [entry.last for entry in ranges]
        self._codes = [entry.code for entry in ranges]

    def find(self, address: int) -> str:
        place = bisect_right(self._firsts, address) - 1
        return self._codes[place] if place >= 0 and address <= self._lasts[place] else ""

    def __len__(self) -> int:
        return len(self._firsts)


class CountryTable:
    """Addresses to codes. `code_of` answers an empty text for what it does not know."""

    def __init__(self, lines: Iterable[str], *, name: str) -> None:
        """Reads the lines of a table; `name` is the file's, for errors.

        Raises:
            ConfigError: a line is wrong or overlaps another.
        """
        found: dict[int, list[_Range]] = {4: [], 6: []}
        codes: dict[str, str] = {}  # one object a code: there are 250 of them and 500,000 lines
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if text and not text.startswith("#"):
                version, entry = _read_line(text, number, name)
                code = codes.setdefault(entry.code, entry.code)
                found[version].append(entry._replace(code=code))
        self._families = {version: _ordered(ranges, name) for version, ranges in found.items()}
        self.code_of = lru_cache(maxsize=_FOUND_MAX)(self._find)

    def __len__(self) -> int:
        return sum(len(family) for family in self._families.values())

    def _find(self, address: str) -> str:
        try:
            parsed = ip_address(address)
        except ValueError:
            return ""
        mapped = getattr(parsed, "ipv4_mapped", None)
        parsed = mapped or parsed
        return self._families[parsed.version].find(int(parsed))


def load_countries(path: Path) -> CountryTable:
    """The table in a file.

    Raises:
        ConfigError: the file cannot be read, or a line of it is wrong.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return CountryTable(lines, name=str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file: {error.reason}") from error


def _read_line(text: str, number: int, name: str) -> tuple[int, _Range]:
    columns = [column.strip().strip('"') for column in text.split(",")]
    if len(columns) != _COLUMNS:
        raise ConfigError(f"{name}:{number}: expected first address, last address, country code")
    try:
        first, last = ip_address(columns[0]), ip_address(columns[1])
    except ValueError as error:
        raise ConfigError(f"{name}:{number}: {error}") from None
    if isinstance(first, IPv4Address) != isinstance(last, IPv4Address):
        raise ConfigError(f"{name}:{number}: one address is IPv4 and the other IPv6")
    if int(first) > int(last):
        raise ConfigError(f"{name}:{number}: the first address comes after the last")
    if _CODE.fullmatch(columns[2]) is None:
        raise ConfigError(f'{name}:{number}: "{columns[2]}" is no country code; write DE or US-CA')
    return first.version, _Range(int(first), int(last), columns[2], number)


def _ordered(ranges: list[_Range], name: str) -> _Family:
    ranges.sort()
    for before, after in pairwise(ranges):
        if after.first <= before.last:
            raise ConfigError(f"{name}:{after.line}: overlaps line {before.line}; remove one")
    return _Family(ranges)
