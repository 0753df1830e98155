"""Every route with the body of the SDK that uses it: events, pixels, settings, addresses."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from cdp.config import Source
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
