"""Consent over HTTP and from the command line: recorded with a server's word, and audited."""

from __future__ import annotations

import errno

import httpx
import pytest
from starlette.applications import Starlette

from cdp.clock import HOUR_US
from cdp.console.answers import refused
from cdp.console.consent_routes import ConsentRoutes
from cdp.errors import CdpError
from tests.unit.consent.desk_world import DeskWorld
from tests.unit.consent.ledger_world import T0_US, node

ADA = {"user_id": "ada"}


@pytest.fixture
def world(tmp_path):
    return DeskWorld(tmp_path)


@pytest.fixture
async def http(world):
    app = Starlette(
        routes=ConsentRoutes(world.desk).routes(), exception_handlers={CdpError: refused}
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as http:
        yield http


async def test_what_is_recorded_is_durable_holds_at_once_and_is_audited(http, world):
    order = {"identifiers": ADA, "purposes": {"ads": True, "mail": False}, "by": "eve"}
    answer = await http.post("/v1/consent", json=order)
    assert (answer.status_code, answer.json()) == (201, {"records": [1]})
    assert world.store.unsynced_count == 0
    shown = (await http.get("/v1/consent?identifier=user_id:ada")).json()
    assert shown["identifiers"] == 1
    assert shown["standing"]["purposes"]["ads"]["state"] == "granted"
    assert shown["standing"]["purposes"]["ads"]["said_by"] == "server"
    assert shown["standing"]["purposes"]["mail"]["state"] == "denied"
    details = {"first_record": 1, "records": 1}
    assert world.audit.records == [("eve", "consent_recorded", node("ada"), details)]


async def test_a_profile_id_names_the_person_too(http, world):
    await http.post("/v1/consent", json={"identifiers": ADA, "purposes": {"ads": False}})
    key = f"profile_id:{node('ada').hex()}"
    shown = (await http.get("/v1/consent", params={"identifier": key})).json()
    assert shown["standing"]["purposes"]["ads"]["state"] == "denied"


async def test_history_has_the_text_that_was_shown_and_who_recorded_it(http, world):
    proof = {"policy": "shop", "method": "signed form", "notice": "n1"}
    order = {"identifiers": ADA, "purposes": {"ads": True}, "by": "eve", "proof": proof}
    await http.post("/v1/consent", json=order | {"jurisdiction": "de"})
    (record,) = (await http.get("/v1/consent/history?identifier=user_id:ada")).json()["data"]
    assert record["policy"] == "shop@3"
    assert record["text_sha256"] == world.texts.current[0].sha256
    assert (record["regime"], record["jurisdiction"]) == ("gdpr@1", "DE")
    assert record["proof"]["actor"] == "eve"
    assert record["proof"]["method"] == "signed form"


async def test_a_grant_of_a_login_overrules_what_another_device_denied(http, world):
    world.said(node("device"), ads=False)
    world.one(node("device"), node("ada"))
    world.now_us += HOUR_US
    by_device = {"identifiers": {"anonymous_id": "x"}, "purposes": {"ads": True}}
    await http.post("/v1/consent", json=by_device)
    assert world.state(node("ada")) == "denied"
    await http.post("/v1/consent", json={"identifiers": ADA, "purposes": {"ads": True}})
    assert world.state(node("device")) == "granted"


async def test_processing_is_restricted_and_no_longer(http, world):
    order = {"identifiers": ADA, "by": "eve", "reason": "accuracy is contested"}
    answer = await http.post("/v1/consent/restriction", json=order | {"on": True})
    assert answer.json() == {"records": [1], "restricted": True}
    assert world.ledger.standing(node("ada")).restricted
    await http.post("/v1/consent/restriction", json=order | {"on": False})
    assert not world.ledger.standing(node("ada")).restricted
    assert [action for _, action, _, _ in world.audit.records] == ["restricted", "unrestricted"]


async def test_the_consent_state_of_another_platform_is_taken_over_with_its_times(http, world):
    at_ms = (T0_US - HOUR_US) // 1_000
    state = {
        "gdpr": {
            "mail": {"consented": True, "timestamp_unixtime_ms": at_ms, "document": "v4"},
            "stats": {"consented": False, "timestamp_unixtime_ms": at_ms, "hardware_id": "X"},
        },
        "ccpa": {"data_sale_opt_out": {"consented": True, "timestamp_unixtime_ms": at_ms}},
    }
    answer = await http.post("/v1/consent", json={"identifiers": ADA, "consent_state": state})
    assert answer.json() == {"records": [1, 2, 3]}
    purposes = world.ledger.standing(node("ada")).purposes
    assert {name: one.state for name, one in purposes.items()} == {
        "mail": "granted",
        "stats": "denied",
        "ads": "denied",
    }
    assert purposes["mail"].at_us == T0_US - HOUR_US
    (first, *_) = (await http.get("/v1/consent/history?identifier=user_id:ada")).json()["data"]
    assert first["proof"]["notice"] == "v4"
    assert '"document":"v4"' in first["proof"]["signal"]


async def test_that_somebody_has_not_opted_out_is_no_grant(http, world):
    state = {"ccpa": {"data_sale_opt_out": {"consented": False}}}
    answer = await http.post("/v1/consent", json={"identifiers": ADA, "consent_state": state})
    assert answer.json() == {"records": []}
    assert world.state(node("ada")) is None


PURPOSES = {"identifiers": ADA, "purposes": {"ads": True}}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("", {}, "give either purposes or consent_state"),
        ("", PURPOSES | {"consent_state": {}}, "give either purposes or consent_state"),
        ("", {"purposes": {"ads": True}}, "identifiers must be an object"),
        ("", PURPOSES | {"identifiers": {"name": "ada"}}, "expected a namespace of user_id, email"),
        ("", PURPOSES | {"identifiers": {"email": "ada"}}, "identifiers.email: not a value"),
        ("", PURPOSES | {"purposes": {"ads": "true"}}, "purposes must be an object of true"),
        ("", PURPOSES | {"purposes": {}}, "purposes: expected one or more of ads, mail, stats"),
        ("", PURPOSES | {"purposes": {"adds": True}}, "purposes: expected one or more of ads"),
        ("", PURPOSES | {"objection": True}, "an objection cannot grant"),
        ("", PURPOSES | {"kind": "event"}, "kind must be one of api, console, request"),
        ("", PURPOSES | {"at": "soon"}, "at must be a time"),
        ("", PURPOSES | {"grants": 1}, "'grants' is no member of a statement"),
        ("", PURPOSES | {"proof": {"actor": "me"}}, "'actor' is no member of a proof"),
        ("", PURPOSES | {"proof": {"policy": "other"}}, "no such policy text"),
        ("", PURPOSES | {"proof": {"policy": "shop", "text_sha256": "0" * 64}}, "no such policy"),
        ("", PURPOSES | {"proof": {"policy": "shop", "language": "fr"}}, "no such policy text"),
        ("", {"identifiers": ADA, "consent_state": {"lgpd": {}}}, "consent_state: expected"),
        (
            "",
            {"identifiers": ADA, "consent_state": {"gdpr": {"ads": {"consented": 1}}}},
            "consent_state.gdpr.ads.consented: expected true or false",
        ),
        ("/restriction", {"identifiers": ADA, "reason": "x"}, "on must be true or false"),
        ("/restriction", {"identifiers": ADA, "on": True}, "say why: reason"),
    ],
)
async def test_what_cannot_be_read_is_refused_whole(http, world, path, body, told):
    answer = await http.post(f"/v1/consent{path}", json=body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert world.rows("consent") == world.audit.records == []


@pytest.mark.parametrize("key", ["", "ada", "user_id:", ":ada", "name:ada"])
async def test_whoever_asks_names_a_person(http, key):
    for path in ("/v1/consent", "/v1/consent/history"):
        assert (await http.get(path, params={"identifier": key})).status_code == 400


async def test_nothing_is_recorded_about_the_suppressed(http, world):
    world.suppressed.add(node("ada"))
    for path, body in (("", PURPOSES), ("/restriction", {"on": True, "reason": "x"})):
        answer = await http.post(f"/v1/consent{path}", json={"identifiers": ADA} | body)
        assert "erased or suppressed" in answer.json()["error"]["message"]
    assert world.rows("consent") == []


async def test_while_nobody_knows_who_is_who_the_asker_is_told_to_wait(http, world):
    world.people.ready = False
    answer = await http.get("/v1/consent?identifier=user_id:ada")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_what_could_not_be_written_is_not_remembered(http, world):
    world.store._write_fault = lambda: errno.ENOSPC
    answer = await http.post("/v1/consent", json=PURPOSES)
    assert answer.status_code >= 500
    world.store._write_fault = lambda: 0
    assert world.ledger.head == 1
    assert world.state(node("ada")) is None
    assert (await http.post("/v1/consent", json=PURPOSES)).json() == {"records": [1]}
