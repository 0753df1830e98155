"""Delivers batches as signed JSON over HTTPS, to addresses that were checked."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

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
    Outcome,
    Rejected,
    Retry,
    Secret,
    Settings,
    is_segment,
    retry_after_s,
)
from cdp_destination_webhook.erasing import (
    BY_HAND,
    body_of_erasure,
    outcome_of_erasure,
    outcome_of_status,
)
from cdp_destination_webhook.signature import HEADER, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Webhook", "WebhookSettings"]

# The answers that say something about the events, and not about the route or the credential.
REFUSALS: Final = frozenset({400, 413, 415, 422})


class WebhookSettings(Settings, frozen=True):
    """What an operator writes under `settings`."""

    url: str
    erase_url: str | None = None  # takes erasures; without one a person has to see to them
    secrets: tuple[Secret, ...] = ()  # each signs every request: add, change the receiver, remove
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)  # sent with every request
    allow_http: bool = False
    allow_private: bool = False  # loopback and private addresses, any port
    ports: tuple[int, ...] = (443, 8443, 80, 8080)


class Webhook(Destination[WebhookSettings]):
    """One POST a batch. The receiver takes or refuses it as a whole."""

    settings_type = WebhookSettings
    linger_s = 0.05  # under load batches fill; a lone event goes at once
    batch_max = 250  # some milliseconds of the event loop, and few enough requests
    batch_atomic = True
    concurrency_max = 4
    receives = frozenset({"event", "merged", "split", "renamed"})

    erases = True

    async def start(self) -> None:
        """Reads the URLs once; what is wrong with them is wrong at every attempt."""
        settings = self.settings
        self._endpoint = self._opened(settings.url)
        self._erasures = None if settings.erase_url is None else self._opened(settings.erase_url)
        self._secrets = [secret.reveal() for secret in settings.secrets]
        self._headers = {name: value.reveal() for name, value in settings.headers.items()}

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Sends the batch; every delivery shares the answer."""
        body, key = body_of(batch), idempotency_key(batch)
        response = await self._request(self._endpoint, "POST", content=body, key=key)
        if isinstance(response, str):
            return [Retry(response)] * len(batch)
        return [outcome_of(response, self.host.clock.now_us())] * len(batch)

    async def erase(self, erasure: Erasure) -> ErasureOutcome:
        """Asks the receiver to forget the person, signed as deliveries are."""
        if self._erasures is None:
            return BY_HAND
        body = body_of_erasure(erasure)
        key = erasure.erasure_id
        response = await self._request(self._erasures, "POST", content=body, key=key)
        if isinstance(response, str):
            return ErasureRetry(response)
        return outcome_of_erasure(response, self.host.clock.now_us())

    async def erasure_status(self, remote_id: str) -> ErasureOutcome:
        """Asks the receiver how far it is."""
        if self._erasures is None:
            return BY_HAND
        if not is_segment(remote_id):
            return ErasureRetry("id_unusable")
        response = await self._request(self._erasures, "GET", segment=remote_id)
        if isinstance(response, str):
            return ErasureRetry(response)
        return outcome_of_status(response, remote_id, self.host.clock.now_us())

    async def check(self) -> None:
        """Whether the names resolve to addresses that may be called."""
        await self.start()
        for endpoint in (self._endpoint, self._erasures):
            if endpoint is not None:
                await endpoint.address(self.host.resolve)

    def _opened(self, url: str) -> Endpoint:
        return Endpoint(
            url,
            allow_http=self.settings.allow_http,
            allow_private=self.settings.allow_private,
            ports=self.settings.ports,
        )

    async def _request(
        self,
        endpoint: Endpoint,
        method: str,
        *,
        content: bytes = b"",
        key: str = "",
        segment: str = "",
    ) -> httpx.Response | str:
        """The answer, or in a word why there is none."""
        try:
            address = await endpoint.address(self.host.resolve)
        except Denied:
            return "address_denied"  # a name may be mended; no reason to lose anything
        except OSError:
            return "name_unknown"
        try:
            return await endpoint.request(
                self.http,
                address,
                method,
                segment=segment,
                content=content,
                headers=self._request_headers(content, key),
            )
        except httpx.HTTPError as error:
            return f"exception:{type(error).__name__}"

    def _request_headers(self, body: bytes, key: str) -> dict[str, str]:
        headers = dict(self._headers)
        if key:
            headers |= {"content-type": "application/json", "idempotency-key": key}
        if self._secrets:
            timestamp_s = self.host.clock.now_us() // 1_000_000
            headers[HEADER] = sign(body, self._secrets, timestamp_s)
        return headers


def body_of(batch: Sequence[Delivery]) -> bytes:
    """The JSON body of a batch."""
    return _encode({"batch": [item_of(delivery) for delivery in batch]})


def item_of(delivery: Delivery) -> dict[str, Any]:
    """One delivery, as receivers see it."""
    item: dict[str, Any] = {
        "deliveryId": delivery.delivery_id,
        "kind": delivery.kind,
        "profileId": delivery.profile_id,
        "attempt": delivery.attempt,
    }
    if delivery.event is not None:
        item["event"] = delivery.event
    if delivery.other_profile_id is not None:
        item["otherProfileId"] = delivery.other_profile_id
    return item


def idempotency_key(batch: Sequence[Delivery]) -> str:
    """The same for the same deliveries in the same order, and for nothing else."""
    digest = blake2b(digest_size=16)
    for delivery in batch:
        digest.update(delivery.delivery_id.encode())
    return digest.hexdigest()


def outcome_of(response: httpx.Response, now_us: int) -> Outcome:
    """What an answer means for the batch."""
    status = response.status_code
    if 200 <= status < 300:
        return Delivered()
    if status in REFUSALS:
        return Rejected(f"http_{status}")
    return Retry(f"http_{status}", retry_after_s(response.headers.get("retry-after"), now_us))


_encode = msgspec.json.Encoder().encode
