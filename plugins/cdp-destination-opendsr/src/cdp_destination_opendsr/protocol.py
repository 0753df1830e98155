"""What a controller says to an OpenDSR 2.0 processor, and what the answers mean. Pure."""

from __future__ import annotations

import base64
import binascii
from hashlib import md5, sha1, sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from cdp.delivery import (
    Erased,
    Erasure,
    ErasureAccepted,
    ErasureOutcome,
    ErasureRetry,
    ErasureUnsupported,
    retry_after_s,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import httpx

Form = Literal["raw", "sha1", "md5", "sha256"]

API_VERSION: Final = "2.0"
CREATED: Final = 201

# Not for safety: the specification names these forms, and a processor may know no other.
_HASHES: Final[Mapping[Form, Callable[..., Any]]] = {"sha1": sha1, "md5": md5, "sha256": sha256}


class IdentityNames(NamedTuple):
    """How our identifiers are called there; what is named in neither is not sent."""

    types: Mapping[str, str]
    extensions: Mapping[str, str]
    domain: str  # under which the extensions of the processor stand
    form: Form


class _Receipt(msgspec.Struct):
    subject_request_id: str
    encoded_request: str
    expected_completion_time: str | None = None


class _Status(msgspec.Struct):
    subject_request_id: str
    request_status: str
    expected_completion_time: str | None = None


def request_id_of(erasure: Erasure) -> str:
    """The processor's id of an erasure: a version 4 UUID, the same over every attempt."""
    digest = sha256(b"opendsr " + erasure.erasure_id.encode()).digest()
    return str(UUID(bytes=digest[:16], version=4))


def request_body(erasure: Erasure, names: IdentityNames, regulation: str) -> bytes | None:
    """The request for a person; None where nothing of what names them can be said."""
    identities = [
        {
            "identity_type": names.types[namespace],
            "identity_value": _formed(value, names.form),
            "identity_format": names.form,
        }
        for namespace, value in erasure.identifiers
        if namespace in names.types
    ]
    extension = {
        names.extensions[namespace]: value
        for namespace, value in erasure.identifiers
        if namespace in names.extensions
    }
    if not identities and not extension:
        return None
    body: dict[str, Any] = {
        "subject_request_id": request_id_of(erasure),
        "subject_request_type": "erasure",
        "submitted_time": erasure.requested_at,
        "regulation": regulation,
        "subject_identities": identities,
        "api_version": API_VERSION,
        "status_callback_urls": [],
    }
    if extension:
        body["extensions"] = {names.domain: extension}
    return _encode(body)


def outcome_of_receipt(response: httpx.Response, request_id: str, body: bytes) -> ErasureOutcome:
    """The receipt must be for the very bytes that were sent, or it shows nothing."""
    try:
        receipt = _decode_receipt(response.content)
        echoed = base64.b64decode(receipt.encoded_request, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error):
        return ErasureRetry("receipt_unreadable")
    if response.status_code != CREATED or receipt.subject_request_id != request_id:
        return ErasureRetry("receipt_of_another")
    if echoed != body:
        return ErasureRetry("receipt_differs")
    return ErasureAccepted(request_id)


def outcome_of_status(response: httpx.Response, request_id: str, *, signed: bool) -> ErasureOutcome:
    """Where a request stands. Only `completed` is done."""
    try:
        status = _decode_status(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ErasureRetry("status_unreadable")
    if status.subject_request_id != request_id:
        return ErasureRetry("status_of_another")
    if status.request_status in ("pending", "in_progress"):
        return ErasureAccepted(request_id)
    if status.request_status == "completed":
        digest = sha256(response.content).hexdigest()
        by = "signed" if signed else "unsigned"
        return Erased(f"request {request_id} completed, sha256 of the {by} answer {digest}")
    if status.request_status == "cancelled":
        return ErasureUnsupported(
            f"the processor cancelled request {request_id}: ask it why, and have it erase by hand"
        )
    return ErasureRetry("status_unknown")


def later(response: httpx.Response, now_us: int = 0) -> ErasureRetry:
    """The processor did not do it."""
    after_s = retry_after_s(response.headers.get("retry-after"), now_us) if now_us else None
    return ErasureRetry(f"http_{response.status_code}", after_s)


def _formed(value: str, form: Form) -> str:
    """A value as it is, or its hash; e-mails are hashed in small letters, as everybody does."""
    if form == "raw":
        return value
    hashed: str = _HASHES[form](value.strip().lower().encode()).hexdigest()
    return hashed


_encode = msgspec.json.Encoder().encode
_decode_receipt = msgspec.json.Decoder(_Receipt).decode
_decode_status = msgspec.json.Decoder(_Status).decode
