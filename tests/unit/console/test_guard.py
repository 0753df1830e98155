from base64 import b64encode

import pytest

from cdp.console.app import routes
from cdp.console.guard import SECURITY_HEADERS
from tests.unit.console.surface import AUTHORIZED, TOKEN, Surface, client

OPEN = "open"
CLOSED = "closed"

# Every route and whether it needs the token. A route without a row fails the first test below.
MATRIX = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): CLOSED,
    ("GET", "/v1/status"): CLOSED,
    ("GET", "/v1/events/rejected"): CLOSED,
    ("POST", "/v1/events/rejected/{id}/resubmit"): CLOSED,
    ("GET", "/v1/dead-letters"): CLOSED,
    ("POST", "/v1/redrive"): CLOSED,
    ("POST", "/v1/replay"): CLOSED,
    ("POST", "/v1/backup"): CLOSED,
    ("GET", "/v1/why/event/{message_id}"): CLOSED,
    ("GET", "/v1/why/profile/{key}"): CLOSED,
    ("GET", "/v1/why/profile/{key}/not/{other}"): CLOSED,
    ("GET", "/v1/profiles/{key}"): CLOSED,
    ("GET", "/v1/spaces/{space}/collections/accounts/profiles/{key}/traits"): CLOSED,
    **{
        ("GET", f"{prefix}/{part}"): CLOSED
        for prefix in (
            "/v1/profiles/{key}",
            "/v1/spaces/{space}/collections/users/profiles/{key}",
        )
        for part in ("traits", "identifiers", "external_ids", "events", "links", "metadata")
    },
}

BASIC = {"authorization": "Basic " + b64encode(f"{TOKEN}:".encode()).decode()}
BAD = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer wrong"},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"authorization": TOKEN},
    {"authorization": "Basic ???"},
    {"authorization": "Basic " + b64encode(f":{TOKEN}".encode()).decode()},
    {"authorization": "Bearer é".encode()},
]


def test_every_route_stands_in_the_matrix():
    found = {
        (method, route.path) for route in routes(Surface()) for method in route.methods - {"HEAD"}
    }
    assert found == set(MATRIX)


@pytest.mark.parametrize(("method", "path"), MATRIX)
async def test_a_route_answers_without_a_token_only_if_it_is_open(method, path):
    async with client(Surface(), token=TOKEN) as http:
        for headers in BAD:
            answer = await http.request(method, path, headers=headers)
            if MATRIX[method, path] == OPEN:
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401, headers
                assert answer.json()["error"]["code"] == "authentication_error"


@pytest.mark.parametrize(("method", "path"), MATRIX)
@pytest.mark.parametrize("headers", [AUTHORIZED, BASIC], ids=["bearer", "basic"])
async def test_a_route_answers_with_the_token_either_way(method, path, headers):
    async with client(Surface(), token=TOKEN) as http:
        answer = await http.request(method, path, headers=headers)
        assert answer.status_code not in (401, 403)


@pytest.mark.parametrize(
    "path", ["/", "/v1/nothing", "/v1/profiles", "/%2e%2e/healthz", "/healthz/"]
)
async def test_an_unknown_path_tells_nothing_without_the_token(path):
    async with client(Surface(), token=TOKEN) as http:
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers=AUTHORIZED)).status_code == 404


@pytest.mark.parametrize("path", ["/healthz", "/v1/status", "/nothing", "/v1/profiles/user_id:x"])
async def test_every_answer_carries_the_security_headers_and_a_request_id(path):
    async with client(Surface(), token=TOKEN) as http:
        for headers in ({}, AUTHORIZED):
            answer = await http.get(path, headers=headers)
            assert SECURITY_HEADERS.items() <= answer.headers.items()
            assert answer.headers["request-id"].startswith("request-")
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8081", "localhost", "LOCALHOST:1", "[::1]:8081", "[::1]"]
)
async def test_without_a_token_loopback_names_are_served(host):
    async with client(Surface()) as http:
        assert (await http.get("/v1/status", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["rebound.test:8081", "10.0.0.5", "localhost.test", "127.0.0.1.x", ""]
)
async def test_without_a_token_a_rebound_name_is_not_served(host):
    async with client(Surface()) as http:
        answer = await http.get("/v1/status", headers={"host": host})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://elsewhere.test"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
    ],
)
@pytest.mark.parametrize("token", [None, TOKEN])
async def test_an_order_from_another_sites_page_is_refused(headers, token):
    surface = Surface()
    body = {"destination": "webhook"}
    async with client(surface, token=token) as http:
        answer = await http.post("/v1/redrive", headers=AUTHORIZED | headers, json=body)
    assert answer.status_code == 403
    assert surface.orders == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8081"},
        {"sec-fetch-site": "none"},
    ],
)
async def test_an_order_from_a_program_or_from_our_own_page_is_taken(headers):
    surface = Surface()
    async with client(surface) as http:
        answer = await http.post("/v1/redrive", headers=headers, json={"destination": "webhook"})
    assert answer.status_code == 200
    assert surface.orders == [("redrive", "webhook", None, None)]


async def test_a_preflight_gets_no_permission():
    async with client(Surface()) as http:
        answer = await http.options(
            "/v1/status",
            headers={"origin": "http://elsewhere.test", "access-control-request-method": "GET"},
        )
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_websocket_is_closed():
    from cdp.console.app import control_app

    sent = []

    async def send(message):
        sent.append(message)

    app = control_app(Surface(), token=None, new_id=lambda: "id")
    await app({"type": "websocket", "path": "/v1/status", "headers": []}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
