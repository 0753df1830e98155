"""A controller's requests as a processor reads them, and which answers are believed."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cdp_destination_opendsr import Opendsr, OpendsrSettings
from cdp_destination_opendsr.protocol import request_id_of
from cdp_destination_opendsr.signature import Untrusted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from cdp.config import Secret
from cdp.console.opendsr import Signer, read_request
from cdp.delivery import (
    Delivered,
    Denied,
    Erased,
    ErasureAccepted,
    ErasureRetry,
    ErasureUnsupported,
)
from cdp.testing import (
    Answer,
    Drop,
    FakeNetwork,
    Service,
    check_destination,
    make_delivery,
    make_erasure,
    open_destination,
)
from cdp.testing.world import START_US

DOMAIN = "opendsr.example.com"
URL = f"https://{DOMAIN}/v2"
ERASURE = make_erasure(3)
ID = request_id_of(ERASURE)
NOW = datetime.fromtimestamp(START_US / 1e6, UTC)


def certificate_for(key, domain=DOMAIN, *, days=(-1, 30)):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def signer_of(key, domain=DOMAIN, **fields):
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Signer(domain, certificate_for(key, domain, **fields), pem)


EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Processor:
    """Takes requests as the other side of the platform does, and says what it is told to say."""

    def __init__(self, signer=None):
        self.signer = signer
        self.statuses = ["pending", "in_progress", "completed"]
        self.taken: dict[str, bytes] = {}
        self.refuses_repeats = False
        self.service = Service(handler=self.answer)

    def answer(self, request):
        status, told = self.told(request)
        body = json.dumps(told).encode()
        headers = {} if self.signer is None else self.signer.headers(body)
        return httpx.Response(status, content=body, headers=headers)

    def told(self, request):
        if request.method == "POST":
            read = read_request(json.loads(request.content), domain=DOMAIN, callback_domains=())
            if read.id in self.taken and self.refuses_repeats:
                return 400, {"error": {"code": 400}}
            self.taken[read.id] = request.content
            return 201, self.receipt(read.id)
        request_id = request.url.path.rpartition("/")[2]
        if request_id not in self.taken:
            return 404, {"error": {"code": 404}}
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return 200, {"subject_request_id": request_id, "request_status": status}

    def receipt(self, request_id):
        return {
            "subject_request_id": request_id,
            "encoded_request": base64.b64encode(self.taken[request_id]).decode(),
            "expected_completion_time": "2025-07-15T00:00:00Z",
        }


async def asked(processor, ask=lambda one: one.erase(ERASURE), **fields):
    settings = OpendsrSettings(url=URL, **fields)
    async with open_destination(Opendsr, settings, processor.service) as destination:
        return await ask(destination)


async def test_the_contract_holds(autojump_clock):
    settings = OpendsrSettings(url=URL)
    assert len(await check_destination(Opendsr, settings, server=Processor().service)) == 20


async def test_a_delivery_is_noted_and_nothing_is_sent(autojump_clock):
    processor = Processor()
    told = await asked(processor, lambda one: one.deliver([make_delivery(1), make_delivery(2)]))
    assert told == [Delivered(), Delivered()]
    assert processor.service.requests == []


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY])
async def test_a_request_is_followed_from_its_receipt_to_its_end(autojump_clock, tmp_path, key):
    processor = Processor(signer_of(key))
    (tmp_path / "processor.pem").write_bytes(processor.signer.certificate)
    settings = OpendsrSettings(url=URL, certificate=tmp_path / "processor.pem")
    async with open_destination(Opendsr, settings, processor.service) as destination:
        await destination.check()
        assert await destination.erase(ERASURE) == ErasureAccepted(ID)
        assert await destination.erasure_status(ID) == ErasureAccepted(ID)
        assert await destination.erasure_status(ID) == ErasureAccepted(ID)
        done = await destination.erasure_status(ID)
    assert isinstance(done, Erased)
    assert done.evidence is not None
    assert done.evidence.startswith(f"request {ID} completed, sha256 of the signed answer ")
    assert [request.url.path for request in processor.service.requests] == [
        "/v2/requests",
        *[f"/v2/requests/{ID}"] * 3,
    ]


async def test_the_request_says_what_the_specification_asks_for(autojump_clock):
    processor = Processor()
    erasure = make_erasure(3, identifiers=(*ERASURE.identifiers, ("phone", "+491701234567")))
    await asked(
        processor,
        lambda one: one.erase(erasure),
        regulation="ccpa",
        extensions={"phone": "phone"},
        headers={"authorization": Secret("Basic x")},
    )
    (request,) = processor.service.requests
    assert json.loads(request.content) == {
        "subject_request_id": ID,
        "subject_request_type": "erasure",
        "submitted_time": erasure.requested_at,
        "regulation": "ccpa",
        "api_version": "2.0",
        "status_callback_urls": [],
        "subject_identities": [
            {
                "identity_type": "controller_customer_id",
                "identity_value": "user-3",
                "identity_format": "raw",
            },
            {
                "identity_type": "email",
                "identity_value": "user-3@example.com",
                "identity_format": "raw",
            },
        ],
        "extensions": {DOMAIN: {"phone": "+491701234567"}},
    }
    assert request.headers["authorization"] == "Basic x"
    assert request.headers["host"] == DOMAIN


async def test_an_identity_may_go_as_a_hash(autojump_clock):
    processor, service = Processor(), Service()
    processor.service = service
    erasure = make_erasure(3, identifiers=(("email", "Ann@Example.com"),))
    await asked(processor, lambda one: one.erase(erasure), identity_format="sha256")
    (identity,) = json.loads(service.requests[0].content)["subject_identities"]
    assert identity["identity_format"] == "sha256"
    # From: printf ann@example.com | sha256sum
    assert (
        identity["identity_value"]
        == "71d4f55f72fa128dfb468a1a3901507c804b74316488744d769d7f4b16696476"
    )


async def test_nobody_is_sent_whom_the_processor_cannot_know(autojump_clock):
    processor = Processor()
    erasure = make_erasure(3, identifiers=(("anonymous_id", "d-1"),))
    told = await asked(processor, lambda one: one.erase(erasure))
    assert isinstance(told, ErasureUnsupported)
    assert processor.service.requests == []


async def test_a_request_that_is_there_already_is_looked_up(autojump_clock):
    processor = Processor()
    processor.refuses_repeats = True
    async with open_destination(
        Opendsr, OpendsrSettings(url=URL), processor.service
    ) as destination:
        assert await destination.erase(ERASURE) == ErasureAccepted(ID)
        assert await destination.erase(ERASURE) == ErasureAccepted(ID)
    assert len(processor.taken) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoded_request": base64.b64encode(b"{}").decode()}, "receipt_differs"),
        ({"encoded_request": "not base64!"}, "receipt_unreadable"),
        ({"subject_request_id": "other"}, "receipt_of_another"),
        ({"encoded_request": 7}, "receipt_unreadable"),
    ],
)
async def test_a_receipt_must_repeat_the_request(autojump_clock, change, reason):
    processor = Processor()
    real = processor.receipt
    processor.receipt = lambda request_id: real(request_id) | change
    assert await asked(processor) == ErasureRetry(reason)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(400), ErasureRetry("http_400")),
        (Answer(401), ErasureRetry("http_401")),
        (Answer(429, headers={"retry-after": "60"}), ErasureRetry("http_429", 60.0)),
        (Answer(503), ErasureRetry("http_503")),
        (Answer(200), ErasureRetry("receipt_unreadable")),
        (Drop(), ErasureRetry("exception:RemoteProtocolError")),
    ],
)
async def test_what_is_no_receipt_is_asked_again(autojump_clock, answer, expected):
    processor = Processor()
    processor.service = Service(answer, handler=lambda request: httpx.Response(404))
    assert await asked(processor) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"request_status": "done"}, ErasureRetry("status_unknown")),
        ({"subject_request_id": "other"}, ErasureRetry("status_of_another")),
        ({"request_status": None}, ErasureRetry("status_unreadable")),
    ],
)
async def test_only_a_status_that_is_known_counts(autojump_clock, told, expected):
    processor = Processor()
    form = {"subject_request_id": ID, "request_status": "completed"} | told
    processor.service = Service(handler=lambda request: httpx.Response(200, json=form))
    assert await asked(processor, lambda one: one.erasure_status(ID)) == expected


async def test_a_cancelled_request_is_a_task_for_a_person(autojump_clock):
    processor = Processor()
    processor.taken[ID], processor.statuses = b"", ["cancelled"]
    told = await asked(processor, lambda one: one.erasure_status(ID))
    assert isinstance(told, ErasureUnsupported)


class Forger(Signer):
    """Signs other bytes than it sends."""

    def headers(self, body):
        return super().headers(body + b" ")


OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("signer", "certificate"),
    [
        (None, certificate_for(EC_KEY)),
        (signer_of(OTHER_KEY), certificate_for(EC_KEY)),
        (signer_of(EC_KEY, "elsewhere.example.com"), certificate_for(EC_KEY)),
        (signer_of(EC_KEY), certificate_for(EC_KEY, "elsewhere.example.com")),
        (signer_of(EC_KEY), certificate_for(EC_KEY, days=(-30, -1))),
        (signer_of(EC_KEY), certificate_for(EC_KEY, days=(1, 30))),
        (signer_of(RSA_KEY), certificate_for(EC_KEY)),
    ],
)
async def test_an_answer_that_is_not_the_processors_is_not_believed(
    autojump_clock, tmp_path, signer, certificate
):
    path = tmp_path / "processor.pem"
    path.write_bytes(certificate)
    told = await asked(Processor(signer), certificate=path)
    assert isinstance(told, ErasureRetry)
    assert told.reason.startswith("untrusted: ")


async def test_a_signature_over_other_bytes_is_not_believed(autojump_clock, tmp_path):
    pem = EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path / "processor.pem"
    path.write_bytes(certificate_for(EC_KEY))
    forger = Forger(DOMAIN, certificate_for(EC_KEY), pem)
    told = await asked(Processor(forger), certificate=path)
    assert told == ErasureRetry(
        "untrusted: the signature is not the certificate's over this answer"
    )


async def test_without_a_certificate_the_domain_is_looked_at_where_there_is_one(autojump_clock):
    elsewhere = Processor(signer_of(EC_KEY, "elsewhere.example.com"))
    assert isinstance(await asked(elsewhere), ErasureRetry)
    allowed = Processor(signer_of(EC_KEY, "elsewhere.example.com"))
    told = await asked(allowed, domains=(DOMAIN, "elsewhere.example.com"))
    assert told == ErasureAccepted(ID)


async def test_a_certificate_that_cannot_be_used_fails_at_the_start(autojump_clock, tmp_path):
    path = tmp_path / "processor.pem"
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for content in (b"not a certificate", certificate_for(weak)):
        path.write_bytes(content)
        with pytest.raises(Untrusted):
            await asked(Processor(), certificate=path)


async def test_no_private_address_gets_a_connection(autojump_clock):
    with pytest.raises(Denied):
        await asked(Processor(), lambda one: one.check(), allow_http=False, ports=(80,))
    service = Service()
    network = FakeNetwork(service.transport, {"*": [["169.254.169.254"]]})
    settings = OpendsrSettings(url=URL)
    async with open_destination(Opendsr, settings, service, network=network) as destination:
        assert await destination.erase(ERASURE) == ErasureRetry("address_denied")
    assert service.requests == []
