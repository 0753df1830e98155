"""TC strings of the IAB Transparency and Consent Framework, versions 2.2 and 2.3. Pure and strict.

A string is its segments joined by dots: the core first, then vendors disclosed, vendors allowed and
publisher TC in any order, each at most once. A string from the day that 2.3 became mandatory must
disclose its vendors. Ranges of vendors stay ranges: nineteen characters can name 65,535 vendors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cdp.clock import SECOND_US
from cdp.consent.bits import Bits, Malformed, Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION: Final = 2
DISCLOSURE_FROM_US: Final = 1_772_236_800 * SECOND_US  # 2026-02-28: version 2.3 is mandatory

_PURPOSES: Final = 24
_SPECIAL_FEATURES: Final = 12
_DECISECOND_US: Final = SECOND_US // 10
_SEGMENTS_MAX: Final = 4
_VENDOR_MAX: Final = 65_535
_DISCLOSED, _ALLOWED, _PUBLISHER = 1, 2, 3  # segment types
_SINGLE_BITS: Final = 17  # of an entry with one vendor; the last one of a range takes 16 more

# Restriction types of a publisher.
NOT_ALLOWED: Final = 0
REQUIRES_CONSENT: Final = 1
REQUIRES_LEGITIMATE_INTEREST: Final = 2


class Vendors(msgspec.Struct, frozen=True):
    """A set of vendors: a bit each, the first vendor the highest, or ranges. Never expanded."""

    last: int = 0
    field: int = 0
    ranges: tuple[tuple[int, int], ...] = ()

    def __contains__(self, vendor: int) -> bool:
        if self.ranges:
            return any(first <= vendor <= last for first, last in self.ranges)
        return 1 <= vendor <= self.last and bool(self.field >> (self.last - vendor) & 1)


class Restriction(msgspec.Struct, frozen=True):
    """What a publisher forbids vendors to do, or on what basis alone they may do it."""

    purpose: int
    type: int
    vendors: Vendors


class PublisherConsent(msgspec.Struct, frozen=True):
    """The segment of the publisher itself: what was agreed with it, not with vendors."""

    purposes: int
    legitimate_interests: int
    custom_purposes: int
    custom_legitimate_interests: int


class TcString(msgspec.Struct, frozen=True, kw_only=True):
    """What a TC string says. Fields of purposes have the first purpose as their highest bit."""

    created_us: int
    updated_us: int
    cmp_id: int
    vendor_list_version: int
    policy_version: int
    service_specific: bool
    special_features: int
    purposes: int
    legitimate_interests: int
    purpose_one_treatment: bool
    publisher_country: str
    vendor_consents: Vendors
    vendor_interests: Vendors
    restrictions: tuple[Restriction, ...] = ()
    disclosed: Vendors | None = None
    allowed: Vendors | None = None
    publisher: PublisherConsent | None = None

    def grants(self, purposes: Iterable[int], vendor: int | None) -> bool:
        """Whether there is consent for every one of these purposes; False where there is none.

        With a `vendor` that is consent for each purpose and for the vendor, which was disclosed and
        whom the publisher does not restrict. Without one the string is read as the publisher's own:
        only its publisher segment can grant.
        """
        wanted = tuple(purposes)
        if not wanted or not all(1 <= purpose <= _PURPOSES for purpose in wanted):
            return False
        if vendor is None:
            publisher = self.publisher
            return publisher is not None and all(_has(publisher.purposes, p) for p in wanted)
        if vendor not in self.vendor_consents:
            return False
        if self.disclosed is not None and vendor not in self.disclosed:
            return False
        return all(_has(self.purposes, p) for p in wanted) and not self._forbids(wanted, vendor)

    def _forbids(self, purposes: tuple[int, ...], vendor: int) -> bool:
        """Whether a restriction takes consent away: forbids, or leaves legitimate interest only."""
        return any(
            restriction.type != REQUIRES_CONSENT
            and restriction.purpose in purposes
            and vendor in restriction.vendors
            for restriction in self.restrictions
        )


def _has(field: int, purpose: int) -> bool:
    return bool(field >> (_PURPOSES - purpose) & 1)


def read_tc_string(text: str, *, bytes_max: int) -> TcString | Unreadable:
    """What a TC string says, or why it cannot be read. Raises nothing."""
    if len(text) > bytes_max:
        return Unreadable(f"tc string is longer than {bytes_max} bytes")
    core, *others = text.split(".", _SEGMENTS_MAX)
    if len(others) >= _SEGMENTS_MAX:
        return Unreadable("tc string has too many segments")
    try:
        return _with_segments(_read_core(core), others)
    except Malformed as error:
        return Unreadable(f"tc string: {error}")


def _read_core(text: str) -> TcString:
    bits = Bits(text)
    take = bits.take
    version = take(6)
    if version != VERSION:
        raise Malformed(f"version is {version}, not {VERSION}")
    created_us, updated_us = take(36) * _DECISECOND_US, take(36) * _DECISECOND_US
    cmp_id = take(12)
    bits.skip(12 + 6)  # the version of the dialogue and its screen
    _letters(bits)
    core = TcString(
        created_us=created_us,
        updated_us=updated_us,
        cmp_id=cmp_id,
        vendor_list_version=take(12),
        policy_version=take(6),
        service_specific=take(2) > 1,  # the second bit: stacks that are not the standard's
        special_features=take(_SPECIAL_FEATURES),
        purposes=take(_PURPOSES),
        legitimate_interests=take(_PURPOSES),
        purpose_one_treatment=take(1) == 1,
        publisher_country=_letters(bits),
        vendor_consents=_read_vendors(bits),
        vendor_interests=_read_vendors(bits),
        restrictions=_read_restrictions(bits),
    )
    bits.finish()
    return core


def _letters(bits: Bits) -> str:
    first, second = bits.take(6), bits.take(6)
    if max(first, second) > 25:
        raise Malformed("a language or country is not two letters")
    return chr(65 + first) + chr(65 + second)


def _read_vendors(bits: Bits) -> Vendors:
    last = bits.take(16)
    if bits.take(1):
        return Vendors(last, 0, _read_ranges(bits, last))
    return Vendors(last, bits.take_field(last))


def _read_ranges(bits: Bits, vendor_max: int) -> tuple[tuple[int, int], ...]:
    """Reads a window of bytes an entry, inline: the longest string has 1,400 of them."""
    count, at, size, data = bits.take(12), bits.at, bits.size, bits.data
    window_of = int.from_bytes
    ranges = []
    for _ in range(count):
        first_byte = at >> 3
        window = window_of(data[first_byte : first_byte + 5], "big") >> (7 - (at & 7))
        first = last = window >> 16 & 0xFFFF  # of the 33 bits: one, the first, the last vendor
        at += _SINGLE_BITS
        if window >> 32 & 1:
            last = window & 0xFFFF
            at += 16
        if at > size or not 1 <= first <= last <= vendor_max:
            raise Malformed("a range of vendors is cut off or out of bounds")
        ranges.append((first, last))
    bits.at = at
    return tuple(ranges)


def _read_restrictions(bits: Bits) -> tuple[Restriction, ...]:
    found: dict[tuple[int, int], Restriction] = {}
    for _ in range(bits.take(12)):
        purpose, kind = bits.take(6), bits.take(2)
        if not 1 <= purpose <= _PURPOSES or (purpose, kind) in found:
            raise Malformed("a publisher restriction is about no purpose or stands there twice")
        vendors = Vendors(_VENDOR_MAX, 0, _read_ranges(bits, _VENDOR_MAX))
        found[purpose, kind] = Restriction(purpose, kind, vendors)
    return tuple(found.values())


def _with_segments(core: TcString, texts: list[str]) -> TcString:
    found: dict[str, Vendors | PublisherConsent] = {}
    for text in texts:
        bits = Bits(text)
        name, segment = _read_segment(bits)
        if name in found:
            raise Malformed(f"segment {name} stands there twice")
        found[name] = segment
        bits.finish()
    if "disclosed" not in found and max(core.created_us, core.updated_us) >= DISCLOSURE_FROM_US:
        raise Malformed("the vendors disclosed are missing, which are mandatory by its date")
    return msgspec.structs.replace(core, **found) if found else core


def _read_segment(bits: Bits) -> tuple[str, Vendors | PublisherConsent]:
    kind = bits.take(3)
    if kind == _DISCLOSED:
        return "disclosed", _read_vendors(bits)
    if kind == _ALLOWED:
        return "allowed", _read_vendors(bits)
    if kind != _PUBLISHER:
        raise Malformed(f"segment type {kind} is unknown")
    purposes, interests, custom = bits.take(_PURPOSES), bits.take(_PURPOSES), bits.take(6)
    return "publisher", PublisherConsent(
        purposes, interests, bits.take_field(custom), bits.take_field(custom)
    )
