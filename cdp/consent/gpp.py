"""Strings of the IAB Global Privacy Platform. Pure and strict.

A header (type 3, version 1) names its sections by id, Fibonacci coded, and the sections follow,
joined by tildes. Those of US law are rows of small numbers: a table tells their names and widths.
The European section is a TC string and goes to its reader. A section that we know and cannot read
makes the whole string unreadable; one that we do not know is listed, and says nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cdp.consent.bits import Bits, Malformed, Unreadable
from cdp.consent.tcf import TcString, read_tc_string

_HEADER_TYPE: Final = 3
_HEADER_VERSION: Final = 1
_HEADER_CHARS_MAX: Final = 128
_SECTIONS_MAX: Final = 64
_CODE_BITS_MAX: Final = 24  # of a Fibonacci number: up to 121,392
_VALUE_MAX: Final = 2  # 0 does not apply; 1 opted out, no; 2 not opted out, yes
_GPC_TYPE: Final = 1

Layout = tuple[tuple[str, int], ...]  # field name and how many numbers of two bits it has


def _layout(text: str) -> Layout:
    pairs = (word.partition("*") for word in text.split())
    return tuple((name, int(count or 1)) for name, _, count in pairs)


_MSPA: Final = " MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode"
_SALE: Final = (
    " SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut"
)
_US_NATIONAL: Final = (
    "SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice "
    "SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut "
    "TargetedAdvertisingOptOut SensitiveDataProcessing*{} KnownChildSensitiveDataConsents*{} "
    "PersonalDataConsents" + _MSPA
)


def _state(notice: str, sensitive: int, children: int, *, additional: bool) -> Layout:
    """Most states differ in three numbers only."""
    text = f"{notice}{_SALE} SensitiveDataProcessing*{sensitive}"
    text += f" KnownChildSensitiveDataConsents*{children}"
    return _layout(text + " AdditionalDataProcessingConsent" * additional + _MSPA)


_NATIONAL_12: Final = _layout(_US_NATIONAL.format(12, 2))
_NATIONAL_16: Final = _layout(_US_NATIONAL.format(16, 3))


class SectionFormat(msgspec.Struct, frozen=True):
    """A section of US law: its layouts by version, and whether a GPC sub-section may follow.

    Where a version has two layouts, as encoders widened one without a new version, the one that
    fits the length is taken.
    """

    name: str
    layouts: dict[int, tuple[Layout, ...]]
    has_gpc: bool = True


def _only(name: str, layout: Layout, *, has_gpc: bool = True) -> SectionFormat:
    return SectionFormat(name, {1: (layout,)}, has_gpc)


_CALIFORNIA: Final = (
    "SaleOptOutNotice SharingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut "
    "SensitiveDataProcessing*9 KnownChildSensitiveDataConsents*2 PersonalDataConsents" + _MSPA
)
_UTAH: Final = (
    "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice "
    "SensitiveDataProcessingOptOutNotice SaleOptOut TargetedAdvertisingOptOut "
    "SensitiveDataProcessing*8 KnownChildSensitiveDataConsents" + _MSPA
)
_IOWA: Final = (
    "ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice "
    "SensitiveDataOptOutNotice SaleOptOut TargetedAdvertisingOptOut "
    "SensitiveDataProcessing*8 KnownChildSensitiveDataConsents" + _MSPA
)
TCF_EU: Final = 2
US_PRIVACY: Final = 6
FORMATS: Final[dict[int, SectionFormat]] = {
    7: SectionFormat("usnat", {1: (_NATIONAL_12, _NATIONAL_16), 2: (_NATIONAL_16,)}),
    8: _only("usca", _layout(_CALIFORNIA)),
    9: _only("usva", _state("SharingNotice", 8, 1, additional=False), has_gpc=False),
    10: _only("usco", _state("SharingNotice", 7, 1, additional=False)),
    11: _only("usut", _layout(_UTAH), has_gpc=False),
    12: _only("usct", _state("SharingNotice", 8, 3, additional=False)),
    13: _only("usfl", _state("ProcessingNotice", 8, 3, additional=True), has_gpc=False),
    14: _only("usmt", _state("SharingNotice", 8, 3, additional=True)),
    15: _only("usor", _state("ProcessingNotice", 11, 3, additional=True)),
    16: _only("ustx", _state("ProcessingNotice", 8, 1, additional=True)),
    17: _only("usde", _state("ProcessingNotice", 9, 5, additional=True)),
    18: _only("usia", _layout(_IOWA)),
    19: _only("usne", _state("ProcessingNotice", 8, 1, additional=True)),
    20: _only("usnh", _state("ProcessingNotice", 8, 3, additional=True)),
    21: _only("usnj", _state("ProcessingNotice", 10, 5, additional=True)),
    22: _only("ustn", _state("ProcessingNotice", 8, 1, additional=True)),
    23: _only("usmn", _state("ProcessingNotice", 8, 1, additional=True)),
}
NAMES: Final = frozenset(("uspv1", *(known.name for known in FORMATS.values())))


class UsSection(msgspec.Struct, frozen=True):
    """A section of US law: every field as a tuple of its numbers, and the GPC sub-section."""

    version: int
    fields: dict[str, tuple[int, ...]]
    gpc: bool | None = None

    def says_no(self, *names: str) -> bool:
        """Whether one of these fields has an opt-out or a missing consent in it."""
        return any(1 in self.fields.get(name, ()) for name in names)


class GppString(msgspec.Struct, frozen=True):
    """What a GPP string says: its sections by name, and the ids of those that we do not know."""

    sections: dict[str, UsSection] = {}
    tcf: TcString | None = None
    unknown: tuple[int, ...] = ()


def read_gpp_string(text: str, *, bytes_max: int) -> GppString | Unreadable:
    """What a GPP string says, or why it cannot be read. Raises nothing."""
    if len(text) > bytes_max:
        return Unreadable(f"gpp string is longer than {bytes_max} bytes")
    header, *sections = text.split("~", _SECTIONS_MAX)
    try:
        ids = read_header(header, ids_max=_SECTIONS_MAX)
        if len(ids) != len(sections):
            raise Malformed("header names another number of sections than there are")
        return _read_sections(dict(zip(ids, sections, strict=True)), bytes_max)
    except Malformed as error:
        return Unreadable(f"gpp string: {error}")


def read_header(text: str, *, ids_max: int) -> list[int]:
    """The ids of the sections, in their order. Raises Malformed."""
    if len(text) > _HEADER_CHARS_MAX:
        raise Malformed(f"header is longer than {_HEADER_CHARS_MAX} characters")
    bits = Bits(text)
    if bits.take(6) != _HEADER_TYPE:
        raise Malformed("header is not of type 3")
    if bits.take(6) != _HEADER_VERSION:
        raise Malformed("header is not of version 1")
    ids: list[int] = []
    last = 0
    for _ in range(bits.take(12)):
        is_range = bits.take(1)
        first = last + _fibonacci(bits)
        last = first + _fibonacci(bits) if is_range else first
        if len(ids) + last - first >= ids_max:
            raise Malformed("header names too many sections")
        ids += range(first, last + 1)
    bits.finish()
    return ids


def _fibonacci(bits: Bits) -> int:
    """A number as a sum of Fibonacci numbers, the smallest first, ended by two ones."""
    value, weight, following, previous = 0, 1, 2, 0
    for _ in range(_CODE_BITS_MAX):
        bit = bits.take(1)
        if bit and previous:
            return value
        value += weight * bit
        weight, following, previous = following, weight + following, bit
    raise Malformed("a section id is too long")


def _read_sections(texts: dict[int, str], bytes_max: int) -> GppString:
    sections: dict[str, UsSection] = {}
    unknown = []
    tcf: TcString | None = None
    for section_id, text in texts.items():
        if section_id == TCF_EU:
            read = read_tc_string(text, bytes_max=bytes_max)
            if isinstance(read, Unreadable):
                raise Malformed(read.reason)
            tcf = read
        elif section_id == US_PRIVACY:
            sections["uspv1"] = read_us_privacy(text)
        elif (known := FORMATS.get(section_id)) is not None:
            sections[known.name] = _read_us_section(text, known)
        else:
            unknown.append(section_id)
    return GppString(sections, tcf, tuple(unknown))


def read_us_privacy(text: str) -> UsSection:
    """The four letters of the older US privacy string: version, notice, sale opt-out, contract.

    Raises:
        Malformed: it is not one.
    """
    if len(text) != 4 or text[0] != "1" or text.strip("1YN-"):
        raise Malformed("section uspv1 is not 1 and three of Y, N and -")
    if "1" in text[1:]:
        raise Malformed("section uspv1 is not 1 and three of Y, N and -")
    number = {"-": 0, "Y": 1, "N": 2}
    return UsSection(1, {"SaleOptOut": (number[text[2]],)})


def _read_us_section(text: str, known: SectionFormat) -> UsSection:
    core, *others = text.split(".", 2)
    try:
        version, fields = _read_us_core(core, known)
        if len(others) > known.has_gpc:
            raise Malformed("has more sub-sections than it may")
        return UsSection(version, fields, _read_gpc(others[0]) if others else None)
    except Malformed as error:
        raise Malformed(f"section {known.name}: {error}") from None


def _read_us_core(text: str, known: SectionFormat) -> tuple[int, dict[str, tuple[int, ...]]]:
    bits = Bits(text)
    version = bits.take(6)
    layouts = known.layouts.get(version)
    if layouts is None:
        raise Malformed(f"version {version} is unknown")
    for layout in layouts[:-1]:
        width = 2 * sum(count for _, count in layout)
        if bits.size - bits.at < width + 8:  # so little is left over that it is padding
            return version, _read_fields(bits, layout)
    return version, _read_fields(bits, layouts[-1])


def _read_fields(bits: Bits, layout: Layout) -> dict[str, tuple[int, ...]]:
    fields = {}
    for name, count in layout:
        values = tuple([bits.take(2) for _ in range(count)])
        if max(values) > _VALUE_MAX:
            raise Malformed(f"field {name} has a value that the format does not know")
        fields[name] = values
    bits.finish()
    return fields


def _read_gpc(text: str) -> bool:
    bits = Bits(text)
    if bits.take(2) != _GPC_TYPE:
        raise Malformed("sub-section is not of type gpc")
    gpc = bits.take(1) == 1
    bits.finish()
    return gpc
