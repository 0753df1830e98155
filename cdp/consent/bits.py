"""Bits of consent strings: base64url without padding, read from the front, never past the end.

What is wrong with a string from outside is a value, `Unreadable`, with the reason. Inside a reader
`Malformed` carries it up; it leaves no module of the readers.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from typing import Final

import msgspec

PADDING_BITS_MAX: Final = 24  # encoders fill up to whole bytes, some of them to whole groups

_ALPHABET: Final = re.compile(r"[A-Za-z0-9_-]+")
_CHAR_BITS: Final = 6
_WINDOW_BITS_MAX: Final = 57  # what eight bytes hold from any bit of the first


class Unreadable(msgspec.Struct, frozen=True):
    """Why a consent string cannot be read. Never quotes it: the string is personal data."""

    reason: str


class Malformed(ValueError):
    """A string breaks the format; the text says how."""


class Bits:
    """A run of bits with a place in it. `take` reads a number and moves on."""

    __slots__ = ("at", "data", "size")

    def __init__(self, text: str) -> None:
        """Reads one segment. Raises Malformed where it is not base64url."""
        if _ALPHABET.fullmatch(text) is None:
            raise Malformed("not base64url without padding" if text else "empty segment")
        # Some zeros follow, so that a window of five bytes may be taken at any bit.
        self.data = urlsafe_b64decode(text + "A" * (-len(text) % 4 + 8))
        self.size = len(text) * _CHAR_BITS
        self.at = 0

    def take(self, width: int) -> int:
        """The next `width` bits as a number; at most 57."""
        assert width <= _WINDOW_BITS_MAX, "wider fields are taken by take_field"
        at, end = self.at, self.at + width
        if end > self.size:
            raise Malformed("ends too early")
        self.at = end
        first = at >> 3
        last = (end + 7) >> 3
        window = int.from_bytes(self.data[first:last], "big")
        return (window >> ((last << 3) - end)) & ((1 << width) - 1)

    def take_field(self, width: int) -> int:
        """The next `width` bits as a number, however many; the first one is the highest."""
        at, end = self.at, self.at + width
        if end > self.size:
            raise Malformed("ends too early")
        self.at = end
        last = (end + 7) >> 3
        window = int.from_bytes(self.data[at >> 3 : last], "big")
        return (window >> ((last << 3) - end)) & ((1 << width) - 1)

    def skip(self, width: int) -> None:
        """Moves on without reading."""
        self.at += width
        if self.at > self.size:
            raise Malformed("ends too early")

    def finish(self) -> None:
        """Raises Malformed where more than padding follows."""
        left = self.size - self.at
        if left > PADDING_BITS_MAX or (left and self.take_field(left)):
            raise Malformed("has more than its fields")
