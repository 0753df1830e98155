"""Looks for identifiers in files, byte by byte, in every form in which they could have got there.

What is found is only counted: neither the identifiers nor where in a file they were leave here.
Blocking and slow; to be run in a thread.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, quote_plus

from cdp._matcher import Needles

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

NEEDLE_BYTES_MIN: Final = 6  # what is shorter is found anywhere, and says nothing
READ_BYTES: Final = 1 << 20  # of a file at a time


class Scanned(NamedTuple):
    """What a scan read and found. `hits` maps files to how often they hold an identifier."""

    files: int
    bytes: int
    needles: int
    skipped: int  # identifiers that are too short to look for
    hits: dict[str, int]


def forms_of(value: str) -> set[bytes]:
    """The forms in which a text may stand in a file, as far as they are long enough."""
    forms: set[bytes] = set()
    for text in {value, value.lower()}:
        raw = text.encode()
        forms |= {raw, raw.hex().encode(), raw.hex().upper().encode()}
        forms |= {text.encode("utf-16-le"), text.encode("utf-16-be")}
        forms |= {quote(text, safe="").encode(), quote_plus(text).encode()}
        forms.add(quote(text, safe="").lower().encode())
        forms.add(json.dumps(text)[1:-1].encode())
        forms |= _base64_forms(raw)
    return {form for form in forms if len(form) >= NEEDLE_BYTES_MIN}


def scan(root: Path, values: Collection[str], *, skip: Collection[Path] = ()) -> Scanned:
    """Reads every file under a directory once, for all values together.

    A file that goes away meanwhile is passed over. Raises OSError where one cannot be read.
    """
    wanted = [value for value in dict.fromkeys(values) if len(value.encode()) >= NEEDLE_BYTES_MIN]
    skipped = len(set(values)) - len(wanted)
    if not wanted:
        return Scanned(0, 0, 0, skipped, {})
    needles = sorted({form for value in wanted for form in forms_of(value)})
    found = Needles(needles)
    overlap = max(map(len, needles)) - 1
    files = size = 0
    hits: dict[str, int] = {}
    for path in _files(root, skip):
        try:
            read, count = _scan_file(path, found, overlap)
        except FileNotFoundError:
            continue
        files, size = files + 1, size + read
        if count:
            hits[str(path.relative_to(root))] = count
    return Scanned(files, size, len(wanted), skipped, hits)


def _files(root: Path, skip: Collection[Path]) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and path not in skip:
            yield path


def _scan_file(path: Path, needles: Needles, overlap: int) -> tuple[int, int]:
    """How much was read, and how many matches there are; one over a border counts once."""
    read = count = 0
    tail = b""
    with path.open("rb") as file:
        while part := file.read(READ_BYTES):
            read += len(part)
            window = tail + part
            hits, last_end = needles.count(window)
            count += hits
            # What was counted is not looked at again.
            tail = window[max(last_end, len(window) - overlap) :] if overlap else b""
    return read, count


def _base64_forms(raw: bytes) -> set[bytes]:
    """What of the base64 of a longer text is the same wherever in it these bytes stand."""
    forms: set[bytes] = set()
    for shift in range(3):
        whole = b64encode(bytes(shift) + raw)
        start = (0, 2, 3)[shift]
        end = len(whole) - (0, 3, 2)[(shift + len(raw)) % 3]  # where the bytes after mix in
        form = whole[start:end].rstrip(b"=")
        forms |= {form, form.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms
