"""The wire contract as SDKs see it: the twelve rules, routes, keys, CORS, settings, answers."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import pytest

from cdp.config import Limits, Source
from cdp.ingestion.addresses import TrustedProxies, apply_policy
from tests.unit.ingestion.front_door import (
    BASIC,
    KEY,
    NOW_US,
    open_front_door,
    parse_replies,
    read_to_end,
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


# ------------------------------------------------------------------ routes


@pytest.mark.parametrize(
    ("paths", "kind"),
    [
        (["/v1/track", "/v1/t", "/t", "/track/", "/api/s/track", "/api/s/s2s/track"], "track"),
        (["/v1/identify", "/v1/i", "/api/s/identify"], "identify"),
        (["/v1/page", "/v1/p", "/api/s/page"], "page"),
        (["/v1/screen", "/v1/s"], "screen"),
        (["/v1/group", "/v1/g", "/api/s/group"], "group"),
        (["/v1/alias", "/v1/a"], "alias"),
    ],
)
async def test_a_single_event_path_defines_the_type(paths: list[str], kind: str) -> None:
    async with open_front_door() as door:
        for path in paths:
            wire = {"event": "e", "userId": "u", "groupId": "g", "previousId": "p", "type": "x"}
            assert (await door.stored(wire, path)).type == kind


async def test_the_event_route_takes_the_type_from_the_body() -> None:
    async with open_front_door() as door:
        assert (await door.stored(track(), "/api/s/event")).type == "track"


async def test_a_batch_on_a_single_path_and_an_event_on_a_batch_path_are_taken() -> None:
    async with open_front_door() as door:
        assert (await door.post("/v1/track", {"batch": [track(1)]})).json["accepted"] == 1
        assert (await door.post("/v1/batch", track(2))).json["accepted"] == 1
        assert (await door.post("/v1/batch", [track(3), track(4)])).json["accepted"] == 2
        assert (await door.post("/v1/t", [track(5)])).json["accepted"] == 1


async def test_metrics_of_browsers_are_discarded_without_a_key() -> None:
    async with open_front_door() as door:
        body = {"series": [{"type": "Counter", "metric": "analytics_js.invoke", "value": 1}]}
        reply = await door.post("/v1/m", body, auth=None, Content_Type="text/plain")
        assert (reply.status, reply.json["success"]) == (200, True)
        assert not door.events()


async def test_health_is_answered_to_get_and_head() -> None:
    async with open_front_door() as door:
        assert (await door.ask("GET", "/health", auth=None)).json == {"status": "ok"}
        stream = await door.connect()
        await stream.send_all(request("HEAD", "/health"))
        await stream.send_eof()
        head, _, body = (await read_to_end(stream)).partition(b"\r\n\r\n")
        assert b"Content-Length: 15" in head
        assert body == b""


# ------------------------------------------------------------------ what each SDK sends


async def test_segment_python_and_its_forks() -> None:
    async with open_front_door() as door:
        event = {
            "integrations": {},
            "anonymousId": None,
            "properties": {"revenue": 14.99},
            "timestamp": "2026-11-18T01:45:57.827+00:00",
            "context": {"library": {"name": "analytics-python", "version": "2.4.0"}},
            "userId": "drv-user",
            "type": "track",
            "event": "Order Completed",
            "messageId": "163132fd",
        }
        body = {"batch": [event], "sentAt": "2026-11-18T01:45:58.326943+00:00", "writeKey": KEY}
        assert (await door.post("/v1/batch", body, X_Retry_Count="1")).json["accepted"] == 1
        [stored] = door.events()
        assert (stored.user_id, stored.anonymous_id) == ("drv-user", None)
        assert stored.sent_at_us is not None
        assert stored.event_time_us == NOW_US - 499_943


async def test_rudder_python_sends_gzip_and_traits_in_the_context() -> None:
    async with open_front_door() as door:
        event = {"type": "identify", "userId": "u", "context": {"traits": {"plan": "x"}}}
        body = gzip.compress(json.dumps({"batch": [event]}).encode())
        await door.post("/v1/batch", body, Content_Encoding="gzip")
        assert door.events()[0].traits == {"plan": "x"}


async def test_rudder_node_sends_gzip_as_a_form_with_original_timestamps() -> None:
    async with open_front_door() as door:
        event = track(
            originalTimestamp="2026-11-18T00:00:00.000Z", timestamp="2024-01-01T00:00:00Z"
        )
        body = gzip.compress(json.dumps({"batch": [event], "timestamp": "2026"}).encode())
        kind = "application/x-www-form-urlencoded"
        reply = await door.post("/v1/batch", body, Content_Encoding="gzip", Content_Type=kind)
        assert reply.json["accepted"] == 1
        assert door.events()[0].event_time_us == 1_704_067_200_000_000


async def test_rudder_js_says_sent_at_in_a_header_and_user_id_empty() -> None:
    async with open_front_door() as door:
        stored = await door.stored(
            {"userId": "", "anonymousId": "a", "event": "e", "channel": "web"},
            "/v1/track",
            SentAt="2026-11-18T00:00:00Z",
            AnonymousId="YQ==",
        )
        assert (stored.user_id, stored.anonymous_id) == (None, "a")
        assert stored.sent_at_us == 1_794_960_000_000_000


async def test_customer_io_node_sends_no_sent_at() -> None:
    async with open_front_door() as door:
        stored = await door.stored(track(timestamp="2026-11-01T00:00:00Z"))
        assert stored.sent_at_us is None
        assert stored.event_time_us == stored.original_time_us


async def test_analytics_next_sends_plain_text_with_the_key_in_both_places() -> None:
    async with open_front_door() as door:
        wire = track(writeKey=KEY, userId=None, anonymousId="285a", _metadata={"bundled": []})
        wire["integrations"] = {"Segment.io": True}
        stored = await door.stored(
            wire, "/v1/t", Content_Type="text/plain", Origin="https://s.test", User_Agent=BROWSER
        )
        assert stored.integrations == {}
        assert stored.extra == {"_metadata": {"bundled": []}}
        assert stored.context["userAgent"] == BROWSER


async def test_a_browser_fork_sends_its_key_in_the_body_only() -> None:
    async with open_front_door() as door:
        assert (await door.post("/v1/i", {**track(), "writeKey": KEY}, auth=None)).status == 200
        assert (
            await door.post("/v1/b", {"batch": [track(2, writeKey=KEY)]}, auth=None)
        ).status == 200


async def test_jitsu_reads_a_json_body_without_destinations() -> None:
    async with open_front_door() as door:
        reply = await door.post("/api/s/page", track(), auth=None, X_Write_Key=f"{KEY}:secret")
        assert not reply.json.get("destinations")


# ------------------------------------------------------------------ pixels


async def test_a_pixel_with_base64_json() -> None:
    async with open_front_door() as door:
        data = base64.urlsafe_b64encode(json.dumps({**track(), "writeKey": KEY}).encode())
        target = f"/v1/pixel/track?data={data.decode().rstrip('=')}"
        reply = await door.ask("GET", target, auth=None)
        assert (reply.status, reply.headers["content-type"]) == (200, "image/gif")
        assert reply.body.startswith(b"GIF89a")
        assert door.events()[0].event == "Bought"


async def test_a_pixel_with_dotted_keys() -> None:
    async with open_front_door() as door:
        target = (
            f"/pixel/v1/page?writeKey={KEY}&anonymousId=a&context.page.url=x%20y&properties.a.b=1"
        )
        await door.ask("GET", target, auth=None)
        [event] = door.events()
        assert event.type == "page"
        assert event.context["page"] == {"url": "x y"}
        assert event.properties == {"a": {"b": "1"}}


@pytest.mark.parametrize(
    "target",
    [
        "/v1/pixel/track",
        "/v1/pixel/track?data=!!!",
        "/v1/pixel/track?data=W10",
        "/v1/pixel/track?writeKey=wrong&userId=u",
        "/v1/pixel/track?writeKey=wk_test&event=x",
        "/api/px/event?writeKey=wk_test&" + "&".join(f"k{n}=1" for n in range(1_500)),
        "/v1/pixel/track?writeKey=wk_test&" + "a." * 900 + "b=1",
        "/v1/pixel/track?%00=%ff&writeKey=%00",
    ],
    ids=range(8),
)
async def test_a_pixel_is_always_an_image(target: str) -> None:
    async with open_front_door() as door:
        reply = await door.ask("GET", target, auth=None)
        assert (reply.status, reply.headers["content-type"]) == (200, "image/gif")
        assert not door.events()


async def test_a_bad_event_of_a_pixel_is_among_the_rejected() -> None:
    async with open_front_door() as door:
        await door.ask("GET", f"/v1/pixel/track?writeKey={KEY}&event=x", auth=None)
        assert door.counts().rejected == 1


# ------------------------------------------------------------------ settings


async def test_segment_settings_lead_events_back_here() -> None:
    async with open_front_door() as door:
        for path in (f"/v1/projects/{KEY}/settings", f"/projects/{KEY}/settings/"):
            reply = await door.ask("GET", path, auth=None)
            assert reply.status == 200
            integrations = reply.json["integrations"]
            assert list(integrations) == ["Segment.io"]
            assert integrations["Segment.io"] == {
                "apiKey": KEY,
                "apiHost": "cdp.test/v1",
                "protocol": "http",
            }
            assert reply.json["metrics"] == {"sampleRate": 0}
            assert "consentSettings" not in reply.json


async def test_settings_name_the_public_url_where_there_is_one() -> None:
    async with open_front_door(public_url="https://events.shop.test:8443/") as door:
        reply = await door.ask("GET", f"/projects/projects/{KEY}/settings", auth=None)
        found = reply.json["integrations"]["Segment.io"]
        assert (found["apiHost"], found["protocol"]) == ("events.shop.test:8443/v1", "https")


async def test_settings_never_echo_a_host_that_is_none() -> None:
    async with open_front_door() as door:
        data = request("GET", f"/v1/projects/{KEY}/settings").replace(b"cdp.test", b'a"<b>/c')
        [reply] = await door.talk(data)
        assert reply.json["integrations"]["Segment.io"]["apiHost"] == "localhost/v1"


@pytest.mark.parametrize(
    "path", ["/sourceConfig", "/sourceConfig/?p=npm&v=3.34.1&writeKey=wk_test"]
)
async def test_rudders_source_config_makes_its_sdk_ready(path: str) -> None:
    async with open_front_door() as door:
        reply = await door.ask("GET", path, auth=None if "writeKey" in path else BASIC)
        source = reply.json["source"]
        assert source["enabled"] is True
        assert source["destinations"] == []
        assert source["config"]["statsCollection"]["errors"]["enabled"] is False


# ------------------------------------------------------------------ address and origin


def test_an_address_is_believed_only_from_a_trusted_proxy() -> None:
    proxies = TrustedProxies(("10.0.0.0/8", "::1"))
    chain = b"6.6.6.6, 1.2.3.4, 10.0.0.9"
    assert proxies.client_address("10.0.0.1", chain) == "1.2.3.4"
    assert proxies.client_address("::1", b"[2001:db8::1]") == "2001:db8::1"
    assert proxies.client_address("9.9.9.9", chain) == "9.9.9.9"
    assert proxies.client_address("10.0.0.1", b"nonsense") is None
    assert proxies.client_address("", chain) is None
    assert proxies.client_address("::ffff:1.2.3.4", None) == "1.2.3.4"


@pytest.mark.parametrize(
    ("policy", "v4", "v6"),
    [
        (None, "1.2.3.4", "2001:db8:1:2::3"),
        (b"keep", "1.2.3.4", "2001:db8:1:2::3"),
        (b"stripLastOctet", "1.2.3.0", "2001:db8:1::"),
        (b"remove", None, None),
    ],
)
def test_an_address_is_kept_as_its_sender_allows(
    policy: bytes | None, v4: str | None, v6: str | None
) -> None:
    assert apply_policy("1.2.3.4", policy) == v4
    assert apply_policy("2001:db8:1:2::3", policy) == v6


async def test_a_source_may_name_the_origins_it_takes_events_from() -> None:
    sources = {"web": Source(write_key=KEY, allowed_origins=("https://shop.test",))}
    async with open_front_door(sources=sources) as door:
        is_error(await door.send(track(), Origin="https://evil.test"), 403, "origin_not_allowed")
        assert (await door.send(track(), Origin="https://shop.test")).status == 200


async def test_a_server_source_never_gets_a_user_agent_filled_in() -> None:
    async with open_front_door(sources={"s": Source(write_key=KEY, kind="server")}) as door:
        stored = await door.stored(track(), User_Agent=BROWSER, Origin="https://x.test")
        assert "userAgent" not in stored.context


def test_replies_are_taken_apart_with_their_lengths() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"
    assert [reply.status for reply in parse_replies(data)] == [200, 204]
