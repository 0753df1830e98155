"""Asks an OpenDSR 2.0 processor to erase people whom it knows by another way than this daemon.

It sends no events. What is delivered here is only noted, so that it stands on record whom the
processor may know: give the destination the purposes that the processor uses data for, and each
person whose events may go there is erased there too.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - the settings are read by their types
from typing import TYPE_CHECKING, ClassVar, Literal

import httpx
import msgspec

from cdp.delivery import (
    Delivered,
    Delivery,
    Denied,
    Destination,
    Endpoint,
    Erasure,
    ErasureOutcome,
    ErasureRetry,
    ErasureUnsupported,
    Outcome,
    Secret,
    Settings,
    is_segment,
)
from cdp_destination_opendsr.protocol import (
    Form,
    IdentityNames,
    later,
    outcome_of_receipt,
    outcome_of_status,
    request_body,
    request_id_of,
)
from cdp_destination_opendsr.signature import Untrusted, Verifier

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Opendsr", "OpendsrSettings"]

# What a processor may answer to a request that it has already.
ALREADY_THERE = (400, 409)


class OpendsrSettings(Settings, frozen=True):
    """What an operator writes under `settings`."""

    url: str  # of the processor's API with its version: POST goes to <url>/requests
    domains: tuple[str, ...] = ()  # processors that may answer; empty: the host of the url
    certificate: Path | None = None  # of the processor, PEM: then every answer must be signed by it
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)  # sent with every request
    regulation: Literal["gdpr", "ccpa"] = "gdpr"
    identity_format: Form = "raw"
    identities: dict[str, str] = msgspec.field(
        default_factory=lambda: {"user_id": "controller_customer_id", "email": "email"}
    )  # our namespace -> identity type of the specification
    extensions: dict[str, str] = msgspec.field(default_factory=dict)  # -> field of an extension
    allow_http: bool = False
    allow_private: bool = False  # loopback and private addresses, any port
    ports: tuple[int, ...] = (443, 8443)


class Opendsr(Destination[OpendsrSettings]):
    """A controller's side of OpenDSR: requests, receipts, status."""

    settings_type = OpendsrSettings
    batch_max = 1_000
    receives: ClassVar[frozenset[str]] = frozenset({"event", "merged", "split", "renamed"})
    erases = True

    async def start(self) -> None:
        """Reads the URL and the certificate once; what is wrong with them stays wrong."""
        settings = self.settings
        self._endpoint = Endpoint(
            f"{settings.url.rstrip('/')}/requests",
            allow_http=settings.allow_http,
            allow_private=settings.allow_private,
            ports=settings.ports,
        )
        domains = tuple(one.lower() for one in settings.domains) or (self._endpoint.host,)
        self._names = IdentityNames(
            settings.identities, settings.extensions, domains[0], settings.identity_format
        )
        certificate = None
        if settings.certificate is not None:
            certificate = await self.host.run_in_thread(settings.certificate.read_bytes)
        self._verifier = Verifier(domains, certificate)
        self._headers = {name: value.reveal() for name, value in settings.headers.items()}

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Sends nothing: that it came here is on record, and that is what it is for."""
        return [Delivered()] * len(batch)

    async def erase(self, erasure: Erasure) -> ErasureOutcome:
        """Submits a request for the person. The same erasure is the same request."""
        body = request_body(erasure, self._names, self.settings.regulation)
        if body is None:
            return ErasureUnsupported(
                "no identifier of the person is of a type that the processor takes: see the "
                "settings `identities` and `extensions`, or have the processor erase by hand"
            )
        response = await self._request("POST", content=body)
        if isinstance(response, ErasureRetry):
            return response
        request_id = request_id_of(erasure)
        if response.status_code in ALREADY_THERE:
            known = await self.erasure_status(request_id)
            return later(response) if isinstance(known, ErasureRetry) else known
        return self._judged(response) or outcome_of_receipt(response, request_id, body)

    async def erasure_status(self, remote_id: str) -> ErasureOutcome:
        """Asks how far a request is."""
        if not is_segment(remote_id):
            return ErasureRetry("id_unusable")
        response = await self._request("GET", segment=remote_id)
        if isinstance(response, ErasureRetry):
            return response
        return self._judged(response) or outcome_of_status(
            response, remote_id, signed=self._verifier.required
        )

    async def check(self) -> None:
        """Whether the name resolves to addresses that may be called, and the certificate holds."""
        await self.start()
        self._verifier.check(self.host.clock.now_us())
        await self._endpoint.address(self.host.resolve)

    def _judged(self, response: httpx.Response) -> ErasureRetry | None:
        """Why an answer says nothing; None where its body may be read."""
        now_us = self.host.clock.now_us()
        if not response.is_success:
            return later(response, now_us)
        try:
            self._verifier.verify(response.headers, response.content, now_us)
        except Untrusted as problem:
            return ErasureRetry(f"untrusted: {problem}")
        return None

    async def _request(
        self, method: str, *, content: bytes = b"", segment: str = ""
    ) -> httpx.Response | ErasureRetry:
        headers = {**self._headers, "accept": "application/json"}
        if content:
            headers["content-type"] = "application/json"
        try:
            address = await self._endpoint.address(self.host.resolve)
        except Denied:
            return ErasureRetry("address_denied")
        except OSError:
            return ErasureRetry("name_unknown")
        try:
            return await self._endpoint.request(
                self.http, address, method, segment=segment, content=content, headers=headers
            )
        except httpx.HTTPError as error:
            return ErasureRetry(f"exception:{type(error).__name__}")
