import json

import pytest

from cdp.console.privacy_routes import EXPORT_BYTES_A_TURN, IDENTIFIERS_MAX, PrivacyRoutes
from tests.unit.console.privacy import Book
from tests.unit.console.surface import AUTHORIZED, TOKEN, Surface, client

ADA = {"user_id": "ada", "email": "ada@example.test"}
ID = "1".rjust(32, "0")
GONE = "f" * 32

MATRIX = {
    ("POST", "/v1/privacy/requests"),
    ("GET", "/v1/privacy/requests"),
    ("GET", "/v1/privacy/requests/{id}"),
    ("DELETE", "/v1/privacy/requests/{id}"),
    ("POST", "/v1/privacy/requests/{id}/verify"),
    ("POST", "/v1/privacy/requests/{id}/approve"),
    ("POST", "/v1/privacy/requests/{id}/deny"),
    ("POST", "/v1/privacy/requests/{id}/hold"),
    ("POST", "/v1/privacy/requests/{id}/release"),
    ("POST", "/v1/privacy/requests/{id}/attest"),
    ("GET", "/v1/privacy/requests/{id}/receipt"),
    ("GET", "/v1/privacy/export/{file}"),
    ("GET", "/v1/privacy/why"),
    ("POST", "/v1/privacy/unsuppress"),
    ("GET", "/v1/privacy/suppressions"),
    ("GET", "/v1/privacy/audit"),
}


@pytest.fixture
def book():
    return Book()


def served(book, **options):
    return client(Surface(), more=PrivacyRoutes(book).routes(), **options)


@pytest.fixture
async def http(book):
    async with served(book) as http:
        yield http


async def ask(http, **more):
    answer = await http.post(
        "/v1/privacy/requests", json={"kind": "erasure", "identifiers": ADA} | more
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_every_route_stands_in_the_matrix(book):
    routes = PrivacyRoutes(book).routes()
    assert {(m, route.path) for route in routes for m in route.methods - {"HEAD"}} == MATRIX


@pytest.mark.parametrize(("method", "path"), sorted(MATRIX))
async def test_no_route_answers_without_the_token(book, method, path):
    async with served(book, token=TOKEN) as http:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp4"}):
            answer = await http.request(method, path.replace("{id}", ID), headers=headers)
            assert answer.status_code == 401
        answer = await http.request(method, path.replace("{id}", ID), headers=AUTHORIZED)
        assert answer.status_code not in (401, 403)


@pytest.mark.parametrize(("method", "path"), sorted(one for one in MATRIX if one[0] != "GET"))
async def test_no_order_is_taken_from_another_sites_page(book, method, path):
    async with served(book, token=TOKEN) as http:
        headers = AUTHORIZED | {"origin": "https://elsewhere.test"}
        answer = await http.request(method, path.replace("{id}", ID), headers=headers)
    assert answer.status_code == 403
    assert (book.asked, book.orders) == ([], [])


async def test_a_request_is_recorded_and_told_without_the_identifiers(http, book):
    told = await ask(http, external_id="ticket 7", regulation="gdpr")
    assert (told["id"], told["state"]) == (ID, "received")
    assert "ada" not in json.dumps(told)
    asked = book.asked[0]
    assert (asked.kind, dict(asked.identifiers), asked.channel) == ("erasure", ADA, "api")
    assert (asked.external_id, asked.regulation, asked.hold) == ("ticket 7", "gdpr", "")
    assert (asked.verified_by, asked.suppress, asked.downstream) == ("", True, True)
    assert asked.lift is False


async def test_a_body_can_not_verify_itself(http, book):
    body = {"kind": "erasure", "identifiers": ADA, "verified_by": "me"}
    answer = await http.post("/v1/privacy/requests", json=body)
    assert answer.status_code == 400
    assert "'verified_by' is no member" in answer.json()["error"]["message"]
    assert book.asked == []


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "kind must be one of erasure, access"),
        ({"kind": "forget", "identifiers": ADA}, "kind must be one of"),
        ({"kind": ["erasure"], "identifiers": ADA}, "kind must be one of"),
        ({"kind": "erasure"}, "identifiers must be an object"),
        ({"kind": "erasure", "identifiers": {}}, "hold 1 to 20"),
        ({"kind": "erasure", "identifiers": {"email": []}}, "hold 1 to 20"),
        ({"kind": "erasure", "identifiers": {"email": ["a", 1]}}, "must be a text"),
        ({"kind": "erasure", "identifiers": []}, "identifiers must be an object"),
        ({"kind": "erasure", "identifiers": {"email": ""}}, "identifiers.email must be a text"),
        ({"kind": "erasure", "identifiers": {"email": 7}}, "identifiers.email must be a text"),
        ({"kind": "erasure", "identifiers": {"email": None}}, "identifiers.email must be"),
        ({"kind": "erasure", "identifiers": {"user_id": "x" * 513}}, "1 to 512"),
        ({"kind": "erasure", "identifiers": {"a b": "x"}}, "must be a word"),
        ({"kind": "erasure", "identifiers": ADA, "suppress": "no"}, "true or false"),
        ({"kind": "erasure", "identifiers": ADA, "regulation": "G D P R"}, "short name"),
        ({"kind": "erasure", "identifiers": ADA, "hold": 3}, "hold must be a text"),
        ({"kind": "erasure", "identifiers": ADA, "id": "x"}, "'id' is no member"),
    ],
)
async def test_what_cannot_be_read_is_refused_whole(http, book, body, says):
    answer = await http.post("/v1/privacy/requests", json=body)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert book.asked == []


async def test_a_person_may_have_several_identifiers_of_a_kind(http, book):
    await ask(http, identifiers={"email": ["a@b.test", "c@d.test"], "User_Id": "ada"})
    assert book.asked[0].identifiers == (
        ("email", "a@b.test"),
        ("email", "c@d.test"),
        ("user_id", "ada"),
    )


async def test_too_many_identifiers_are_refused(http, book):
    many = {f"kind{n}": "x" for n in range(IDENTIFIERS_MAX + 1)}
    answer = await http.post("/v1/privacy/requests", json={"kind": "access", "identifiers": many})
    assert answer.status_code == 400
    assert book.asked == []


async def test_an_error_never_says_the_value_of_an_identifier(http):
    secret = "ada@example.test" * 40
    body = {"kind": "erasure", "identifiers": {"email": secret}}
    answer = await http.post("/v1/privacy/requests", json=body)
    assert answer.status_code == 400
    assert "ada@" not in answer.text


async def test_requests_are_listed_in_pages_by_kind_and_state(http, book):
    for _ in range(3):
        await ask(http)
    await ask(http, kind="access")
    book.move(ID, "complete")
    page = (await http.get("/v1/privacy/requests?kind=erasure&limit=2")).json()
    assert [row["id"][-1] for row in page["data"]] == ["3", "2"]
    assert page["cursor"]["has_more"]
    rest = await http.get(f"/v1/privacy/requests?kind=erasure&next={page['cursor']['next']}")
    assert [row["state"] for row in rest.json()["data"]] == ["complete"]
    done = (await http.get("/v1/privacy/requests?state=complete")).json()["data"]
    assert [row["id"] for row in done] == [ID]
    assert (await http.get("/v1/privacy/requests?state=finished")).status_code == 400


async def test_a_request_is_verified_approved_and_not_taken_back_once_it_is_sealed(http, book):
    await ask(http)
    path = f"/v1/privacy/requests/{ID}"
    assert (await http.post(f"{path}/approve", json={"by": "eve"})).status_code == 400
    said = {"by": "eve", "method": "mail link"}
    assert (await http.post(f"{path}/verify", json=said)).json()["state"] == "verified"
    assert (await http.post(f"{path}/approve", json={"by": "eve"})).json()["state"] == "approved"
    book.move(ID, "sealed")
    answer = await http.delete(path)
    assert answer.status_code == 400
    assert "sealed" in answer.json()["error"]["message"]
    assert book.orders == [("verify", ID, "eve", "mail link"), ("approve", ID, "eve")]


async def test_a_request_is_put_on_hold_and_released(http, book):
    await ask(http)
    path = f"/v1/privacy/requests/{ID}"
    assert (await http.post(f"{path}/hold", json={"by": "eve"})).status_code == 400
    said = {"by": "eve", "reason": "a legal claim"}
    assert (await http.post(f"{path}/hold", json=said)).json()["state"] == "on_hold"
    assert (await http.post(f"{path}/release", json={"by": "eve"})).json()["state"] == "received"
    assert book.orders == [("hold", ID, "eve", "a legal claim"), ("release", ID, "eve")]


async def test_a_request_can_be_cancelled_or_denied_with_a_reason(http, book):
    await ask(http)
    await ask(http)
    second = "2".rjust(32, "0")
    assert (await http.delete(f"/v1/privacy/requests/{ID}?by=eve")).json()["state"] == "cancelled"
    denied = f"/v1/privacy/requests/{second}/deny"
    assert (await http.post(denied, json={"by": "eve"})).status_code == 400
    answer = await http.post(denied, json={"by": "eve", "reason": "not the person"})
    assert answer.json()["state"] == "denied"
    assert book.orders == [("cancel", ID, "eve"), ("deny", second, "eve", "not the person")]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"by": "eve"},
        {"destination": "crm"},
        {"by": "eve", "destination": "crm", "file_sha256": "abc"},
        {"by": "eve", "destination": "crm", "file_sha256": "A" * 64},
        {"by": "eve", "destination": "crm", "file": "x"},
        {"by": " ", "destination": "crm"},
    ],
)
async def test_an_attestation_must_say_who_and_where(http, book, body):
    await ask(http)
    answer = await http.post(f"/v1/privacy/requests/{ID}/attest", json=body)
    assert answer.status_code == 400
    assert book.orders == []


async def test_an_attestation_is_passed_on_with_the_hash_of_its_evidence(http, book):
    await ask(http)
    body = {"by": "eve", "destination": "crm", "file_sha256": "a" * 64}
    assert (await http.post(f"/v1/privacy/requests/{ID}/attest", json=body)).status_code == 200
    assert book.orders == [("attest", ID, "crm", "eve", "a" * 64)]


async def test_a_receipt_is_there_once_the_request_has_ended(http, book):
    await ask(http)
    path = f"/v1/privacy/requests/{ID}/receipt"
    assert (await http.get(path)).status_code == 400
    book.move(ID, "partially_complete")
    assert (await http.get(path)).json()["request"]["id"] == ID


@pytest.mark.parametrize("bad", [GONE, "x", "..", "1" * 31, "1" * 33, "A" * 32, "%2e%2e%2fetc"])
@pytest.mark.parametrize("part", ["", "/receipt"])
async def test_an_id_that_is_none_is_not_found(http, bad, part):
    assert (await http.get(f"/v1/privacy/requests/{bad}{part}")).status_code == 404


async def test_a_document_is_an_attachment_and_comes_in_parts(http, book):
    whole = bytes(range(256)) * (EXPORT_BYTES_A_TURN // 256 * 2 + 1)
    book.documents[ID, "html"] = whole
    answer = await http.get(f"/v1/privacy/export/{ID}.html")
    assert answer.content == whole
    assert answer.headers["content-disposition"] == f'attachment; filename="person-{ID}.html"'
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "file", [f"{ID}.json", f"{ID}.pdf", ID, f"{GONE}.json", "..%2fx.json", "x.json", ".json"]
)
async def test_a_document_that_is_not_there_is_not_found(http, file):
    assert (await http.get(f"/v1/privacy/export/{file}")).status_code == 404


async def test_why_tells_about_a_person_or_a_delivery(http):
    answer = await http.get("/v1/privacy/why", params={"identifier": "Email:a+b@c.test"})
    assert answer.json()["identifier"] == ["email", "a+b@c.test"]
    answer = await http.get(
        "/v1/privacy/why", params={"identifier": "user_id:a%20b", "destination": "crm"}
    )
    assert answer.json()["person"] == ["user_id", "a%20b"]
    answer = await http.get("/v1/privacy/why", params={"event": "m1", "destination": "crm"})
    assert answer.json()["message_id"] == "m1"


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({}, 400),
        ({"event": "m1"}, 400),
        ({"event": "m1", "identifier": "user_id:x", "destination": "crm"}, 400),
        ({"identifier": "ada"}, 400),
        ({"identifier": "user_id:"}, 400),
        ({"identifier": "user_id:x", "destination": "gone"}, 404),
    ],
)
async def test_a_question_that_cannot_be_read_is_refused(http, params, status):
    assert (await http.get("/v1/privacy/why", params=params)).status_code == status


async def test_a_suppression_is_lifted_only_with_a_reason(http, book):
    body = {"identifiers": ADA, "by": "eve"}
    assert (await http.post("/v1/privacy/unsuppress", json=body)).status_code == 400
    body["reason"] = "came back as a customer"
    answer = await http.post("/v1/privacy/unsuppress", json=body)
    assert answer.json() == {"unsuppressed": 2}
    assert book.orders == [("unsuppress", tuple(ADA.items()), "eve", "came back as a customer")]


async def test_suppressions_are_listed_as_hashes(http, book):
    book.hashes = [f"{n:032x}" for n in range(3)]
    page = (await http.get("/v1/privacy/suppressions?limit=2")).json()
    assert [row["node"] for row in page["data"]] == book.hashes[:2]
    rest = await http.get(f"/v1/privacy/suppressions?next={page['cursor']['next']}")
    assert [row["node"] for row in rest.json()["data"]] == book.hashes[2:]


async def test_the_audit_of_what_is_kept_is_passed_on(http, book):
    assert (await http.get("/v1/privacy/audit")).json() == await book.privacy_audit()
