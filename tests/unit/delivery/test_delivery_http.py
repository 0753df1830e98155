"""The client that destinations get, against a real server on a real socket, faults included."""

from __future__ import annotations

import httpx
import pytest
import trio

from cdp.delivery.http import open_client
from cdp.system import SystemNetwork
from cdp.testing import Answer, Drop, Service, serve


async def ask(*faults, count: int = 1, timeout_s: float = 5.0, handler=None):
    """The answers of a service with these faults, over a socket."""
    service, network = Service(*faults, handler=handler), SystemNetwork()
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve, service, network)
        transport = network.transport()
        async with open_client(transport, timeout_s=timeout_s, response_bytes_max=1_000) as client:
            answers = [await client.post(url, content=b"x" * 100_000) for _ in range(count)]
        nursery.cancel_scope.cancel()
    return service, answers


def test_it_ignores_the_proxies_of_its_surroundings(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async def main():
        return await ask()

    _, (answer,) = trio.run(main)
    assert answer.status_code == 200


async def test_a_body_arrives_whole_and_the_connection_is_used_again():
    service, answers = await ask(count=3)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [len(request.content) for request in service.requests] == [100_000] * 3


async def test_an_answer_of_exactly_the_limit_is_read():
    _, (answer,) = await ask(Answer(body=b"x" * 1_000))
    assert len(answer.content) == 1_000


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Answer(body=b"x" * 1_001), httpx.ReadError),
        (Answer(headers={"content-encoding": "br"}), httpx.DecodingError),
        (Drop(), httpx.RemoteProtocolError),
    ],
)
async def test_an_answer_that_is_too_long_compressed_or_missing_is_an_error(fault, error):
    with pytest.RaisesGroup(error, flatten_subgroups=True):
        await ask(fault)


async def test_a_redirect_is_returned_and_not_followed():
    service, (answer,) = await ask(Answer(302, headers={"location": "http://127.0.0.1:1/"}))
    assert answer.status_code == 302
    assert len(service.requests) == 1


async def test_cookies_are_not_kept():
    service, _ = await ask(Answer(headers={"set-cookie": "a=b; Path=/"}), count=2)
    assert "cookie" not in service.requests[1].headers


async def test_compression_is_not_offered():
    service, _ = await ask()
    assert service.requests[0].headers["accept-encoding"] == "identity"
