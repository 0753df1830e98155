"""The connection loop: framing, smuggling, limits, slow clients, crowds, and the drain."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdp.config import Limits
from cdp.ingestion.refusal import Refusal
from cdp.ingestion.requests import RequestReader
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
HEAD = b"POST /v1/t HTTP/1.1\r\nHost: a\r\n" + AUTH
FAST = Limits(header_timeout_s=10, body_grace_s=5, body_bytes_per_s_min=100, idle_timeout_s=60)


async def receive_reply(stream: trio.abc.ReceiveStream) -> Any:
    [reply] = parse_replies(bytes(await stream.receive_some(65_536)))
    return reply


# ------------------------------------------------------------------ framing


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with open_front_door() as door:
        data = b"".join(request("POST", "/v1/t", json.dumps(track(n)).encode()) for n in range(50))
        replies = await door.talk(data + request("GET", "/nowhere") + request("GET", "/health"))
        assert [reply.status for reply in replies] == [200] * 50 + [404, 200]
        assert [event.message_id for event in door.events()] == [f"m{n}" for n in range(50)]


async def test_a_request_may_arrive_byte_by_byte() -> None:
    async with open_front_door() as door:
        stream = await door.connect()
        for byte in request("POST", "/v1/t", EVENT):
            await stream.send_all(bytes([byte]))
        assert (await receive_reply(stream)).status == 200


async def test_chunks_and_their_trailers_are_read() -> None:
    async with open_front_door() as door:
        chunks = b"5;a=b\r\n%s\r\n%x\r\n%s\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n" % (
            EVENT[:5],
            len(EVENT) - 5,
            EVENT[5:],
        )
        [reply] = await door.talk(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert reply.json["accepted"] == 1


async def test_expect_continue_is_told_to_go_on() -> None:
    async with open_front_door() as door:
        stream = await door.connect()
        length = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(EVENT)
        await stream.send_all(HEAD + length)
        assert await stream.receive_some(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(EVENT)
        assert (await receive_reply(stream)).json["accepted"] == 1


async def test_http_1_0_closes_unless_it_is_asked_to_stay() -> None:
    async with open_front_door() as door:
        old = b"POST /v1/t HTTP/1.0\r\n" + AUTH + b"Content-Length: %d\r\n" % len(EVENT)
        stream = await door.connect()
        await stream.send_all(old + b"\r\n" + EVENT)
        [closed] = parse_replies(await read_to_end(stream))
        assert closed.headers["connection"] == "close"
        stays = old + b"Connection: keep-alive\r\n\r\n" + EVENT
        replies = await door.talk(stays + stays)
        assert [reply.headers["connection"] for reply in replies] == ["keep-alive"] * 2


async def test_connection_close_is_honoured_and_what_follows_is_dropped() -> None:
    async with open_front_door() as door:
        last = request("POST", "/v1/t", EVENT, Connection="close")
        stream = await door.connect()
        await stream.send_all(last + request("POST", "/v1/t", EVENT))
        [reply] = parse_replies(await read_to_end(stream))
        assert reply.headers["connection"] == "close"


async def test_a_connection_cut_in_the_middle_stores_nothing() -> None:
    async with open_front_door() as door:
        for cut in (10, len(HEAD), -1):
            stream = await door.connect()
            await stream.send_all(request("POST", "/v1/t", EVENT)[:cut])
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not door.events()
        assert door.gateway.endpoints.held_bytes == 0


async def test_a_client_that_is_gone_before_its_answer_costs_nothing() -> None:
    async with open_front_door() as door:
        stream = await door.connect()
        await stream.send_all(request("POST", "/v1/t", EVENT))
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert len(door.events()) == 1


# ------------------------------------------------------------------ smuggling

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = {
    "length and chunks": HEAD + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n",
    "chunks and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na",
    "two equal lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "length list": HEAD + b"Content-Length: 1, 1\r\n\r\na",
    "signed length": HEAD + b"Content-Length: +1\r\n\r\na",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "hexadecimal length": HEAD + b"Content-Length: 0x1\r\n\r\na",
    "empty length": HEAD + b"Content-Length:\r\n\r\n",
    "overflowing length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "folded header": HEAD + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": b"POST /v1/t HTTP/1.1\nHost: a\n\n",
    "one bare line feed": HEAD + b"X: y\nContent-Length: 0\r\n\r\n",
    "bare carriage return": HEAD + b"X: y\rContent-Length: 0\r\n\r\n",
    "absolute target": b"POST http://a/v1/t HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "authority target": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative target": b"POST v1/t HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "fragment in target": b"GET /health#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "two hosts": HEAD + b"Host: b\r\nContent-Length: 0\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two keys": HEAD + AUTH + b"Content-Length: 0\r\n\r\n",
    "space before colon": HEAD + b"Content-Length : 0\r\n\r\n",
    "no header name": HEAD + b": x\r\n\r\n",
    "nul in header": HEAD + b"X: a\x00b\r\n\r\n",
    "bad chunk size": HEAD + CHUNKED + b"zz\r\n",
    "signed chunk size": HEAD + CHUNKED + b"+5\r\nabcde\r\n0\r\n\r\n",
    "overflowing chunk size": HEAD + CHUNKED + b"fffffffffffffffff\r\n",
    "bad chunk end": HEAD + CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n",
    "bare line feed in chunk": HEAD + CHUNKED + b"3\nabc\n0\n\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding twice": HEAD + b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n",
    "chunked not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunks in http/1.0": b"POST /v1/t HTTP/1.0\r\n" + CHUNKED + b"0\r\n\r\n",
    "http/2": b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n",
    "http/0.9": b"GET /health\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "unknown method": b"FROB /v1/t HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade": b"GET /v1/t HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
async def test_a_request_that_could_be_read_in_two_ways_is_refused(name: str) -> None:
    async with open_front_door() as door:
        replies = await door.talk(SMUGGLED[name] + request("POST", "/v1/t", EVENT))
        assert [reply.status for reply in replies] == [400]
        assert replies[0].headers["connection"] == "close"
        assert replies[0].json["code"] == "bad_request"
        assert replies[0].headers["access-control-allow-origin"] == "*"
        assert not door.events()


async def test_what_came_whole_before_a_bad_request_is_stored_and_answered() -> None:
    async with open_front_door() as door:
        data = request("POST", "/v1/t", EVENT) + SMUGGLED["two hosts"]
        assert [reply.status for reply in await door.talk(data)] == [200, 400]
        assert len(door.events()) == 1


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


# ------------------------------------------------------------------ fuzz

PIECES = st.sampled_from(
    [
        HEAD,
        CHUNKED,
        EVENT,
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"0\r\n\r\n",
        b"GET / ",
        b"HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"5\r\n",
        b"\x00",
        b"Expect: 100-continue\r\n",
        b":",
        request("POST", "/v1/batch", b'{"batch":[{},null]}'),
        request("GET", "/health"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=40), max_size=12), st.integers(1, 200))
def test_any_bytes_become_requests_or_one_refusal(pieces: list[bytes], step: int) -> None:
    data = b"".join(pieces)
    reader = RequestReader(FAST)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        assert reader.refusal is None or isinstance(reader.refusal, Refusal)
        if reader.refusal is not None:
            assert reader.body_bytes == 0
            break


BODIES = st.lists(
    st.sampled_from(
        [
            b'{"batch":[',
            b"]}",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            EVENT,
            b"NaN",
            b'"',
            b"\\u0000",
            b"\\ud800",
            b"1e999",
            b'{"type":"page","userId":1}',
            b'"writeKey":',
            b"\x1f\x8b",
            b":",
            b"9" * 40,
            b"[" * 600,
            b'"context":{"consent":{"categoryPreferences":[]}},',
        ]
    )
    | st.binary(max_size=10),
    max_size=12,
).map(b"".join)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(BODIES, min_size=1, max_size=5), st.sampled_from(["/v1/batch", "/v1/t", "/v1/p"]))
def test_any_body_is_answered_200_or_400_and_accounted_for(bodies: list[bytes], path: str) -> None:
    async def run() -> None:
        async with open_front_door() as door:
            data = b"".join(request("POST", path, body) for body in bodies)
            replies = await door.talk(data)
            assert len(replies) == len(bodies)
            assert {reply.status for reply in replies} <= {200, 400}
            told = [0, 0, 0]
            for reply in replies:
                if reply.status == 200:
                    told[0] += reply.json["accepted"]
                    told[1] += reply.json["duplicates"]
                    told[2] += len(reply.json.get("rejected", []))
            counts = door.counts()
            assert told == [counts.accepted, counts.duplicate, counts.rejected]
            assert counts.accepted == len(door.events())

    trio.run(run)
