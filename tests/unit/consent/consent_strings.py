"""Writers of consent strings, from the specifications: the other direction than the readers."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from cdp.clock import SECOND_US

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

_BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

CREATED_2022_US = 1_640_995_200 * SECOND_US
CREATED_2026_US = 1_780_000_000 * SECOND_US  # after vendors must be disclosed


def to_text(bits: str, *, unit_bits: int = 8) -> str:
    """base64url without padding, the last unit filled with zeros."""
    bits += "0" * (-len(bits) % unit_bits)
    chars = -(-len(bits) // 6)
    bits += "0" * (-len(bits) % 24)
    data = int(bits or "0", 2).to_bytes(len(bits) // 8, "big")
    return urlsafe_b64encode(data).decode()[:chars]


def number(value: int, width: int) -> str:
    assert 0 <= value < 1 << width
    return f"{value:0{width}b}"


def letters(text: str) -> str:
    return "".join(number(ord(letter) - 65, 6) for letter in text)


def flags(chosen: Iterable[int], count: int) -> str:
    wanted = set(chosen)
    return "".join("01"[place in wanted] for place in range(1, count + 1))


def ranges(pairs: Sequence[tuple[int, int]]) -> str:
    bits = number(len(pairs), 12)
    for first, last in pairs:
        if first == last:
            bits += "0" + number(first, 16)
        else:
            bits += "1" + number(first, 16) + number(last, 16)
    return bits


def vendors(chosen: Iterable[int] | Sequence[tuple[int, int]]) -> str:
    """A bit field of numbers, or ranges of pairs."""
    listed = list(chosen)
    if listed and isinstance(listed[0], tuple):
        pairs = [pair for pair in listed if isinstance(pair, tuple)]
        return number(max(last for _, last in pairs), 16) + "1" + ranges(pairs)
    numbers = [vendor for vendor in listed if isinstance(vendor, int)]
    last = max(numbers, default=0)
    return number(last, 16) + "0" + flags(numbers, last)


def tc_string(
    *,
    purposes: Iterable[int] = (),
    interests: Iterable[int] = (),
    vendor_consents: Iterable[int] | Sequence[tuple[int, int]] = (),
    vendor_interests: Iterable[int] | Sequence[tuple[int, int]] = (),
    restrictions: Sequence[tuple[int, int, Sequence[tuple[int, int]]]] = (),
    disclosed: Iterable[int] | Sequence[tuple[int, int]] | None = None,
    publisher: Iterable[int] | None = None,
    created_us: int = CREATED_2022_US,
    version: int = 2,
) -> str:
    moment = number(created_us // (SECOND_US // 10), 36)
    bits = number(version, 6) + moment + moment
    bits += number(27, 12) + number(0, 12) + number(0, 6) + letters("EN") + number(15, 12)
    bits += number(4, 6) + "10" + flags((), 12) + flags(purposes, 24) + flags(interests, 24)
    bits += "0" + letters("DE") + vendors(vendor_consents) + vendors(vendor_interests)
    bits += number(len(restrictions), 12)
    for purpose, kind, pairs in restrictions:
        bits += number(purpose, 6) + number(kind, 2) + ranges(pairs)
    segments = [to_text(bits)]
    if disclosed is not None:
        segments.append(to_text(number(1, 3) + vendors(disclosed)))
    if publisher is not None:
        segments.append(to_text(number(3, 3) + flags(publisher, 24) + flags((), 24) + number(0, 6)))
    return ".".join(segments)


def fibonacci(value: int) -> str:
    weights = [1, 2]
    while weights[-1] <= value:
        weights.append(weights[-1] + weights[-2])
    bits = ""
    for weight in reversed(weights[:-1] if weights[-1] > value else weights):
        if weight <= value:
            bits, value = "1" + bits, value - weight
        elif bits:
            bits = "0" + bits
    return bits + "1"


def gpp_header(ids: Sequence[int]) -> str:
    """Neighbours become ranges, as the specification wants them."""
    runs: list[list[int]] = []
    for section in sorted(ids):
        if runs and section == runs[-1][1] + 1:
            runs[-1][1] = section
        else:
            runs.append([section, section])
    bits = number(3, 6) + number(1, 6) + number(len(runs), 12)
    before = 0
    for first, last in runs:
        bits += "01"[last > first] + fibonacci(first - before)
        bits += fibonacci(last - first) if last > first else ""
        before = last
    return to_text(bits, unit_bits=6)


def us_section(
    layout: Sequence[tuple[str, int]],
    values: Mapping[str, int | Sequence[int]],
    *,
    gpc: bool | None = None,
    version: int = 1,
) -> str:
    bits = number(version, 6)
    for name, count in layout:
        given = values.get(name, 0)
        listed = [given] * count if isinstance(given, int) else list(given)
        assert len(listed) == count
        bits += "".join(number(value, 2) for value in listed)
    text = to_text(bits)
    return text if gpc is None else f"{text}.{to_text(number(1, 2) + '01'[gpc])}"


def gpp_string(sections: Mapping[int, str]) -> str:
    return "~".join([gpp_header(list(sections)), *(sections[key] for key in sorted(sections))])


def damaged(rng: random.Random, text: str) -> str:
    """A string after up to three accidents: letters changed, lost, doubled or added."""
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(text) + 1)
        head, tail = text[:place], text[place:]
        kind = rng.randrange(4)
        if kind == 0:
            text = head + rng.choice(_BASE64URL + ".~=+é") + tail[1:]
        elif kind == 1:
            text = head
        elif kind == 2:
            text = head + tail * 2
        else:
            text = head + "".join(rng.choices(_BASE64URL, k=rng.randrange(60))) + tail
    return text
