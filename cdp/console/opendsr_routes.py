"""The endpoints of OpenDSR 2.0: discovery, certificate, requests.

Under `/opendsr`, and under the bare paths that the specification names. Every answer is signed.
Discovery and the certificate are for everybody, as the specification wants; all else needs the
control plane's token, which is the controller's credential: it answers for having checked who
asked, so its requests begin as verified and approved. They are pending, and can be cancelled,
until the erasure seals.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from cdp.clock import isoformat
from cdp.console.answers import BODY_BYTES_MAX
from cdp.console.opendsr import (
    API_VERSION,
    discovery,
    error,
    read_id,
    read_request,
    status_of,
)
from cdp.console.opendsr_book import Entry
from cdp.console.privacy_surface import Asked
from cdp.console.surface import NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from starlette.requests import Request

    from cdp.clock import Clock
    from cdp.console.opendsr import Signer
    from cdp.console.opendsr_book import Book
    from cdp.console.privacy_surface import PrivacySurface

Json = dict[str, Any]

CONTROLLER_ID: Final = "controller"
VERIFIED_BY: Final = "opendsr controller"
PREFIXES: Final = ("/opendsr", "")
PEM_TYPE: Final = "application/x-pem-file"

_encode = msgspec.json.Encoder().encode


class OpendsrRoutes:
    """The endpoints of a processor."""

    def __init__(
        self,
        surface: PrivacySurface,
        book: Book,
        signer: Signer,
        clock: Clock,
        callback_domains: Collection[str],
    ) -> None:
        self._surface = surface
        self._book = book
        self._signer = signer
        self._clock = clock
        self._callback_domains = frozenset(callback_domains)

    def routes(self) -> list[Route]:
        """Every route of OpenDSR."""
        parts = [
            ("/discovery", self.discovery, "GET"),
            ("/requests", self.create, "POST"),
            ("/requests/{id}", self.status, "GET"),
            ("/requests/{id}", self.cancel, "DELETE"),
        ]
        found = [
            Route(prefix + path, self._signed(endpoint), methods=[method])
            for prefix in PREFIXES
            for path, endpoint, method in parts
        ]
        return [*found, Route("/opendsr/certificate.pem", self.certificate, methods=["GET"])]

    def _signed(
        self, endpoint: Callable[[Request], Awaitable[tuple[Json, int]]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Turns what an endpoint says, or refuses, into a signed answer."""

        async def answer(request: Request) -> Response:
            try:
                told, status = await endpoint(request)
            except NotFound as problem:
                told, status = error(404, str(problem)), 404
            except Refused as problem:
                told, status = error(400, str(problem)), 400
            body = _encode(told)
            headers = self._signer.headers(body)
            return Response(body, status, headers=headers, media_type="application/json")

        return answer

    async def certificate(self, _: Request) -> Response:
        """The certificate whose key signs."""
        return Response(self._signer.certificate, media_type=PEM_TYPE)

    async def discovery(self, _: Request) -> tuple[Json, int]:
        """What we take."""
        return discovery(self._signer.domain), 200

    async def create(self, request: Request) -> tuple[Json, int]:
        """Takes a request. The same id again is the same request."""
        raw = await _raw_body(request)
        asked = read_request(
            _decoded(raw),
            domain=self._signer.domain,
            callback_domains=self._callback_domains,
        )
        # Both steps are safe to repeat: who got no answer sends the same id again.
        told = await self._surface.submit_request(
            Asked(
                kind=asked.kind,
                identifiers=asked.identifiers,
                external_id=f"opendsr:{asked.id}",
                regulation=asked.regulation,
                channel="opendsr",
                verified_by=VERIFIED_BY,
            )
        )
        entry = self._book.get(asked.id)
        if entry is None:
            now_us = self._clock.now_us()
            entry = Entry(asked.id, told["id"], now_us, told["due_at"], asked.callbacks)
            await self._book.add(entry)
        if told["state"] == "verified":
            await self._surface.approve_request(told["id"], by=VERIFIED_BY)
        return self._receipt(entry, raw), 201

    def _receipt(self, entry: Entry, raw: bytes) -> Json:
        return {
            "controller_id": CONTROLLER_ID,
            "expected_completion_time": entry.due_at,
            "received_time": isoformat(entry.received_us),
            "encoded_request": base64.b64encode(raw).decode(),
            "subject_request_id": entry.subject_request_id,
        }

    async def status(self, request: Request) -> tuple[Json, int]:
        """How far a request is."""
        entry = self._find(request)
        told = self._surface.request(entry.request_id)
        return status_form(entry, told, self._signer.domain), 200

    async def cancel(self, request: Request) -> tuple[Json, int]:
        """Takes a request back, while it is pending."""
        entry = self._find(request)
        if status_of(self._surface.request(entry.request_id)) != "pending":
            raise Refused("only a request that is pending can be cancelled")
        await self._surface.cancel_request(entry.request_id, by=VERIFIED_BY)
        told = {
            "controller_id": CONTROLLER_ID,
            "subject_request_id": entry.subject_request_id,
            "received_time": isoformat(self._clock.now_us()),
            "api_version": API_VERSION,
        }
        return told, 202

    def _find(self, request: Request) -> Entry:
        entry = self._book.get(read_id(request.path_params["id"]))
        if entry is None:
            raise NotFound("there is no request with this subject_request_id")
        return entry


def status_form(entry: Entry, told: Json, domain: str) -> Json:
    """Where a request stands, as both the status and the callback say it."""
    form: Json = {
        "controller_id": CONTROLLER_ID,
        "expected_completion_time": entry.due_at,
        "subject_request_id": entry.subject_request_id,
        "request_status": status_of(told),
        "api_version": API_VERSION,
    }
    if form["request_status"] == "completed" and "json" in told["exports"]:
        form["results_url"] = f"https://{domain}/v1/privacy/export/{entry.request_id}.json"
    return form


async def _raw_body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Refused(f"the body is larger than {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _decoded(raw: bytes) -> Json:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("the body must be a JSON object") from None
