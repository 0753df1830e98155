"""The wire contract as SDKs see it: the twelve rules, routes, keys, CORS, settings, answers."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from cdp.config import Limits, Source
from tests.unit.ingestion.front_door import (
    BASIC,
    KEY,
    open_front_door,
    request,
    track,
)

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0"


def is_error(reply: Any, status: int, code: str) -> None:
    assert reply.status == status, reply.body
    assert reply.json["code"] == code
    assert isinstance(reply.json["message"], str)
    assert set(reply.json) == {"code", "message"}


# ------------------------------------------------------------------ the twelve rules


async def test_rule_1_success_is_exactly_200_with_a_json_object() -> None:
    async with open_front_door() as door:
        reply = await door.send(track(1), track(2))
        assert reply.status == 200
        assert reply.json == {"success": True, "accepted": 2, "duplicates": 0, "rejected": []}
        assert reply.headers["content-type"] == "application/json"
        empty = await door.send()
        assert (empty.status, empty.json["accepted"]) == (200, 0)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (request("POST", "/v1/batch", b"{"), 400, "invalid_json"),
        (request("POST", "/v1/batch", b""), 400, "invalid_json"),
        (request("POST", "/v1/batch", b'"text"'), 400, "invalid_json"),
        (request("POST", "/v1/batch", b"3"), 400, "invalid_json"),
        (request("POST", "/v1/track", b"[1"), 400, "invalid_json"),
        (request("POST", "/v1/batch", b'{"batch":{}}'), 400, "invalid_request"),
        (request("POST", "/v1/batch", b"{}"), 400, "invalid_request"),
        (request("POST", "/v1/batch", b"{}", Content_Encoding="br"), 400, "unsupported_encoding"),
        (request("POST", "/v1/batch", b"\x1f\x8b\x08"), 400, "invalid_json"),
        (request("POST", "/v1/batch", b"{}", auth=b"Basic eDo="), 401, "invalid_write_key"),
        (request("POST", "/v1/batch", b"{}", auth=b"Basic !!!"), 401, "invalid_write_key"),
        (request("POST", "/v1/batch", b'{"batch":[]}', auth=None), 401, "invalid_write_key"),
        (request("POST", "/v1/nothing", b"{}"), 404, "not_found"),
        (request("GET", "/v1/batch"), 405, "method_not_allowed"),
        (request("POST", "/health", b"{}"), 405, "method_not_allowed"),
        (request("GET", "/v1/projects/wrong/settings"), 404, "invalid_write_key"),
        (request("GET", "/sourceConfig", auth=None), 401, "invalid_write_key"),
    ],
)
async def test_rule_2_errors_are_objects_with_code_and_message(
    data: bytes, status: int, code: str
) -> None:
    async with open_front_door() as door:
        [reply] = await door.talk(data)
        is_error(reply, status, code)
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["access-control-expose-headers"] == "Retry-After"
        assert reply.headers["vary"] == "Origin"
        assert not door.events()


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json;charset=UTF-8",
        "text/plain",
        "image/png",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ],
)
async def test_rule_3_the_content_type_is_ignored(content_type: str) -> None:
    async with open_front_door() as door:
        assert (await door.send(track(), Content_Type=content_type)).json["accepted"] == 1


@pytest.mark.parametrize(
    "path", ["/v1/batch", "/v1/t", "/v1/track", "/v1/b", "/beacon/v1/batch", "/sdk/batch"]
)
async def test_rule_4_every_post_route_takes_gzip_chunked_and_both(path: str) -> None:
    async with open_front_door() as door:
        body = json.dumps({"batch": [track(path)]}).encode()
        packed = gzip.compress(body)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (packed[:7], packed[7:]))
        head = request(
            "POST", path, auth=BASIC, Content_Encoding="gzip", Transfer_Encoding="chunked"
        )
        chunked = head.replace(b"Content-Length: 0\r\n", b"") + chunks + b"0\r\n\r\n"
        for data in (request("POST", path, packed, Content_Encoding="gzip"), chunked):
            [reply] = await door.talk(data)
            assert reply.status == 200, reply.body
        assert door.counts().accepted == 1
        assert door.counts().duplicate == 1


async def test_rule_4_deflate_is_taken_too() -> None:
    async with open_front_door() as door:
        body = zlib.compress(json.dumps({"batch": [track()]}).encode())
        reply = await door.post("/v1/batch", body, Content_Encoding="deflate")
        assert reply.json["accepted"] == 1


SOURCES = {name: Source(write_key=name) for name in ("basic", "xkey", "query", "body", "first")}


@pytest.mark.parametrize(
    ("drop", "source"), [(0, "basic"), (1, "xkey"), (2, "query"), (3, "body"), (4, "first")]
)
async def test_rule_5_the_first_key_in_order_decides(drop: int, source: str) -> None:
    basic = b"Basic " + base64.b64encode(b"basic:") if drop < 1 else None
    headers = {"X_Write_Key": "xkey:secret"} if drop < 2 else {}
    query = "?writeKey=query" if drop < 3 else ""
    body: dict[str, Any] = {"batch": [track(writeKey="first")]}
    if drop < 4:
        body["writeKey"] = "body"
    async with open_front_door(sources=SOURCES) as door:
        reply = await door.post("/v1/batch" + query, body, auth=basic, **headers)
        assert reply.status == 200
        assert door.events()[0].source == source


@pytest.mark.parametrize(
    "authorization",
    [
        b"Basic " + base64.b64encode(b"wk_test:"),
        b"Basic " + base64.b64encode(b"wk_test"),
        b"Basic " + base64.b64encode(b"wk_test:secret"),
        b"basic   " + base64.b64encode(b"wk_test:"),
        b"Bearer wk_test",
        b"bearer wk_test",
    ],
)
async def test_rule_5_every_form_of_the_header_works(authorization: bytes) -> None:
    async with open_front_door() as door:
        assert (await door.send(track(), auth=authorization)).status == 200


async def test_rule_5_the_header_wins_over_a_masked_key_in_the_body() -> None:
    async with open_front_door() as door:
        reply = await door.post(
            "/api/s/track", track(writeKey="wk:***"), auth=None, X_Write_Key=KEY
        )
        assert reply.json["accepted"] == 1


async def test_rule_5_an_oauth_token_is_passed_over_for_the_key_in_the_body() -> None:
    async with open_front_door() as door:
        body = {"batch": [track()], "writeKey": KEY}
        assert (await door.post("/v1/batch", body, auth=b"Bearer eyJhbGci.x.y")).status == 200


async def test_rule_5_a_wrong_header_is_not_made_good_by_the_body() -> None:
    async with open_front_door() as door:
        reply = await door.post("/v1/batch", {"batch": [], "writeKey": KEY}, auth=b"Basic eDo=")
        is_error(reply, 401, "invalid_write_key")


@pytest.mark.parametrize("name", ["writeKey", "writekey"])
async def test_rule_5_both_spellings_of_the_query_work(name: str) -> None:
    async with open_front_door() as door:
        reply = await door.post(f"/beacon/v1/batch?{name}={KEY}", {"batch": [track()]}, auth=None)
        assert reply.status == 200


async def test_a_disabled_source_is_refused() -> None:
    off = {"web": Source(write_key=KEY, enabled=False)}
    async with open_front_door(sources=off) as door:
        is_error(await door.send(track()), 401, "source_disabled")


@pytest.mark.parametrize(
    "asked",
    [
        "authorization",
        "authorization,x-retry-count",
        "anonymousid,authorization,content-type,sentat",
        "rsa-retry-attempt, rsa-retry-reason, rsa-since-first-attempt",
        "content-type,x-write-key,x-ip-policy,x-enable-debug",
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/t", "/v1/batch", "/sourceConfig/", "/v1/projects/k/settings"]
)
async def test_rule_6_a_preflight_is_allowed_by_name(asked: str, path: str) -> None:
    async with open_front_door() as door:
        reply = await door.ask(
            "OPTIONS",
            path,
            auth=None,
            Origin="https://shop.test",
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers=asked,
        )
        assert reply.status == 204
        assert reply.headers["access-control-allow-headers"] == asked
        assert reply.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["access-control-max-age"] == "86400"


@pytest.mark.parametrize("asked", ["a b", "x" * 65, "a,,b", "a:b", "ä", ",".join(["a"] * 65)])
async def test_rule_6_only_names_are_echoed(asked: str) -> None:
    async with open_front_door() as door:
        reply = await door.ask("OPTIONS", "/v1/t", Access_Control_Request_Headers=asked)
        assert "access-control-allow-headers" not in reply.headers


@pytest.mark.parametrize(
    "path",
    [
        "/v1/batch/",
        "//v1/batch",
        "/v1//batch//",
        "/batch",
        "/b/",
        "/v1/b",
        "/v1/batch/b",
        "/v1/batch/batch",
        "/v1/import",
        "/v1/v1/batch",
        "/api/s/s2s/batch",
        "/sdk//batch",
    ],
)
async def test_rule_7_odd_paths_are_served_and_never_redirected(path: str) -> None:
    async with open_front_door() as door:
        reply = await door.post(path, {"batch": [track()]})
        assert (reply.status, reply.json["accepted"]) == (200, 1)


async def test_rule_8_bodies_of_megabytes_are_taken_and_the_limit_is_exact() -> None:
    limits = Limits(body_bytes_max=600_000, event_bytes_max=1_000)
    start, end = b'{"batch":[],"pad":"', b'"}'
    async with open_front_door(limits) as door:
        fits = start + b"x" * (limits.body_bytes_max - len(start) - len(end)) + end
        assert (await door.post("/v1/batch", fits)).status == 200
        for body, headers in (
            (fits + b" ", {}),
            (gzip.compress(fits + b" "), {"Content_Encoding": "gzip"}),
        ):
            is_error(await door.post("/v1/batch", body, **headers), 400, "payload_too_large")
        assert (await door.post("/v1/batch", gzip.compress(fits))).status == 200


async def test_rule_9_one_bad_event_does_not_fail_the_batch() -> None:
    async with open_front_door() as door:
        deep: Any = {}
        for _ in range(250):
            deep = {"a": deep}
        bad = [
            {"type": "track", "event": "e", "messageId": "bad-1"},
            None,
            "text",
            [track()],
            track("x", type="purchase"),
            track("y", properties={"pad": "x" * 33_000}),
            track("z", properties=deep),
            track("n" * 101),
        ]
        reply = await door.send(track(1), *bad, track(2))
        assert reply.status == 200
        assert reply.json["accepted"] == 2
        assert reply.rejections == [
            (1, "no_user_anon_id"),
            (2, "invalid_event"),
            (3, "invalid_event"),
            (4, "invalid_event"),
            (5, "invalid_type"),
            (6, "event_too_large"),
            (7, "event_too_deep"),
            (8, "invalid_message_id"),
        ]
        assert reply.json["rejected"][0]["messageId"] == "bad-1"
        assert door.counts().rejected == 8


async def test_rule_9_a_bottomless_event_does_not_fail_the_batch() -> None:
    async with open_front_door() as door:
        deep = b'{"type":"track","event":"e","userId":"u","p":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
        body = b'{"batch":[%s,%s]}' % (deep, json.dumps(track()).encode())
        reply = await door.post("/v1/batch", body)
        assert reply.json["accepted"] == 1
        assert reply.rejections == [(0, "event_too_deep")]


async def test_rule_9_events_beyond_the_limit_of_a_batch_are_rejected_each() -> None:
    async with open_front_door(Limits(batch_events_max=3)) as door:
        reply = await door.send(*(track(n) for n in range(5)))
        assert reply.json["accepted"] == 3
        assert reply.rejections == [(3, "batch_too_long"), (4, "batch_too_long")]
        flood = await door.send(*[0] * 20)
        assert flood.json["rejectedTotal"] == 20
        assert len(flood.json["rejected"]) == 6
        assert door.counts().sent == 25


async def test_rule_10_lenient_json_is_repaired_before_it_is_stored() -> None:
    async with open_front_door() as door:
        body = (
            rb'{"batch":[{"type":"track","event":"e\u0000x","userId":"u","messageId":"m",'
            rb'"properties":{"nan":NaN,"inf":-Infinity,"big":1180591620717411303424,'
            rb'"lone":"\ud800","k\u0000ey":1,"exact":9007199254740993}}]}'
        )
        assert (await door.post("/v1/batch", body)).json["accepted"] == 1
        [event] = door.events()
        assert event.event == "ex"
        assert event.properties == {
            "nan": None,
            "inf": None,
            "big": "1180591620717411303424",
            "lone": "\ufffd",
            "key": 1,
            "exact": 9007199254740993,
        }


async def test_rule_10_one_event_of_a_batch_is_repaired_alone() -> None:
    async with open_front_door() as door:
        body = b'{"batch":[%s,{"type":"page","userId":"u","name":"\xff"},%s]}' % (
            json.dumps(track(1, properties={"n": 2**64})).encode(),
            json.dumps(track(2)).encode(),
        )
        assert (await door.post("/v1/batch", body)).json["accepted"] == 3
        first, second, _ = door.events()
        assert first.properties == {"n": str(2**64)}
        assert second.name == "\ufffd"


async def test_rule_11_a_message_id_counts_once() -> None:
    async with open_front_door() as door:
        reply = await door.send(track(1), track(1), track(2))
        assert (reply.json["accepted"], reply.json["duplicates"]) == (2, 1)
        again = await door.send(track(1, event="Other"), track(2), track(3))
        assert (again.json["accepted"], again.json["duplicates"]) == (1, 2)
        assert [event.event for event in door.events()] == ["Bought"] * 3
