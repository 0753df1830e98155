"""Bytes of a connection to whole requests, within the limits of one request. Knows no I/O.

The parser is llhttp in its strict mode, which refuses what smuggles requests past proxies: both
lengths at once, folded headers, bare line feeds. What it lets through and we do not is refused
here. After a refusal the connection is done; what follows cannot be told from a body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httptools

from cdp.ingestion.decoding import too_large
from cdp.ingestion.refusal import Refusal, malformed

if TYPE_CHECKING:
    from cdp.config import Limits

# The headers that mean something to us; the others are only counted.
_KEPT: Final = frozenset(
    (
        b"access-control-request-headers",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"sec-gpc",
        b"sentat",
        b"transfer-encoding",
        b"user-agent",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-ip-policy",
        b"x-write-key",
    )
)
_ONCE: Final = frozenset(
    (b"authorization", b"content-encoding", b"content-length", b"host", b"transfer-encoding")
)
_HEADER_OVERHEAD_BYTES: Final = 4  # colon, space and line end
_CHUNK_OVERHEAD: Final = 8  # times its content: one byte a chunk takes six
_NO_PATH_BYTE: Final = re.compile(rb"[\x00-\x20#]")


class Request:
    """One request. `body` is what came, still compressed."""

    __slots__ = ("body", "headers", "keeps_alive", "method", "old", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keeps_alive = True
        self.old = False  # HTTP/1.0, which must be told that a connection stays


class RequestReader:
    """Reads the requests of one connection.

    `feed` returns those that are complete. `refusal` is set once nothing more can be read, to be
    answered after them. `body_bytes` is how much of an unfinished body is held.
    """

    __slots__ = (
        "_limits",
        "_parser",
        "_parts",
        "_ready",
        "_request",
        "body_bytes",
        "expects_continue",
        "fed_bytes",
        "head_bytes",
        "header_count",
        "in_body",
        "in_head",
        "refusal",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._parts: list[bytes] = []
        self._ready: list[Request] = []
        self.body_bytes = 0
        self.head_bytes = 0
        self.fed_bytes = 0  # of a message that takes more than one read, from the second on
        self.header_count = 0
        self.in_head = False
        self.in_body = False
        self.expects_continue = False
        self.refusal: Refusal | None = None

    def feed(self, data: bytes) -> list[Request]:
        """The requests that these bytes complete, in order."""
        ready: list[Request] = []
        self._ready = ready
        continues = self.in_head or self.in_body
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(malformed("upgrade is not supported"))
        except httptools.HttpParserError as error:
            self._parser_failed(error)
        if continues and not ready:
            self._count_overhead(len(data))
        return ready

    def _count_overhead(self, fed_bytes: int) -> None:
        """Bounds what the parser gathers and does not tell: half headers, chunk heads, trailers."""
        self.fed_bytes += fed_bytes
        if self.in_head and self.fed_bytes > self._limits.header_bytes_max:
            self._refuse(_too_many_headers(self._limits))
        elif self.fed_bytes > self._limits.header_bytes_max + _CHUNK_OVERHEAD * self.body_bytes:
            self._refuse(malformed("chunks have too little in them"))

    def _parser_failed(self, error: Exception) -> None:
        ended = self._ready and not self._ready[-1].keeps_alive and not self.in_head
        if not ended:  # what comes after "Connection: close" is not a request
            self._refuse(malformed(f"not a valid http request: {error}"))

    def _refuse(self, refusal: Refusal) -> None:
        if self.refusal is None:
            self.refusal = refusal
        self.in_head = self.in_body = False
        self._parts = []
        self.body_bytes = 0

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        self._request = Request()
        self.in_head = True
        self.head_bytes = self.fed_bytes = 0
        self.header_count = 0

    def on_url(self, url: bytes) -> None:
        self._request.target += url
        if len(self._request.target) > self._limits.url_bytes_max:
            limit = self._limits.url_bytes_max
            self._refuse(Refusal(431, "url_too_long", f"url exceeds {limit} bytes", closes=True))
            self._request.target = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer after a chunked body, or a head that was refused
        self.header_count += 1
        self.head_bytes += len(name) + len(value) + _HEADER_OVERHEAD_BYTES
        name = name.lower()
        if name in _KEPT:
            headers = self._request.headers
            if name in headers and name in _ONCE:
                self._refuse(malformed(f"header {name.decode()} stands there twice"))
            headers[name] = value

    def on_headers_complete(self) -> None:
        if self.refusal is not None:
            return
        request, parser, limits = self._request, self._parser, self._limits
        self.in_head = False
        if self.header_count > limits.header_count_max or (
            self.head_bytes > limits.header_bytes_max
        ):
            return self._refuse(_too_many_headers(limits))
        request.method = parser.get_method()
        request.keeps_alive = parser.should_keep_alive()
        self._check_head(request, parser.get_http_version())
        self.in_body = True
        length = request.headers.get(b"content-length")
        if length is not None and int(length) > limits.body_bytes_max:
            return self._refuse(too_large(limits.body_bytes_max, closes=True))
        if b"expect" in request.headers:
            self.expects_continue = request.headers[b"expect"].lower() == b"100-continue"
        return None

    def _check_head(self, request: Request, version: str) -> None:
        headers = request.headers
        request.old = version == "1.0"
        coding = headers.get(b"transfer-encoding")
        if self._parser.should_upgrade():
            self._refuse(malformed("upgrade is not supported"))
        elif version not in ("1.1", "1.0"):
            self._refuse(malformed("http version must be 1.0 or 1.1"))
        elif not request.old and b"host" not in headers:
            self._refuse(malformed("header host is missing"))
        elif coding is not None and (request.old or coding.strip().lower() != b"chunked"):
            self._refuse(malformed("transfer-encoding must be chunked, in http/1.1"))
        elif not _is_origin_form(request):
            self._refuse(malformed("request target must be a path"))

    def on_body(self, body: bytes) -> None:
        if self.refusal is not None:
            return
        self.body_bytes += len(body)
        if self.body_bytes > self._limits.body_bytes_max:
            return self._refuse(too_large(self._limits.body_bytes_max, closes=True))
        self._parts.append(body)
        return None

    def on_message_complete(self) -> None:
        if self.refusal is not None:
            return
        parts = self._parts
        if parts:
            self._request.body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
            self.body_bytes = 0
        self.in_body = self.expects_continue = False
        self._ready.append(self._request)


def _is_origin_form(request: Request) -> bool:
    target = request.target
    if target == b"*":
        return request.method == b"OPTIONS"
    return target.startswith(b"/") and _NO_PATH_BYTE.search(target) is None


def _too_many_headers(limits: Limits) -> Refusal:
    text = f"more than {limits.header_count_max} headers or {limits.header_bytes_max} bytes of them"
    return Refusal(431, "headers_too_large", text, closes=True)
