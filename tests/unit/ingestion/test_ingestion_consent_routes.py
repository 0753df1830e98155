"""Statements about purposes over HTTP: bytes in, an answer and a record out."""

from __future__ import annotations

from typing import Any

import pytest

from cdp.clock import SECOND_US
from cdp.config import Limits
from cdp.ingestion.consent_endpoint import IDENTIFIERS_MAX, PURPOSES_MAX
from tests.unit.consent.consent_strings import gpp_string, tc_string
from tests.unit.ingestion.consent_door import PAGE, ConsentDoor, key_of, open_consent_door
from tests.unit.ingestion.front_door import NOW_US, open_front_door, request, track


async def state(door: ConsentDoor, body: dict[str, Any], **headers: Any) -> None:
    reply = await door.post("/v1/consent", body, **headers)
    assert (reply.status, reply.json) == (200, {"success": True}), reply.body


async def test_a_server_records_a_grant_with_its_proof() -> None:
    async with open_consent_door() as door:
        body = {
            "userId": "u1",
            "anonymousId": "a1",
            "identifiers": {"email": "Ann@Example.com"},
            "purposes": {"email": True, "stats": False},
            "timestamp": "2026-11-18T01:00:00Z",
            "jurisdiction": "DE",
            "expiresAt": "2027-11-18T00:00:00Z",
            "proof": {
                "policy": "privacy",
                "policyVersion": "3",
                "textSha256": "ab" * 32,
                "language": "de",
                "method": "accept",
                "notice": "n7",
            },
        }
        await state(door, body, **key_of("api"))
        nodes = (door.user("u1"), door.device("a1"), door.mail("ann@example.com"))
        for node in nodes:
            assert (door.state(node, "email"), door.state(node, "stats")) == ("granted", "denied")
            [said] = door.ledger.history([node])
            assert said.proof is not None
            assert (said.proof.policy, said.proof.policy_version) == ("privacy", "3")
            assert (said.proof.language, said.proof.method, said.proof.notice) == (
                "de",
                "accept",
                "n7",
            )
            assert said.record.kind == "api"
        assert door.events() == []
        assert door.counts("api").sent == 0


async def test_a_public_key_only_restricts() -> None:
    async with open_consent_door() as door:
        await state(door, {"userId": "u1", "purposes": {"email": True, "stats": False}})
        assert door.state(door.user("u1"), "email") is None
        assert door.state(door.user("u1"), "stats") == "denied"


async def test_the_dialogue_of_a_page_that_may_ask_grants() -> None:
    async with open_consent_door() as door:
        body = {"anonymousId": "a1", "purposes": {"email": True}}
        await state(door, body, Origin=PAGE, **key_of("shop"))
        assert door.state(door.device("a1"), "email") == "granted"
        reply = await door.post("/v1/consent", body, Origin="https://x.test", **key_of("shop"))
        assert (reply.status, reply.json["code"]) == (403, "origin_not_allowed")


async def test_strings_and_sec_gpc_speak_here_too() -> None:
    async with open_consent_door() as door:
        await state(door, {"userId": "u1", "gpp": gpp_string({6: "1YYN"})}, Sec_GPC="1")
        assert door.standing(door.user("u1")).gpc
        assert door.state(door.user("u1"), "ads") == "denied"
        await state(door, {"userId": "u2"}, Sec_GPC="1")
        assert door.standing(door.user("u2")).gpc


async def test_gpc_in_the_body_is_believed_of_servers() -> None:
    async with open_consent_door() as door:
        await state(door, {"userId": "u1", "gpc": True}, **key_of("api"))
        assert door.standing(door.user("u1")).gpc
        reply = await door.post("/v1/consent", {"userId": "u2", "gpc": True})
        assert (reply.status, reply.json["code"]) == (400, "invalid_consent")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        ({"purposes": {"email": False}}, "no_identifier"),
        ({"userId": " ", "purposes": {"email": False}}, "no_identifier"),
        ({"userId": "x" * 513, "purposes": {"email": False}}, "no_identifier"),
        ({"userId": "u1"}, "invalid_consent"),
        ({"userId": "u1", "purposes": ["email"]}, "invalid_consent"),
        ({"userId": "u1", "purposes": None}, "invalid_consent"),
        ({"userId": "u1", "purposes": {"email": True}, "tcf": "DDDD"}, "invalid_consent"),
        ({"userId": "u1", "tcf": tc_string() * 80}, "invalid_consent"),
        ({"userId": "u1", "purposes": dict.fromkeys(map(str, range(PURPOSES_MAX + 1)), False)},
         "invalid_consent"),
        ({"identifiers": ["a"], "purposes": {}}, "invalid_request"),
        ({"identifiers": {"nickname": "a"}, "purposes": {}}, "invalid_request"),
        ({"identifiers": {str(n): "a" for n in range(IDENTIFIERS_MAX + 1)}, "purposes": {}},
         "invalid_request"),
        ({"userId": "u1", "purposes": {"email": True}, "proof": "yes"}, "invalid_request"),
        ({"userId": "u1", "purposes": {"email": True}, "expiresAt": "soon"}, "invalid_request"),
    ],
)  # fmt: skip
async def test_what_states_nothing_readable_is_refused(body: Any, code: str) -> None:
    async with open_consent_door() as door:
        reply = await door.post("/v1/consent", body)
        assert (reply.status, reply.json["code"]) == (400, code)
        assert door.ledger.head == 1


async def test_the_route_has_the_manners_of_the_others() -> None:
    async with open_consent_door(limits=Limits(event_bytes_max=1_024)) as door:
        body = {"userId": "u1", "purposes": {"email": False}}
        assert (await door.ask("GET", "/v1/consent")).status == 405
        assert (await door.post("/v1/consent", body, auth=None)).status == 401
        assert (await door.post("/v1//consent/", body)).status == 200
        in_body = {**body, "writeKey": "wk_test"}
        assert (await door.post("/v1/consent", in_body, auth=None)).status == 200
        assert (await door.post("/v1/consent?writeKey=wk_test", body, auth=None)).status == 200
        reply = await door.post("/v1/consent", {**body, "padding": "x" * 1_024})
        assert (reply.status, reply.json["code"]) == (400, "payload_too_large")
        reply = await door.ask("OPTIONS", "/v1/consent", Access_Control_Request_Headers="X-A")
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == "*"


async def test_requests_in_one_write_are_answered_in_order() -> None:
    async with open_consent_door() as door:
        statement = b'{"userId":"u1","purposes":{"email":false}}'
        data = request("POST", "/v1/consent", statement) + request("GET", "/health")
        first, second = await door.talk(data)
        assert (first.json, second.json) == ({"success": True}, {"status": "ok"})


async def test_where_no_ledger_is_nothing_is_promised() -> None:
    async with open_front_door() as door:
        reply = await door.post("/v1/consent", {"userId": "u1", "purposes": {"email": False}})
        assert reply.status == 503


async def test_we_say_that_we_honour_global_privacy_control() -> None:
    async with open_front_door() as door:
        reply = await door.ask("GET", "/.well-known/gpc.json", auth=None)
        assert reply.status == 200
        assert reply.json["gpc"] is True
        assert reply.headers["content-type"] == "application/json"
        assert (await door.post("/.well-known/gpc.json", {})).status == 405


@pytest.mark.parametrize(
    ("value", "counts"), [("1", True), ("0", False), ("1, 1", False), ("true", False), ("", False)]
)
async def test_only_the_value_1_is_global_privacy_control(value: str, counts: bool) -> None:
    async with open_consent_door() as door:
        await door.send(track(1), Sec_GPC=value)
        [event] = door.events()
        assert event.stamp.gpc is counts
        assert door.standing(door.user("u1")).gpc is counts


async def test_a_statement_about_the_past_yields_to_a_later_one() -> None:
    async with open_consent_door() as door:
        api = key_of("api")
        late = {"userId": "u1", "purposes": {"email": False}}
        await state(door, {**late, "timestamp": NOW_US // SECOND_US}, **api)
        early = {"userId": "u1", "purposes": {"email": True}}
        await state(door, {**early, "timestamp": NOW_US // SECOND_US - 86_400}, **api)
        assert door.state(door.user("u1"), "email") == "denied"
