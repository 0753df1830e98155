"""What a receiver sees of an erasure, and what its answers mean."""

from __future__ import annotations

import json

import pytest
from cdp_destination_webhook import Webhook, WebhookSettings
from cdp_destination_webhook.guard import Denied
from cdp_destination_webhook.signature import verify

from cdp.config import Secret
from cdp.delivery import Erased, ErasureAccepted, ErasureRetry, ErasureUnsupported
from cdp.testing import Answer, Drop, FakeNetwork, Service, make_erasure, open_destination
from cdp.testing.world import START_US

URL = "https://hooks.example.com/in"
ERASE_URL = "https://privacy.example.com/erasures?tenant=a"
NOW_S = START_US // 1_000_000


def settings(**fields):
    return WebhookSettings(url=URL, **({"erase_url": ERASE_URL} | fields))


async def outcome(*faults, ask=lambda webhook: webhook.erase(make_erasure()), **fields):
    service = Service(*faults)
    async with open_destination(Webhook, settings(**fields), service) as webhook:
        return await ask(webhook), service.requests


async def test_the_request_names_the_person_and_is_signed(autojump_clock):
    erasure = make_erasure(3)
    _, (request,) = await outcome(
        ask=lambda webhook: webhook.erase(erasure),
        secrets=(Secret("key"),),
        headers={"authorization": Secret("Bearer x")},
    )
    assert json.loads(request.content) == {
        "erasure": {
            "erasureId": erasure.erasure_id,
            "profileIds": list(erasure.profile_ids),
            "identifiers": [
                {"namespace": namespace, "value": value} for namespace, value in erasure.identifiers
            ],
            "requestedAt": erasure.requested_at,
        }
    }
    assert request.method == "POST"
    assert str(request.url) == "https://93.184.215.14/erasures?tenant=a"
    assert request.headers["host"] == "privacy.example.com"
    assert request.headers["idempotency-key"] == erasure.erasure_id
    assert request.headers["authorization"] == "Bearer x"
    assert verify(request.headers["cdp-signature"], request.content, "key", now_s=NOW_S)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, body=b'{"id": "job-7"}'), ErasureAccepted("job-7")),
        (Answer(202, body=b'{"id": "job-7"}'), ErasureAccepted("job-7")),
        (Answer(202), ErasureRetry("accepted_without_id")),
        (Answer(200, body=b'{"id": "../../admin"}'), ErasureRetry("id_unusable")),
        (Answer(200, body=b'{"id": ".."}'), ErasureRetry("id_unusable")),
        (Answer(400), ErasureRetry("http_400")),
        (Answer(404), ErasureRetry("http_404")),
        (Answer(302, headers={"location": "https://elsewhere.example.com/"}), None),
        (Answer(429, headers={"retry-after": "30"}), ErasureRetry("http_429", 30.0)),
        (Answer(500), ErasureRetry("http_500")),
        (Drop(), ErasureRetry("exception:RemoteProtocolError")),
    ],
)
async def test_what_an_answer_means(autojump_clock, answer, expected):
    got, _ = await outcome(answer)
    assert got == (expected or ErasureRetry("http_302"))


@pytest.mark.parametrize("answer", [Answer(200), Answer(204, body=b""), Answer(200, body=b"ok")])
async def test_an_answer_without_an_id_says_that_it_is_done(autojump_clock, answer):
    got, _ = await outcome(answer)
    assert isinstance(got, Erased)
    assert got.evidence is not None
    assert got.evidence.startswith(f"answered {answer.status}, sha256 of the answer ")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(body=b'{"status": "pending"}'), ErasureAccepted("job-7")),
        (Answer(body=b'{"status": "in_progress"}'), ErasureAccepted("job-7")),
        (Answer(body=b'{"status": "cancelled"}'), ErasureRetry("status_unknown")),
        (Answer(body=b"{}"), ErasureRetry("status_unknown")),
        (Answer(404), ErasureRetry("http_404")),
    ],
)
async def test_only_completed_is_done(autojump_clock, answer, expected):
    got, _ = await outcome(answer, ask=lambda webhook: webhook.erasure_status("job-7"))
    assert got == expected


async def test_the_status_is_asked_below_the_url(autojump_clock):
    got, (request,) = await outcome(
        Answer(body=b'{"status": "completed"}'), ask=lambda one: one.erasure_status("job-7")
    )
    assert isinstance(got, Erased)
    assert (request.method, str(request.url)) == (
        "GET",
        "https://93.184.215.14/erasures/job-7?tenant=a",
    )


async def test_without_an_erase_url_it_says_how_to_do_it_by_hand(autojump_clock):
    got, requests = await outcome(erase_url=None)
    assert isinstance(got, ErasureUnsupported)
    assert "erase_url" in got.instructions
    assert requests == []


async def test_an_erase_url_is_judged_like_any_other(autojump_clock):
    with pytest.raises(Denied, match="local name"):
        await outcome(erase_url="https://localhost/")
    service = Service()
    names = {"hooks.example.com": [["93.184.215.14"]], "privacy.example.com": [["10.0.0.1"]]}
    network = FakeNetwork(service.transport, names)
    async with open_destination(Webhook, settings(), service, network=network) as webhook:
        assert await webhook.erase(make_erasure()) == ErasureRetry("address_denied")
    assert service.requests == []
