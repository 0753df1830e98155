"""What receivers see: body, signature, idempotency key; and what their answers mean."""

from __future__ import annotations

import json

import pytest
import trio
from cdp_destination_webhook import Webhook, WebhookSettings, idempotency_key
from cdp_destination_webhook.signature import sign, verify

from cdp.config import Secret
from cdp.delivery import Delivered, Rejected, Retry
from cdp.system import SystemNetwork
from cdp.testing import Answer, Service, make_change, make_delivery, open_destination, serve
from cdp.testing.world import START_US

URL = "https://hooks.example.com/in"
NOW_S = START_US // 1_000_000


async def request_of(batch, **settings):
    service = Service()
    async with open_destination(Webhook, WebhookSettings(url=URL, **settings), service) as webhook:
        await webhook.deliver(batch)
    (request,) = service.requests
    return request


async def test_the_body_holds_every_delivery_in_order(autojump_clock):
    batch = [make_delivery(1), make_change("merged", 2)]
    body = json.loads((await request_of(batch)).content)
    assert body == {
        "batch": [
            {
                "deliveryId": batch[0].delivery_id,
                "kind": "event",
                "profileId": batch[0].profile_id,
                "attempt": 1,
                "event": batch[0].event,
            },
            {
                "deliveryId": batch[1].delivery_id,
                "kind": "merged",
                "profileId": batch[1].profile_id,
                "attempt": 1,
                "otherProfileId": batch[1].other_profile_id,
            },
        ]
    }


async def test_every_secret_signs_so_that_one_can_be_replaced(autojump_clock):
    secrets = (Secret("old"), Secret("new"))
    request = await request_of([make_delivery(1)], secrets=secrets)
    header = request.headers["cdp-signature"]
    for secret in ("old", "new"):
        assert verify(header, request.content, secret, now_s=NOW_S)
    assert not verify(header, request.content, "other", now_s=NOW_S)
    assert not verify(header, request.content + b" ", "new", now_s=NOW_S)
    assert not verify(header, request.content, "new", now_s=NOW_S + 301)


def test_the_signature_is_hmac_sha256_over_time_dot_body():
    # From: printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    expected = "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    assert sign(b"{}", ["key"], 1_700_000_000) == expected


@pytest.mark.parametrize(
    "header",
    ["", "t=", "t=x,v1=00", "v1=00", "t=1,t=2,v1=00", "t=٣,v1=00", "t=1", "t=1,v1=ü", "=,=,="],
)
def test_a_malformed_signature_is_refused(header):
    assert not verify(header, b"{}", "key", now_s=1)


async def test_without_secrets_nothing_is_signed(autojump_clock):
    request = await request_of([make_delivery(1)])
    assert "cdp-signature" not in request.headers


async def test_the_idempotency_key_is_of_the_ids_alone(autojump_clock):
    batch = [make_delivery(1), make_delivery(2)]
    request = await request_of(batch)
    again = [make_delivery(1, attempt=7), make_delivery(2, event={"event": "x"})]
    assert request.headers["idempotency-key"] == idempotency_key(again)
    assert idempotency_key(batch) != idempotency_key(batch[::-1])


async def test_configured_headers_are_sent(autojump_clock):
    request = await request_of([make_delivery(1)], headers={"authorization": Secret("Bearer x")})
    assert request.headers["authorization"] == "Bearer x"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(200), Delivered()),
        (Answer(204), Delivered()),
        (Answer(400), Rejected("http_400")),
        (Answer(413), Rejected("http_413")),
        (Answer(422), Rejected("http_422")),
        (Answer(401), Retry("http_401")),
        (Answer(404), Retry("http_404")),
        (Answer(302, headers={"location": "https://elsewhere.example.com/"}), Retry("http_302")),
        (Answer(500), Retry("http_500")),
        (Answer(429, headers={"retry-after": "30"}), Retry("http_429", 30.0)),
        (Answer(503, headers={"retry-after": "Sun, 15 Jun 2025 15:07:40 GMT"}), None),
        (Answer(200, body=b"x" * 70_000), Retry("exception:ReadError")),
        (Answer(200, headers={"content-encoding": "gzip"}), Retry("exception:DecodingError")),
    ],
)
async def test_what_an_answer_means(autojump_clock, answer, outcome):
    service = Service(answer)
    async with open_destination(Webhook, WebhookSettings(url=URL), service) as webhook:
        got = await webhook.deliver([make_delivery(1), make_delivery(2)])
    if outcome is None:
        outcome = Retry("http_503", 1_750_000_060 - START_US / 1e6)
    assert got == [outcome] * 2


async def test_a_batch_arrives_over_a_real_socket():
    service, network = Service(), SystemNetwork()
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve, service, network)
        settings = WebhookSettings(url=f"{url}/in", allow_http=True, allow_private=True)
        async with open_destination(Webhook, settings, network=network) as webhook:
            batch = [make_delivery(number) for number in range(500)]
            assert await webhook.deliver(batch) == [Delivered()] * 500
        nursery.cancel_scope.cancel()
    (request,) = service.requests
    assert request.url.path == "/in"
    assert len(json.loads(request.content)["batch"]) == 500
