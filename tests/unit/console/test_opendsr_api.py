import base64
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from cdp.console.opendsr import IDENTITY_TYPES, Signer, denied_callback
from cdp.console.opendsr_book import Book
from cdp.console.opendsr_routes import OpendsrRoutes
from cdp.errors import ConfigError
from cdp.storage.memory import MemoryStore
from tests.unit.console import privacy
from tests.unit.console.certificates import DOMAIN, certificate, pem
from tests.unit.console.surface import AUTHORIZED, TOKEN, Surface, client

ID = "a7551968-d5d6-44b2-9831-815ac9017798"
OTHER_ID = "b7551968-d5d6-44b2-9831-815ac9017798"
CALLBACK = "https://controller.example/callbacks"
EMAIL = {"identity_type": "email", "identity_value": "ada@b.example", "identity_format": "raw"}
REQUEST = {
    "regulation": "gdpr",
    "subject_request_id": ID,
    "subject_request_type": "erasure",
    "submitted_time": "2026-03-01T09:00:00Z",
    "subject_identities": [EMAIL],
    "api_version": "2.0",
    "status_callback_urls": [CALLBACK],
}
CALLBACK_DOMAINS = ["controller.example"]

MATRIX = {
    ("GET", "/opendsr/certificate.pem"): True,
    **{
        (method, prefix + path): path == "/discovery"
        for prefix in ("", "/opendsr")
        for method, path in (
            ("GET", "/discovery"),
            ("POST", "/requests"),
            ("GET", "/requests/{id}"),
            ("DELETE", "/requests/{id}"),
        )
    },
}


class HandClock:
    time_us = 1_772_366_400_000_000

    def now_us(self):
        return self.time_us


@pytest.fixture
def rights():
    return privacy.Book()


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def opendsr(rights, store):
    signer = Signer(DOMAIN, certificate(), pem())
    return OpendsrRoutes(rights, Book(store), signer, HandClock(), CALLBACK_DOMAINS)


@pytest.fixture
async def http(opendsr):
    async with client(Surface(), more=opendsr.routes()) as http:
        yield http


def verify(answer, kind="ec"):
    """Raises InvalidSignature unless the answer is what the certificate's key signed."""
    key = load_pem_x509_certificate(certificate(kind)).public_key()
    assert answer.headers["x-opendsr-processor-domain"] == DOMAIN
    signature = base64.b64decode(answer.headers["x-opendsr-signature"], validate=True)
    scheme = (ec.ECDSA(SHA256()),) if kind == "ec" else (padding.PKCS1v15(), SHA256())
    key.verify(signature, answer.content, *scheme)


def test_every_route_stands_in_the_matrix(opendsr):
    routes = opendsr.routes()
    found = {(m, route.path) for route in routes for m in route.methods - {"HEAD"}}
    assert found == set(MATRIX)


@pytest.mark.parametrize(("method", "path"), MATRIX)
async def test_only_discovery_and_the_certificate_are_for_everybody(opendsr, rights, method, path):
    async with client(Surface(), more=opendsr.routes(), token=TOKEN) as http:
        answer = await http.request(method, path.replace("{id}", ID), json=REQUEST)
        assert answer.status_code == (200 if MATRIX[method, path] else 401)
        assert rights.asked == []
        answer = await http.request(method, path.replace("{id}", ID), headers=AUTHORIZED)
        assert answer.status_code not in (401, 403)


async def test_discovery_says_what_is_taken_and_where_the_certificate_is(http):
    answer = await http.get("/discovery")
    verify(answer)
    told = answer.json()
    assert told["api_version"] == "2.0"
    assert told["supported_subject_request_types"] == ["erasure", "access", "portability"]
    assert told["processor_certificate"] == f"https://{DOMAIN}/opendsr/certificate.pem"
    kinds = {one["identity_type"] for one in told["supported_identities"]}
    assert kinds == set(IDENTITY_TYPES)
    assert len(kinds) == 11
    assert {one["identity_format"] for one in told["supported_identities"]} == {"raw"}
    assert (await http.get("/opendsr/certificate.pem")).content == certificate()


async def test_a_request_is_taken_echoed_and_signed(http, rights):
    raw = json.dumps(REQUEST, indent=3).encode()
    answer = await http.post("/opendsr/requests", content=raw)
    verify(answer)
    assert answer.status_code == 201
    assert answer.json() == {
        "controller_id": "controller",
        "expected_completion_time": privacy.DUE,
        "received_time": "2026-03-01T12:00:00.000Z",
        "encoded_request": base64.b64encode(raw).decode(),
        "subject_request_id": ID,
    }
    asked = rights.asked[0]
    assert (asked.kind, asked.identifiers) == ("erasure", (("email", "ada@b.example"),))
    assert (asked.external_id, asked.regulation) == (f"opendsr:{ID}", "gdpr")
    assert (asked.channel, asked.verified_by) == ("opendsr", "opendsr controller")
    assert [order[0] for order in rights.orders] == ["approve"]


async def test_the_same_id_again_is_the_same_request(http, rights):
    await http.post("/requests", json=REQUEST)
    answer = await http.post("/requests", json=REQUEST)
    assert answer.status_code == 201
    assert len(rights.asked) == 1
    assert [order[0] for order in rights.orders] == ["approve"]


async def test_a_request_whose_answer_was_lost_is_approved_when_it_comes_again(http, rights):
    approve, rights.approve_request = rights.approve_request, None
    with pytest.raises(TypeError):
        await http.post("/requests", json=REQUEST)
    rights.approve_request = approve
    assert (await http.post("/requests", json=REQUEST)).status_code == 201
    assert [row["state"] for row in rights.rows.values()] == ["approved"]


async def test_no_identity_is_kept_in_the_books_of_opendsr(http, store):
    await http.post("/requests", json=REQUEST)
    rows = b"".join(key + value for key, value in store.items("meta"))
    assert ID.encode() in rows
    assert b"ada@b.example" not in rows


@pytest.mark.parametrize("kind", sorted(IDENTITY_TYPES))
async def test_each_identity_type_is_an_identifier_here(http, rights, kind):
    identity = {"identity_type": kind, "identity_value": "x-1", "identity_format": "raw"}
    answer = await http.post("/requests", json=REQUEST | {"subject_identities": [identity]})
    assert answer.status_code == 201
    assert rights.asked[0].identifiers == ((IDENTITY_TYPES[kind], "x-1"),)


@pytest.mark.parametrize("form", ["sha1", "md5", "sha256"])
async def test_a_hashed_identity_is_refused_with_the_reason(http, rights, form):
    identities = [EMAIL, EMAIL | {"identity_format": form, "identity_value": "ab" * 16}]
    answer = await http.post("/requests", json=REQUEST | {"subject_identities": identities})
    verify(answer)
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert said["code"] == 400
    assert said["message"].startswith(f"subject_identities[1].identity_format is {form}")
    assert "send the identity in format raw" in said["message"]
    assert rights.asked == []


async def test_what_the_specification_has_no_type_for_comes_as_our_extension(http, rights):
    ours = {"phone": "+4917012345", "user_id": "ada"}
    body = {name: value for name, value in REQUEST.items() if name != "subject_identities"}
    body["extensions"] = {DOMAIN: ours, "other.example": {"whatever": 1}}
    assert (await http.post("/requests", json=body)).status_code == 201
    assert rights.asked[0].identifiers == (("phone", "+4917012345"), ("user_id", "ada"))


@pytest.mark.parametrize(
    "change",
    [
        {"subject_request_id": "7"},
        {"subject_request_id": ID.upper()},
        {"subject_request_id": ID.replace("44b2", "14b2")},
        {"subject_request_id": None},
        {"subject_request_type": "rectification"},
        {"subject_request_type": None},
        {"regulation": "lex"},
        {"regulation": None},
        {"submitted_time": None},
        {"submitted_time": "yesterday"},
        {"submitted_time": 7},
        {"api_version": "1.0"},
        {"api_version": 2},
        {"subject_identities": []},
        {"subject_identities": None},
        {"subject_identities": [EMAIL] * 2 + [{}]},
        {"subject_identities": "ada"},
        {"subject_identities": [EMAIL | {"identity_type": "shoe_size"}]},
        {"subject_identities": [EMAIL | {"identity_format": "sha512"}]},
        {"subject_identities": [EMAIL | {"identity_format": None}]},
        {"subject_identities": [EMAIL | {"identity_value": ""}]},
        {"subject_identities": [EMAIL | {"identity_value": 7}]},
        {"subject_identities": [EMAIL | {"identity_value": f"u{n}"} for n in range(21)]},
        {"extensions": {DOMAIN: {"password": "x"}}},
        {"extensions": {DOMAIN: "ada"}},
        {"extensions": ["x"]},
        {"status_callback_urls": CALLBACK},
        {"status_callback_urls": [7]},
        {"status_callback_urls": [f"{CALLBACK}/{n}" for n in range(6)]},
        {"status_callback_urls": ["http://controller.example/callbacks"]},
        {"status_callback_urls": ["https://elsewhere.example/callbacks"]},
        {"status_callback_urls": ["https://169.254.169.254/latest"]},
    ],
)
async def test_what_cannot_be_read_is_refused_in_the_shape_of_the_specification(
    http, rights, change
):
    answer = await http.post("/requests", json=REQUEST | change)
    verify(answer)
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert (said["code"], said["errors"][0]["domain"]) == (400, "Validation")
    assert "ada@" not in answer.text
    assert rights.asked == []


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b'{"a":' * 2000])
async def test_a_body_that_is_no_object_is_refused(http, raw):
    assert (await http.post("/requests", content=raw)).status_code == 400


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("received", "pending"),
        ("on_hold", "pending"),
        ("approved", "pending"),
        ("sealed", "in_progress"),
        ("downstream", "in_progress"),
        ("partially_complete", "in_progress"),
        ("complete", "completed"),
        ("denied", "cancelled"),
        ("cancelled", "cancelled"),
        ("a state of a later version", "in_progress"),
    ],
)
async def test_the_status_is_never_completed_before_everything_is(http, rights, state, status):
    await http.post("/requests", json=REQUEST)
    rights.move(next(iter(rights.rows)), state)
    answer = await http.get(f"/requests/{ID}")
    verify(answer)
    assert answer.json() == {
        "controller_id": "controller",
        "expected_completion_time": privacy.DUE,
        "subject_request_id": ID,
        "request_status": status,
        "api_version": "2.0",
    }


async def test_the_status_of_an_access_request_says_where_the_document_is(http, rights):
    await http.post("/requests", json=REQUEST | {"subject_request_type": "access"})
    request_id = next(iter(rights.rows))
    rights.move(request_id, "complete", exports=["json", "html"])
    told = (await http.get(f"/requests/{ID}")).json()
    assert told["results_url"] == f"https://{DOMAIN}/v1/privacy/export/{request_id}.json"


async def test_a_request_is_cancelled_while_it_is_pending_and_not_after(http, rights):
    await http.post("/requests", json=REQUEST)
    answer = await http.delete(f"/requests/{ID}")
    verify(answer)
    assert answer.status_code == 202
    assert answer.json()["subject_request_id"] == ID
    await http.post("/requests", json=REQUEST | {"subject_request_id": OTHER_ID})
    rights.move(list(rights.rows)[1], "sealed")
    answer = await http.delete(f"/requests/{OTHER_ID}")
    assert answer.status_code == 400
    assert "pending" in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_id_that_nobody_sent_is_not_found(http, method):
    answer = await http.request(method, f"/requests/{ID}")
    verify(answer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
    assert (await http.request(method, "/requests/7")).status_code == 400


@pytest.mark.parametrize("kind", ["ec", "rsa2048"])
def test_a_signature_holds_for_its_bytes_only(kind):
    signer = Signer(DOMAIN, certificate(kind), pem(kind))
    headers = {name: value for name, value in signer.headers(b"body").items()}

    class Answer:
        content = b"body"

    Answer.headers = headers
    verify(Answer, kind)
    Answer.content = b"bodY"
    with pytest.raises(InvalidSignature):
        verify(Answer, kind)


@pytest.mark.parametrize(
    ("domain", "cert", "key", "says"),
    [
        ("other.example", certificate(), pem(), "is not for other.example"),
        (DOMAIN, certificate(), pem("rsa2048"), "is not the key of"),
        (DOMAIN, b"", pem(), "cannot be read"),
        (DOMAIN, certificate(), b"x", "cannot be read"),
        (DOMAIN, certificate("ed25519"), pem("ed25519"), "RSA or an ECDSA"),
        (DOMAIN, certificate("rsa1024"), pem("rsa1024"), "at least 2048 bits"),
    ],
)
def test_a_key_that_cannot_sign_for_the_domain_is_refused_at_the_start(domain, cert, key, says):
    with pytest.raises(ConfigError, match=says):
        Signer(domain, cert, key)


@pytest.mark.parametrize(
    "url",
    [
        "https://controller.example.evil.example/x",
        "https://evil.example/controller.example",
        "https://controller.example@evil.example/",
        "https://evil.example\\@controller.example/",
        "https://controller.example:22/",
        "https://localhost/",
        "https://2130706433/",
        "ftp://controller.example/",
        "//controller.example/",
        "",
    ],
)
def test_a_callback_that_is_not_to_a_listed_domain_is_denied(url):
    assert denied_callback(url, CALLBACK_DOMAINS) is not None
    assert denied_callback(CALLBACK, CALLBACK_DOMAINS) is None
    assert denied_callback(CALLBACK, []) is not None
