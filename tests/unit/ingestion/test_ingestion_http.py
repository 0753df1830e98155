"""The connection loop: framing, smuggling, limits, slow clients, crowds, and the drain."""

from __future__ import annotations

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
