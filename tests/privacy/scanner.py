"""Looks for a person's bytes in files and in stored values, in every form that software gives them.

Not the daemon's own scanner, which an erasure runs to verify itself: two that were written apart
do not overlook the same thing. Used by the canary tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CHUNK_BYTES = 8 << 20


class Hit(NamedTuple):
    """Where a marker was found, and in which form."""

    place: str
    marker: str
    form: str


def forms_of(marker: str) -> dict[str, bytes]:
    """The bytes that would give a marker away, by the name of the form."""
    plain = marker.encode()
    found = {
        "plain": plain,
        "lower": marker.lower().encode(),
        "upper": marker.upper().encode(),
        "url": quote(marker, safe="").encode(),
        "json": json.dumps(marker)[1:-1].encode(),
        "hex": plain.hex().encode(),
        "utf-16-le": marker.encode("utf-16-le"),
        "utf-16-be": marker.encode("utf-16-be"),
        "sha256": hashlib.sha256(plain).hexdigest().encode(),
        "sha256 raw": hashlib.sha256(plain).digest(),
        "sha1": hashlib.sha1(plain).hexdigest().encode(),
        "md5": hashlib.md5(plain).hexdigest().encode(),
    }
    for offset in range(3):
        # What does not depend on the bytes around it: cut where they would reach into it.
        encoded = base64.b64encode(b"\x00" * offset + plain)
        start = -(-8 * offset // 6)
        end = (offset + len(plain)) * 8 // 6
        found[f"base64 at {offset}"] = encoded[start:end]
    return {form: value for form, value in found.items() if len(value) >= 8}


class Scanner:
    """Searches for many markers at once."""

    def __init__(self, markers: Iterable[str]) -> None:
        self._forms: dict[bytes, tuple[str, str]] = {}
        for marker in markers:
            for form, value in forms_of(marker).items():
                self._forms.setdefault(value, (marker, form))
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(value) for value in longest_first))
        self._overlap = max(map(len, self._forms)) - 1

    def in_bytes(self, place: str, data: bytes) -> set[Hit]:
        """The markers in a piece of data."""
        return {Hit(place, *self._forms[found]) for found in self._pattern.findall(data)}

    def in_tree(self, *roots: Path) -> set[Hit]:
        """The markers in every file under these directories, and in the files' names."""
        hits: set[Hit] = set()
        for root in roots:
            for path in [root, *sorted(root.rglob("*"))]:
                hits |= self.in_bytes(f"the name of {path}", str(path).encode())
                if path.is_file():
                    hits |= self._in_file(path)
        return hits

    def _in_file(self, path: Path) -> set[Hit]:
        hits: set[Hit] = set()
        for chunk in self._chunks(path):
            hits |= self.in_bytes(str(path), chunk)
        return hits

    def _chunks(self, path: Path) -> Iterator[bytes]:
        kept = b""
        with path.open("rb") as file:
            while part := file.read(CHUNK_BYTES):
                yield kept + part
                kept = part[-self._overlap :]
