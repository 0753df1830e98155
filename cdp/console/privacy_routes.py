"""The endpoints of people's rights: `/v1/privacy/...`.

A request is made, verified, approved, and then runs by itself; what it did is in its receipt. An
order that cannot be read is refused whole, nothing of it is guessed. `by` names who gave the
order: it goes into the audit log, and is "operator" where nobody says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.responses import StreamingResponse
from starlette.routing import Route

from cdp.console import query
from cdp.console.answers import answer, body_of
from cdp.console.privacy_surface import KINDS, STATES, Asked, Kind
from cdp.console.shapes import cursor
from cdp.console.surface import NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from cdp.console.privacy_surface import Identifiers, PrivacySurface
    from cdp.console.surface import Listing

Json = dict[str, Any]

LISTED_DEFAULT: Final = 50
IDENTIFIERS_MAX: Final = 20
VALUE_CHARS_MAX: Final = 512
WORDS_CHARS_MAX: Final = 500
EXPORT_BYTES_A_TURN: Final = 256 * 2**10
FORMS: Final = {"json": "application/json", "html": "text/html; charset=utf-8"}

_NAMESPACE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{32}")
_REGULATION: Final = re.compile(r"[a-z0-9_-]{1,32}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class PrivacyRoutes:
    """The endpoints of requests, exports, suppression and why."""

    def __init__(self, surface: PrivacySurface) -> None:
        self._surface = surface

    def routes(self) -> list[Route]:
        """Every route of people's rights."""
        one = "/v1/privacy/requests/{id}"
        return [
            Route("/v1/privacy/requests", self.submit, methods=["POST"]),
            Route("/v1/privacy/requests", self.list, methods=["GET"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.cancel, methods=["DELETE"]),
            Route(f"{one}/verify", self.verify, methods=["POST"]),
            Route(f"{one}/approve", self.approve, methods=["POST"]),
            Route(f"{one}/deny", self.deny, methods=["POST"]),
            Route(f"{one}/hold", self.hold, methods=["POST"]),
            Route(f"{one}/release", self.release, methods=["POST"]),
            Route(f"{one}/attest", self.attest, methods=["POST"]),
            Route(f"{one}/receipt", self.receipt, methods=["GET"]),
            Route("/v1/privacy/export/{file}", self.export, methods=["GET"]),
            Route("/v1/privacy/why", self.why, methods=["GET"]),
            Route("/v1/privacy/unsuppress", self.unsuppress, methods=["POST"]),
            Route("/v1/privacy/suppressions", self.suppressions, methods=["GET"]),
            Route("/v1/privacy/audit", self.audit, methods=["GET"]),
        ]

    async def submit(self, request: Request) -> Response:
        """Takes a request; see `Asked` for the members of the body."""
        asked = read_asked(await body_of(request))
        return answer(await self._surface.submit_request(asked), 201)

    async def list(self, request: Request) -> Response:
        """`limit`, `kind`, `state`."""
        given = request.query_params
        limit = query.limit_of(given, LISTED_DEFAULT)
        listing = self._surface.list_requests(
            query.after_of(given),
            limit,
            kind=_one_of(given, "kind", KINDS),
            state=_one_of(given, "state", STATES),
        )
        return answer(_listed(request, listing, limit))

    async def show(self, request: Request) -> Response:
        """How far it is, in every store and at every destination."""
        return answer(self._surface.request(_id(request)))

    async def cancel(self, request: Request) -> Response:
        """Takes it back, while nothing was done yet."""
        by = _name(request.query_params.get("by", "operator"), "by")
        return answer(await self._surface.cancel_request(_id(request), by=by))

    async def verify(self, request: Request) -> Response:
        """`{"by", "method"}`: the person is who they say, and how that was found out."""
        body = await _body(request, {"by", "method"})
        method = _words(body, "method")
        return answer(await self._surface.verify_request(_id(request), by=_by(body), method=method))

    async def approve(self, request: Request) -> Response:
        """`{"by"}`."""
        body = await _body(request, {"by"})
        return answer(await self._surface.approve_request(_id(request), by=_by(body)))

    async def deny(self, request: Request) -> Response:
        """`{"by", "reason"}`."""
        body = await _body(request, {"by", "reason"})
        reason = _words(body, "reason")
        return answer(await self._surface.deny_request(_id(request), by=_by(body), reason=reason))

    async def hold(self, request: Request) -> Response:
        """`{"by", "reason"}`: a legal claim, say. Nothing is done until it is released."""
        body = await _body(request, {"by", "reason"})
        reason = _words(body, "reason")
        return answer(await self._surface.hold_request(_id(request), by=_by(body), reason=reason))

    async def release(self, request: Request) -> Response:
        """`{"by"}`: the reason to wait is gone; it has to be approved anew."""
        body = await _body(request, {"by"})
        return answer(await self._surface.release_request(_id(request), by=_by(body)))

    async def attest(self, request: Request) -> Response:
        """`{"by", "destination", "file_sha256"}`: done by hand; the hash is of the evidence."""
        body = await _body(request, {"by", "destination", "file_sha256"})
        if "by" not in body:
            raise Refused("say who attests: by")
        digest = body.get("file_sha256", "")
        if not isinstance(digest, str) or (digest and not _SHA256.fullmatch(digest)):
            raise Refused("file_sha256 must be 64 hexadecimal digits in small letters")
        destination = _words(body, "destination")
        done = await self._surface.attest_erasure(
            _id(request), destination, by=_by(body), file_sha256=digest
        )
        return answer(done)

    async def receipt(self, request: Request) -> Response:
        """The proof of what was done."""
        return answer(self._surface.receipt(_id(request)))

    async def export(self, request: Request) -> Response:
        """The document of an access or portability request: ID.json or ID.html."""
        request_id, _, form = request.path_params["file"].partition(".")
        if form not in FORMS or not _REQUEST_ID.fullmatch(request_id):
            raise NotFound("name the document as the request's id with .json or .html")
        first = await self._surface.read_export(request_id, form, 0, EXPORT_BYTES_A_TURN)
        if first is None:
            raise NotFound("there is no such document: not made yet, expired, or erased")
        headers = {"content-disposition": f'attachment; filename="person-{request_id}.{form}"'}
        parts = self._parts(request_id, form, first)
        return StreamingResponse(parts, headers=headers, media_type=FORMS[form])

    async def _parts(self, request_id: str, form: str, first: bytes) -> AsyncIterator[bytes]:
        part: bytes | None = first
        offset = 0
        while part:
            yield part
            offset += len(part)
            part = await self._surface.read_export(request_id, form, offset, EXPORT_BYTES_A_TURN)

    async def why(self, request: Request) -> Response:
        """`identifier`: what is held of somebody. With `destination`: may it go there, and why.

        `event` and `destination`: the same for one event, by its messageId.
        """
        given = request.query_params
        message_id, key = given.get("event"), given.get("identifier")
        if (message_id is None) == (key is None):
            raise Refused("give either identifier=namespace:value or event=MESSAGE_ID")
        person = None if key is None else _person(key)
        destination = given.get("destination")
        if destination is not None:
            return answer(
                self._surface.why_delivery(destination, message_id=message_id, person=person)
            )
        if person is None:
            raise Refused("an event is asked about with a destination")
        return answer(self._surface.why_person(*person))

    async def unsuppress(self, request: Request) -> Response:
        """`{"identifiers", "by", "reason"}`."""
        body = await _body(request, {"identifiers", "by", "reason"})
        identifiers = read_identifiers(body.get("identifiers"))
        reason = _words(body, "reason")
        done = await self._surface.unsuppress(identifiers, by=_by(body), reason=reason)
        return answer(done)

    async def suppressions(self, request: Request) -> Response:
        """What is suppressed, as hashes."""
        limit = query.limit_of(request.query_params, LISTED_DEFAULT)
        listing = self._surface.suppressions(query.after_of(request.query_params), limit)
        return answer(_listed(request, listing, limit))

    async def audit(self, _: Request) -> Response:
        """What is kept without need."""
        return answer(await self._surface.privacy_audit())


_ASKED: Final = frozenset(
    {
        *("kind", "identifiers", "external_id", "regulation", "hold"),
        *("suppress", "downstream", "lift"),
    }
)


def read_asked(body: Mapping[str, Any]) -> Asked:
    """A request from the body of an order. Raises Refused."""
    if unknown := sorted(body.keys() - _ASKED):
        raise Refused(f"{unknown[0]!r} is no member of a request, which has {_list(_ASKED)}")
    kind = body.get("kind")
    if kind not in KINDS:
        raise Refused(f"kind must be one of {_list(KINDS)}")
    regulation = _optional(body, "regulation")
    if regulation and not _REGULATION.fullmatch(regulation):
        raise Refused("regulation must be a short name in small letters, such as gdpr or ccpa")
    return Asked(
        kind=cast("Kind", kind),
        identifiers=read_identifiers(body.get("identifiers")),
        external_id=_optional(body, "external_id"),
        regulation=regulation,
        hold=_optional(body, "hold"),
        suppress=_flag(body, "suppress", default=True),
        downstream=_flag(body, "downstream", default=True),
        lift=_flag(body, "lift", default=False),
    )


def read_identifiers(value: Any) -> Identifiers:
    """`{namespace: value or [value, ...]}`, one to twenty of one person. Raises Refused."""
    if not isinstance(value, dict):
        raise Refused('identifiers must be an object such as {"email": "ada@example.com"}')
    found: list[tuple[str, str]] = []
    for namespace, given in value.items():
        if not _NAMESPACE.fullmatch(namespace):
            raise Refused("a namespace of identifiers must be a word such as user_id or email")
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, str) or not 1 <= len(one) <= VALUE_CHARS_MAX:
                text = f"identifiers.{namespace} must be a text of 1 to {VALUE_CHARS_MAX} chars"
                raise Refused(text)
            found.append((namespace.lower(), one))
    if not 1 <= len(found) <= IDENTIFIERS_MAX:
        raise Refused(f"identifiers must hold 1 to {IDENTIFIERS_MAX} identifiers")
    return tuple(found)


async def _body(request: Request, known: Collection[str]) -> Json:
    body = await body_of(request)
    if unknown := sorted(body.keys() - set(known)):
        raise Refused(f"{unknown[0]!r} is not known here; the body may have {_list(known)}")
    return body


def _id(request: Request) -> str:
    request_id: str = request.path_params["id"]
    if not _REQUEST_ID.fullmatch(request_id):
        raise NotFound("a request's id is 32 hexadecimal digits")
    return request_id


def _person(key: str) -> tuple[str, str]:
    # A parameter is decoded already; a percent sign in it is the identifier's own.
    namespace, colon, value = key.partition(":")
    if not colon or not namespace or not value or len(key) > query.KEY_CHARS_MAX:
        raise Refused("name a person as namespace:value, such as user_id:42")
    return namespace.lower(), value


def _by(body: Mapping[str, Any]) -> str:
    return _name(body.get("by", "operator"), "by")


def _name(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > WORDS_CHARS_MAX:
        raise Refused(f"{name} must be a text of 1 to {WORDS_CHARS_MAX} chars")
    return value.strip()


def _words(body: Mapping[str, Any], name: str) -> str:
    return _name(body.get(name), name)


def _optional(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return "" if value is None else _name(value, name)


def _flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise Refused(f"{name} must be true or false")
    return value


def _one_of(given: Mapping[str, str], name: str, allowed: Collection[str]) -> str | None:
    value = given.get(name)
    if value is not None and value not in allowed:
        raise Refused(f"{name} must be one of {_list(allowed)}")
    return value


def _listed(request: Request, listing: Listing, limit: int) -> Json:
    return {"data": listing.items, "cursor": cursor(request.url.path, limit, listing.next)}


def _list(names: Collection[str]) -> str:
    return ", ".join(names if isinstance(names, tuple) else sorted(names))
