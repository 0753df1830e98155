import pytest
import trio

from cdp.console.answers import BODY_BYTES_MAX
from cdp.console.app import control_app, serve_control
from tests.unit.console.surface import Surface, became, client
from tests.unit.identity.world import World, event


@pytest.fixture
def surface():
    return Surface()


@pytest.fixture
async def http(surface):
    async with client(surface) as http:
        yield http


async def test_a_daemon_that_runs_is_healthy_and_ready_once_it_waits_for_nothing(http, surface):
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ready", "waits_for": []}
    surface.waiting = ["the identity graph is being loaded"]
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["waits_for"]) == (503, surface.waiting)
    assert (await http.get("/healthz")).status_code == 200


async def test_metrics_are_prometheus_text(http):
    answer = await http.get("/metrics")
    assert answer.text == "cdp_events_total 3\n"
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_status_is_what_the_daemon_says(http, surface):
    assert (await http.get("/v1/status")).json() == surface.status()


async def test_rejected_events_and_dead_letters_are_listed_in_pages(http):
    body = (await http.get("/v1/events/rejected")).json()
    assert body["data"] == [{"id": "r1", "code": "missing_event"}]
    assert body["cursor"] == {
        "url": "/v1/events/rejected",
        "has_more": False,
        "next": "",
        "limit": 50,
    }
    body = (await http.get("/v1/dead-letters?destination=webhook&next=d0&limit=1")).json()
    assert body["data"] == [{"id": "d1", "destination": "webhook", "after": "d0"}]
    assert (body["cursor"]["has_more"], body["cursor"]["next"]) == (True, "d1")


async def test_a_rejected_event_is_sent_again_as_it_was_or_corrected(http, surface):
    assert (await http.post("/v1/events/rejected/r%2F1/resubmit")).json() == {"accepted": 1}
    fixed = {"type": "track", "event": "Fixed"}
    await http.post("/v1/events/rejected/r2/resubmit", json={"event": fixed})
    assert surface.orders == [("resubmit", "r/1", None), ("resubmit", "r2", fixed)]
    answer = await http.post("/v1/events/rejected/gone/resubmit")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_redrive_names_its_destination_and_maybe_its_letters(http, surface):
    assert (await http.post("/v1/redrive", json={"destination": "webhook"})).status_code == 200
    await http.post("/v1/redrive", json={"destination": "webhook", "ids": ["d1"]})
    await http.post("/v1/redrive", json={"destination": "webhook", "reason": "503"})
    assert surface.orders == [
        ("redrive", "webhook", None, None),
        ("redrive", "webhook", ["d1"], None),
        ("redrive", "webhook", None, "503"),
    ]


async def test_a_replay_begins_at_an_offset_or_at_a_time(http, surface):
    await http.post("/v1/replay", json={"destination": "webhook", "from_offset": 0})
    await http.post(
        "/v1/replay", json={"destination": "webhook", "from_time": "1970-01-01T00:00:01Z"}
    )
    assert surface.orders == [
        ("replay", "webhook", 0, None),
        ("replay", "webhook", None, 1_000_000),
    ]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/redrive", b"{}"),
        ("/v1/redrive", b""),
        ("/v1/redrive", b"[1]"),
        ("/v1/redrive", b"{"),
        ("/v1/redrive", b'{"destination": 5}'),
        ("/v1/redrive", b'{"destination": "webhook", "ids": "all"}'),
        ("/v1/redrive", b'{"destination": "webhook", "ids": [1]}'),
        ("/v1/redrive", b'{"destination": "webhook", "reason": 5}'),
        ("/v1/redrive", b'{"destination": "webhook", "id": ["d1"]}'),
        ("/v1/redrive", b'{"destination": "other"}'),
        ("/v1/replay", b'{"destination": "webhook"}'),
        ("/v1/replay", b'{"destination": "webhook", "from_offset": -1}'),
        ("/v1/replay", b'{"destination": "webhook", "from_offset": true}'),
        ("/v1/replay", b'{"destination": "webhook", "from_offset": 1.5}'),
        ("/v1/replay", b'{"destination": "webhook", "from_offset": 1, "from_time": "2026-01-01"}'),
        ("/v1/replay", b'{"destination": "webhook", "from_time": "soon"}'),
        ("/v1/backup", b"{}"),
        ("/v1/backup", b'{"directory": "copy"}'),
        ("/v1/backup", b'{"directory": "/a\\u0000b"}'),
        ("/v1/backup", b'{"directory": "/copy", "keys": true}'),
        ("/v1/replay", b'{"destination": "webhook", "from_time": 5}'),
        ("/v1/replay", b'{"from_offset": 1}'),
        ("/v1/events/rejected/r1/resubmit", b'{"event": []}'),
        ("/v1/events/rejected/r1/resubmit", b'{"events": {}}'),
        ("/v1/redrive", b"[" * 100_000),
        ("/v1/redrive", b'{"destination": "' + b"x" * BODY_BYTES_MAX + b'"}'),
    ],
)
async def test_an_order_that_cannot_be_read_is_refused_and_not_carried_out(
    http, surface, path, body
):
    answer = await http.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "validation_error"
    assert surface.orders == []


async def test_an_order_for_which_there_is_no_room_says_when_to_come_again(http):
    answer = await http.post("/v1/redrive", json={"destination": "full"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")


async def test_a_bug_is_a_500_that_shows_nothing_of_it(surface):
    def broken():
        raise RuntimeError("secret")

    surface.status = broken
    async with client(surface, raises=False) as http:
        answer = await http.get("/v1/status")
    assert answer.status_code == 500
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/status"), ("GET", "/v1/redrive"), ("PUT", "/metrics")]
)
async def test_a_wrong_method_is_refused_in_json(http, method, path):
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "invalid_request_error")


async def test_why_an_event_went_where_it_went():
    world = World().feed(
        [
            event(1, anonymous_id="a1"),
            event(2, "identify", anonymous_id="a1", user_id="u1", traits={"email": "no mail"}),
        ]
    )
    surface = Surface(world)
    surface.outcomes = [
        became(at_us=1_000_000, attempts=2),
        became(destination="file", state="filtered", reason="denied"),
    ]
    async with client(surface) as http:
        body = (await http.get("/v1/why/event/m2")).json()
        missing = await http.get("/v1/why/event/unknown")
    stages = [part["stage"] for part in body["chain"]]
    assert stages[:3] == ["received", "consent", "named"]
    assert stages[-3:] == ["resolved", "delivery", "delivery"]
    profile_id = world.profiles.find("user_id", "u1").profile_id.hex()
    resolved = body["chain"][-3]
    assert resolved["profile_id"] == profile_id
    assert resolved["sentence"] == f"is about profile {profile_id}, by user_id u1"
    assert body["sentences"][-2:] == [
        "webhook: delivered 1970-01-01T00:00:01.000Z, attempt 2",
        "file: filtered 1970-01-01T00:00:00.000Z, because denied",
    ]
    assert "not usable as an identifier: email no mail" in body["sentences"][2]
    assert missing.status_code == 404


async def test_why_a_profile_is_one_and_why_two_are_not():
    world = World().feed(
        [
            event(1, "identify", anonymous_id="a1", user_id="u1", traits={"email": "one@b.test"}),
            event(2, "identify", user_id="u2"),
        ]
    )
    async with client(Surface(world)) as http:
        body = (await http.get("/v1/why/profile/user_id:u1")).json()
        same = (await http.get("/v1/why/profile/user_id:u1/not/email:one@b.test")).json()
        other = (await http.get("/v1/why/profile/user_id:u1/not/user_id:u2")).json()
        nobody = await http.get("/v1/why/profile/user_id:u1/not/user_id:u3")
    assert {(one["namespace"], one["value"]) for one in body["identifiers"]} == {
        ("user_id", "u1"),
        ("anonymous_id", "a1"),
        ("email", "one@b.test"),
    }
    assert (same["one_profile"], other["one_profile"]) == (True, False)
    assert nobody.status_code == 404


async def test_the_server_tells_its_port_answers_and_stops_when_told():
    import httpx

    app = control_app(Surface(), token=None, new_id=lambda: "id")
    shutdown = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_control, app, "127.0.0.1", 0, shutdown)
            assert port > 0
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                answer = await http.get("/v1/profiles/user_id:a%2Fb%2Ftraits")
                assert answer.json()["error"]["message"] == "nobody is known by this identifier"
                assert "server" not in answer.headers
            shutdown.set()
