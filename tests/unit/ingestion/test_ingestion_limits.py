"""The limits of requests and connections, slow clients, crowds, and the drain."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio
import trio.testing

from cdp.config import Limits
from tests.unit.ingestion.front_door import (
    BASIC,
    FrontDoor,
    open_front_door,
    parse_replies,
    read_to_end,
    request,
    track,
)

EVENT = json.dumps(track()).encode()
AUTH = b"Authorization: " + BASIC + b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HEAD = b"POST /v1/t HTTP/1.1\r\nHost: a\r\n" + AUTH
FAST = Limits(header_timeout_s=10, body_grace_s=5, body_bytes_per_s_min=100, idle_timeout_s=60)


async def receive_reply(stream: trio.abc.ReceiveStream) -> Any:
    [reply] = parse_replies(bytes(await stream.receive_some(65_536)))
    return reply


# ------------------------------------------------------------------ limits of one request


async def head_with(count: int, value_bytes: int = 1, limits: Limits = FAST) -> Any:
    lines = b"".join(b"x%03d: %s\r\n" % (n, b"v" * value_bytes) for n in range(count))
    async with open_front_door(limits) as door:
        return (await door.talk(b"GET /health HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"))[0]


async def test_the_number_of_headers_has_an_exact_limit() -> None:
    limits = Limits(header_count_max=10)
    assert (await head_with(9, limits=limits)).status == 200
    refused = await head_with(10, limits=limits)
    assert (refused.status, refused.json["code"]) == (431, "headers_too_large")


async def test_the_bytes_of_headers_have_an_exact_limit() -> None:
    # `Host: a` is 9 bytes with its overhead, `x000: ` and its line end 8 more.
    assert (await head_with(1, 91 - 8, Limits(header_bytes_max=100))).status == 200
    assert (await head_with(1, 92 - 8, Limits(header_bytes_max=100))).status == 431


async def test_a_header_that_never_ends_is_refused_before_it_fills_the_memory() -> None:
    async with open_front_door(Limits(header_bytes_max=20_000)) as door:
        stream = await door.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(30):
            await stream.send_all(b"x" * 1_000)
        assert (await receive_reply(stream)).status == 431


async def test_a_url_has_an_exact_limit() -> None:
    async with open_front_door(Limits(url_bytes_max=50)) as door:
        target = "/health?" + "x" * 42
        assert (await door.ask("GET", target)).status == 200
        refused = await door.ask("GET", target + "x")
        assert (refused.status, refused.json["code"]) == (431, "url_too_long")


async def test_a_declared_length_beyond_the_limit_is_refused_before_the_body() -> None:
    async with open_front_door() as door:
        stream = await door.connect()
        too_long = Limits().body_bytes_max + 1
        await stream.send_all(HEAD + b"Content-Length: %d\r\n\r\n" % too_long)
        reply = await receive_reply(stream)
        assert (reply.status, reply.json["code"]) == (400, "payload_too_large")


async def test_a_chunked_body_beyond_the_limit_is_refused_as_it_comes() -> None:
    async with open_front_door(Limits(body_bytes_max=512_000)) as door:
        stream = await door.connect()
        await stream.send_all(HEAD + CHUNKED)
        for _ in range(60):
            await stream.send_all(b"%x\r\n%s\r\n" % (10_000, b" " * 10_000))
        await trio.testing.wait_all_tasks_blocked()
        assert door.gateway.endpoints.held_bytes == 0
        reply = await receive_reply(stream)
        assert (reply.status, reply.json["code"]) == (400, "payload_too_large")


@pytest.mark.parametrize("endless", [b"1;" + b"x" * 1_000, b"0\r\nX: " + b"x" * 1_000])
async def test_chunk_extensions_and_trailers_without_end_are_refused(endless: bytes) -> None:
    async with open_front_door(Limits(header_bytes_max=20_000)) as door:
        stream = await door.connect()
        await stream.send_all(HEAD + CHUNKED + endless)
        for _ in range(30):
            await stream.send_all(b"x" * 1_000)
        reply = await receive_reply(stream)
        assert (reply.status, reply.json["code"]) == (400, "bad_request")


# ------------------------------------------------------------------ slow clients, in virtual time


async def ends_after(stream: trio.abc.ReceiveStream) -> tuple[float, list[int]]:
    started_s = trio.current_time()
    replies = parse_replies(await read_to_end(stream))
    return trio.current_time() - started_s, [reply.status for reply in replies]


async def test_a_slow_head_ends_at_its_deadline(autojump_clock: object) -> None:
    async with open_front_door(FAST) as door:
        stream = await door.connect()
        await stream.send_all(b"POST /v1/t HTTP/1.1\r\n")

        async def drip() -> None:
            with trio.move_on_after(9):
                while True:
                    await trio.sleep(1)
                    await stream.send_all(b"X: y\r\n")

        door.nursery.start_soon(drip)
        seconds, statuses = await ends_after(stream)
        assert statuses == [408]
        assert seconds == pytest.approx(FAST.header_timeout_s)


async def test_a_slow_body_is_given_time_by_what_it_has_sent(autojump_clock: object) -> None:
    async with open_front_door(FAST) as door:
        stream = await door.connect()
        await stream.send_all(HEAD + b"Content-Length: 10000\r\n\r\n" + b"x" * 300)
        seconds, statuses = await ends_after(stream)
        assert statuses == [408]
        assert seconds == pytest.approx(FAST.body_grace_s + 300 / FAST.body_bytes_per_s_min)


async def test_a_body_at_the_least_rate_is_read_to_its_end(autojump_clock: object) -> None:
    async with open_front_door(FAST) as door:
        stream = await door.connect()
        body = EVENT + b" " * 3_000
        await stream.send_all(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 100):
            await trio.sleep(1)
            await stream.send_all(body[start : start + 100])
        assert (await receive_reply(stream)).json["accepted"] == 1


@pytest.mark.parametrize("requests", [0, 1, 3])
async def test_an_idle_connection_ends_without_a_word(
    requests: int, autojump_clock: object
) -> None:
    async with open_front_door(FAST) as door:
        stream = await door.connect()
        for _ in range(requests):
            await trio.sleep(FAST.idle_timeout_s - 1)
            await stream.send_all(request("GET", "/health"))
            assert (await receive_reply(stream)).status == 200
        seconds, statuses = await ends_after(stream)
        assert statuses == []
        assert FAST.idle_timeout_s <= seconds <= 1.25 * FAST.idle_timeout_s


async def test_a_client_that_does_not_read_its_answers_is_cut_off(autojump_clock: object) -> None:
    async with open_front_door(FAST) as door:
        ours, theirs = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.gateway.handle, theirs)
            await ours.send_all(request("GET", "/health"))
            started_s = trio.current_time()
        assert trio.current_time() - started_s <= 1.25 * FAST.idle_timeout_s + 1


# ------------------------------------------------------------------ crowds


async def test_connections_have_an_exact_limit() -> None:
    async with open_front_door(Limits(connections_max=2, connections_per_ip_max=2)) as door:
        first, _ = await door.connect(), await door.connect()
        refused = await door.talk(b"")
        assert refused[0].status == 503
        assert int(refused[0].headers["retry-after"]) >= 1
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert (await door.ask("GET", "/health")).status == 200


class _Addressed:
    def __init__(self, address: str) -> None:
        self._address = address

    def getpeername(self) -> tuple[str, int]:
        return self._address, 1


async def connect_from(door: FrontDoor, address: str) -> trio.abc.Stream:
    ours, theirs = trio.testing.memory_stream_pair()
    theirs.socket = _Addressed(address)  # type: ignore[attr-defined]
    door.nursery.start_soon(door.gateway.handle, theirs)
    await trio.testing.wait_all_tasks_blocked()
    return ours


async def test_connections_of_one_address_have_a_limit_of_their_own() -> None:
    async with open_front_door(Limits(connections_max=9, connections_per_ip_max=1)) as door:
        first = await connect_from(door, "1.1.1.1")
        second = await connect_from(door, "1.1.1.1")
        other = await connect_from(door, "2.2.2.2")
        assert (await receive_reply(second)).status == 429
        await other.send_all(request("GET", "/health"))
        assert (await receive_reply(other)).status == 200
        await first.aclose()
        await trio.testing.wait_all_tasks_blocked()
        third = await connect_from(door, "1.1.1.1")
        await third.send_all(request("GET", "/health"))
        assert (await receive_reply(third)).status == 200


async def test_a_browsers_address_is_the_peers() -> None:
    async with open_front_door() as door:
        stream = await connect_from(door, "7.7.7.7")
        await stream.send_all(request("POST", "/v1/t", EVENT, Origin="https://shop.test"))
        await receive_reply(stream)
        assert door.events()[0].context["ip"] == "7.7.7.7"


async def test_the_bytes_that_requests_hold_have_a_limit() -> None:
    limits = Limits(body_bytes_max=512_000, inflight_bytes_max=600_000)
    async with open_front_door(limits) as door:
        first, second = await door.connect(), await door.connect()
        for stream in (first, second):
            await stream.send_all(HEAD + b"Content-Length: 400000\r\n\r\n" + b" " * 300_000)
            await trio.testing.wait_all_tasks_blocked()
        await second.send_all(b" " * 50_000)
        reply = await receive_reply(second)
        assert (reply.status, reply.json["code"]) == (429, "overloaded")
        assert int(reply.headers["retry-after"]) >= 1
        await first.send_all(b" " * (100_000 - len(EVENT)) + EVENT)
        assert (await receive_reply(first)).status == 200
        await first.aclose()
        await second.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert door.gateway.endpoints.held_bytes == 0


async def test_what_requests_held_is_given_back_when_they_are_cut_off(
    autojump_clock: object,
) -> None:
    async with open_front_door(FAST) as door:
        door.intake = door.new_intake()  # nobody runs it
        door.gateway.endpoints._intake = door.intake
        packed = gzip.compress(json.dumps({"batch": [track()], "pad": "x" * 9_000}).encode())
        data = request("POST", "/v1/batch", packed, Content_Encoding="gzip") * 3
        stream = await door.connect()
        await stream.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        assert door.gateway.endpoints.held_bytes > 27_000
        assert (await ends_after(stream))[1] == []
        assert door.gateway.endpoints.held_bytes == 0


# ------------------------------------------------------------------ drain


async def test_the_drain_closes_what_is_idle_and_answers_what_is_begun() -> None:
    async with open_front_door() as door:
        idle, begun = await door.connect(), await door.connect()
        data = request("POST", "/v1/t", EVENT)
        await begun.send_all(data[:-1])
        await trio.testing.wait_all_tasks_blocked()
        door.gateway.stop()
        assert await read_to_end(idle) == b""
        late = await door.talk(b"")
        assert late[0].status == 503
        assert int(late[0].headers["retry-after"]) >= 1


async def test_serve_returns_when_the_last_request_is_answered() -> None:
    async with open_front_door() as door:
        stopping = trio.Event()
        listener = MemoryListener()
        served = trio.Event()

        async def serve() -> None:
            await door.gateway.serve([listener], stopping)
            served.set()

        door.nursery.start_soon(serve)
        idle, begun = await listener.connect(), await listener.connect()
        data = request("POST", "/v1/t", EVENT)
        await begun.send_all(data[:-1])
        await trio.testing.wait_all_tasks_blocked()
        stopping.set()
        await trio.testing.wait_all_tasks_blocked()
        assert listener.closed
        assert not served.is_set()
        await begun.send_all(data[-1:])
        [reply] = parse_replies(await read_to_end(begun))
        assert reply.headers["connection"] == "close"
        assert await read_to_end(idle) == b""
        await served.wait()


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](10)
        self.closed = False

    async def connect(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await self._send.send(theirs)
        await trio.testing.wait_all_tasks_blocked()
        return ours

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()
