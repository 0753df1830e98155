"""Bytes of a body to JSON values: bounded inflation, one JSON decoder, and a repair before it.

Senders write JSON that is not quite JSON: bare `NaN`, numbers beyond any machine word, NUL and
halves of surrogate pairs. `repair` rewrites such a text into strict JSON once, so that the fast
decoder is the only one there is and what is stored reads the same everywhere. A clean body never
pays for it.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.ingestion.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_MEMBERS_MAX: Final = 64  # a sender has one; empty ones by the thousand are an attack
TOO_DEEP: Final = "cdp\ue000nested too deep"  # stands where `cut_deep` took something out

_INFLATE_STEP_BYTES: Final = 256 * 1024
_BOM: Final = b"\xef\xbb\xbf"
DEPTH_MAX: Final = 400  # whatever the limits say: below the interpreter's own, with room to spare

decode_json = msgspec.json.Decoder().decode
JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decompress(body: bytes, encoding: bytes, bytes_max: int) -> bytes:
    """The body as the sender had it before compression, of at most `bytes_max` bytes.

    Raises:
        Refusal: unknown encoding, damaged data, or more than `bytes_max`.
    """
    return without_mark(b"".join(decompress_parts(body, encoding, bytes_max)))


def decompress_parts(body: bytes, encoding: bytes, bytes_max: int) -> Iterator[bytes]:
    """The same in parts, none of which takes long, so that the caller may pause between them.

    What starts as gzip is gzip, whatever the header says, and what does not is taken as it is:
    proxies inflate bodies and leave the header.
    """
    encoding = encoding.strip().lower()
    if encoding not in (b"", b"gzip", b"x-gzip", b"deflate", b"identity"):
        raise Refusal(400, "unsupported_encoding", "content-encoding must be gzip or deflate")
    if body.startswith(GZIP_MAGIC):
        yield from _gunzip(body, bytes_max)
    elif encoding == b"deflate" and body.lstrip()[:1] not in (b"{", b"["):
        yield from _inflate_bare(body, bytes_max)
    elif len(body) > bytes_max:
        raise too_large(bytes_max)
    else:
        yield body


def without_mark(body: bytes) -> bytes:
    """The body without the byte order mark that some senders put before it."""
    return body[len(_BOM) :] if body.startswith(_BOM) else body


def too_large(bytes_max: int, *, closes: bool = False) -> Refusal:
    """400 and not 413, because some SDKs send a 413 again."""
    text = f"body is longer than {bytes_max} bytes; send smaller batches"
    return Refusal(400, "payload_too_large", text, closes=closes)


def _gunzip(body: bytes, bytes_max: int) -> Iterator[bytes]:
    inflated = 0
    for _ in range(GZIP_MEMBERS_MAX):
        member = zlib.decompressobj(wbits=31)
        for part in _inflate(member, body, "gzip"):
            inflated += len(part)
            if inflated > bytes_max:
                raise too_large(bytes_max)
            yield part
        body = member.unused_data
        if not body.startswith(GZIP_MAGIC):  # the end, or garbage after it, which is dropped
            return
    raise Refusal(400, "invalid_json", f"gzip body has more than {GZIP_MEMBERS_MAX} members")


def _inflate_bare(body: bytes, bytes_max: int) -> Iterator[bytes]:
    wrapped = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    inflated = 0
    for part in _inflate(zlib.decompressobj(wbits=15 if wrapped else -15), body, "deflate"):
        inflated += len(part)
        if inflated > bytes_max:
            raise too_large(bytes_max)
        yield part


def _inflate(member: zlib._Decompress, body: bytes, name: str) -> Iterator[bytes]:
    while not member.eof:
        try:
            part = member.decompress(body, _INFLATE_STEP_BYTES)
        except zlib.error as error:
            raise Refusal(400, "invalid_json", f"{name} body is damaged") from error
        body = member.unconsumed_tail
        if not part and not body and not member.eof:
            raise Refusal(400, "invalid_json", f"{name} body ends too early")
        yield part


def repair(body: bytes) -> bytes:
    """The same JSON text in strict JSON; what is not JSON at all stays as wrong as it was.

    NaN and infinities become null, integers beyond 64 bits their digits as a string, NUL
    disappears, other control characters are escaped, half surrogates and bytes that are not
    UTF-8 become U+FFFD.
    """
    return _TROUBLE.sub(_repaired, body.decode("utf-8", "replace")).encode()


# Strings are matched whole, so that nothing inside one is taken for a number or a constant. The
# end of one may be missing: else each quote of a text without it would be tried to the end.
_TROUBLE: Final = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?'
    r"|-?(?:NaN|Infinity)"
    r"|(?<![\d.eE+-])-?\d(?:[\d.]*+[eE][\d+-]+|[\d.]{17,})"
    r"|\x00",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole pair
    r"|\\u[0-9a-fA-F]{4}|\\.|[\x00-\x1f]",
    re.DOTALL,
)
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1


def _repaired(match: re.Match[str]) -> str:
    text = match[0]
    if text[0] == '"':
        return _ESCAPE.sub(_repaired_escape, text)
    if text[-1] in "Ny":
        return "null"
    return "" if text == "\x00" else _repaired_number(text)


def _repaired_escape(match: re.Match[str]) -> str:
    text = match[0]
    if text in ("\x00", "\\u0000"):
        return ""
    if len(text) == 1:
        return f"\\u{ord(text):04x}"
    if len(text) == 6 and text[2] in "dD" and text[3] in "89abcdefABCDEF":
        return "\\ufffd"
    return text


def _repaired_number(text: str) -> str:
    if text.lstrip("-").isdigit():
        fits = len(text) <= 20 and _INT_MIN <= int(text) <= _INT_MAX
        return text if fits else f'"{text}"'
    try:
        number = float(text)
    except ValueError:
        return text
    return text if abs(number) < float("inf") else "null"


_BRACKET: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def cut_deep(body: bytes, depth_max: int) -> bytes:
    """The text with everything nested deeper than `depth_max` replaced by the string `TOO_DEEP`.

    Only so can a batch with one bottomless event be decoded at all, and the rest of it be kept.
    """
    mark = msgspec.json.encode(TOO_DEEP)
    parts: list[bytes] = []
    depth = kept_from = 0
    for match in _BRACKET.finditer(body):
        token = body[match.start()]
        if token in b"[{":
            depth += 1
            if depth == depth_max + 1:
                parts += (body[kept_from : match.start()], mark)
        elif token in b"]}":
            depth -= 1
            if depth == depth_max:
                kept_from = match.end()
    if depth > depth_max:
        raise Refusal(400, "invalid_json", "body ends inside of an object or array")
    parts.append(body[kept_from:])
    return b"".join(parts)


def exceeds_depth(value: Any, depth_max: int) -> bool:
    """Whether containers are nested deeper than `depth_max`. Walks without recursion."""
    level: list[Any] = [value]
    for _ in range(depth_max):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def count_keys(value: Any) -> int:
    """How many keys all objects in it have together."""
    waiting: list[Any] = [value]
    count = 0
    while waiting:
        parent = waiting.pop()
        count += len(parent) if type(parent) is dict else 0
        waiting.extend(_children(parent))
    return count


def _children(parent: Any) -> list[Any]:
    members = parent.values() if type(parent) is dict else parent
    return [member for member in members if type(member) is dict or type(member) is list]
