"""Who may ask, and from where: checked before any route, for every request.

With a token configured, every route but `OPEN_PATHS` needs it, as `Authorization: Bearer
<token>` or, as Segment's profile API has it, as the user name of Basic authentication. Without a
token the configuration allows loopback only; then the Host header must name loopback too, so that
a web page cannot reach us through a name that it rebinds. A request that changes something must
not come from another site's page. There is no CORS: no page of another origin may read an answer.
"""

from __future__ import annotations

from base64 import b64decode
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders

from cdp.console.answers import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from cdp.config import Secret

# Probes, and what OpenDSR wants anybody to read. They say nothing about anybody.
OPEN_PATHS: Final = frozenset(
    {"/healthz", "/readyz", "/discovery", "/opendsr/discovery", "/opendsr/certificate.pem"}
)
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

SECURITY_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Stands before the routes. `new_id` names each request in its `Request-Id` header."""

    def __init__(self, app: ASGIApp, *, token: Secret | None, new_id: Callable[[], str]) -> None:
        self._app = app
        self._token = None if token is None else token.reveal().encode()
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what may not pass; hands on what may."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = self._new_id()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers["request-id"] = request_id
            await send(message)

        answer = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        app = self._app if answer is None else answer
        await app(_with_encoded_path(scope), receive, send_guarded)

    def refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        """The answer to a request that may not pass; None for one that may."""
        if method not in SAFE_METHODS and _from_another_site(headers):
            return refusal("forbidden", "orders are not taken from another site's page", 403)
        if self._token is None:
            if _host_name(headers.get("host", "")) not in LOOPBACK_NAMES:
                text = "without a token only localhost is served: set [control] token"
                return refusal("forbidden", text, 403)
            return None
        if path in OPEN_PATHS or compare_digest(_credential(headers), self._token):
            return None
        answer = refusal("authentication_error", "send the control plane's token", 401)
        answer.headers["www-authenticate"] = "Bearer"
        return answer


def _with_encoded_path(scope: Scope) -> Scope:
    """Routes see the path as it was sent, so that an encoded slash stays part of an identifier."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return {**scope, "path": raw.partition(b"?")[0].decode("latin-1")}


def _credential(headers: Headers) -> bytes:
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode()
    if scheme.lower() == "basic":
        try:
            return b64decode(rest.strip(), validate=True).partition(b":")[0]
        except ValueError:
            return b""
    return b""


def _from_another_site(headers: Headers) -> bool:
    """Browsers say where a request comes from in one of two headers; other programs in neither."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _host_name(host: str) -> str:
    """The Host header without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
