"""Delivers batches as signed JSON over HTTPS, to addresses that were checked."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import httpx
import msgspec

from cdp.delivery import (
    Delivered,
    Delivery,
    Destination,
    Outcome,
    Rejected,
    Retry,
    Secret,
    Settings,
    retry_after_s,
)
from cdp_destination_webhook.guard import Denied, check_url, denial
from cdp_destination_webhook.signature import HEADER, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Webhook", "WebhookSettings"]

# The answers that say something about the events, and not about the route or the credential.
REFUSALS: Final = frozenset({400, 413, 415, 422})


class WebhookSettings(Settings, frozen=True):
    """What an operator writes under `settings`."""

    url: str
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

    async def start(self) -> None:
        """Reads the URL once; what is wrong with it is wrong at every attempt."""
        settings = self.settings
        self._url = httpx.URL(settings.url)
        self._host, self._port = check_url(
            settings.url,
            allow_http=settings.allow_http,
            allow_private=settings.allow_private,
            ports=settings.ports,
        )
        if self._url.raw_host.decode().strip("[]") != self._host:
            raise Denied("two readers of the url find two hosts in it")
        self._secrets = [secret.reveal() for secret in settings.secrets]
        self._headers = {name: value.reveal() for name, value in settings.headers.items()}

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """Sends the batch; every delivery shares the answer."""
        return [await self._send(batch)] * len(batch)

    async def check(self) -> None:
        """Whether the name resolves to addresses that may be called."""
        await self.start()
        await self._address()

    async def _send(self, batch: Sequence[Delivery]) -> Outcome:
        try:
            address = await self._address()
        except Denied:
            return Retry("address_denied")  # a name may be mended; no reason to lose events
        except OSError:
            return Retry("name_unknown")
        body = body_of(batch)
        try:
            response = await self.http.post(
                self._url.copy_with(host=address),
                content=body,
                headers=self._request_headers(batch, body),
                extensions={"sni_hostname": self._host},
            )
        except httpx.HTTPError as error:
            return Retry(f"exception:{type(error).__name__}")
        return outcome_of(response, self.host.clock.now_us())

    async def _address(self) -> str:
        """The address to connect to: of those that the name has, all of which must be allowed."""
        addresses = await self.host.resolve(self._host, self._port)
        if not addresses:
            raise OSError(f"{self._host} has no address")
        for address in addresses:
            reason = denial(address, allow_private=self.settings.allow_private)
            if reason is not None:
                raise Denied(f"{self._host}: {reason}")
        return addresses[0]

    def _request_headers(self, batch: Sequence[Delivery], body: bytes) -> dict[str, str]:
        headers = {
            **self._headers,
            "host": self._url.netloc.decode(),
            "content-type": "application/json",
            "idempotency-key": idempotency_key(batch),
        }
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
