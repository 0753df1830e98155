"""What an erasure looks like to a receiver, and what its answers mean. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import msgspec

from cdp.delivery import (
    Erased,
    Erasure,
    ErasureAccepted,
    ErasureOutcome,
    ErasureRetry,
    ErasureUnsupported,
    is_segment,
    retry_after_s,
)

if TYPE_CHECKING:
    import httpx

BY_HAND: Final = ErasureUnsupported(
    "the webhook has no `erase_url`: have the person deleted by whoever runs its receiver, by the "
    "profile ids and identifiers of this request, or set `erase_url` and ask again"
)
_ACCEPTED: Final = 202


class _Answer(msgspec.Struct):
    id: str | None = None
    status: str | None = None


def body_of_erasure(erasure: Erasure) -> bytes:
    """The JSON body that names the person to forget."""
    return _encode(
        {
            "erasure": {
                "erasureId": erasure.erasure_id,
                "profileIds": erasure.profile_ids,
                "identifiers": [
                    {"namespace": namespace, "value": value}
                    for namespace, value in erasure.identifiers
                ],
                "requestedAt": erasure.requested_at,
            }
        }
    )


def outcome_of_erasure(response: httpx.Response, now_us: int) -> ErasureOutcome:
    """What the answer to the request means: done, accepted under an id, or asked again."""
    if not response.is_success:
        return _later(response, now_us)
    answer = _read(response)
    if answer is not None and answer.id:
        if is_segment(answer.id):
            return ErasureAccepted(answer.id)
        return ErasureRetry("id_unusable")
    if response.status_code == _ACCEPTED:
        return ErasureRetry("accepted_without_id")  # nobody could ever tell that it is done
    return _done(response)


def outcome_of_status(response: httpx.Response, remote_id: str, now_us: int) -> ErasureOutcome:
    """How far an accepted erasure is. Only `completed` is done: anything else may yet fail."""
    if not response.is_success:
        return _later(response, now_us)
    answer = _read(response)
    if answer is not None and answer.status == "completed":
        return _done(response)
    if answer is not None and answer.status in ("pending", "in_progress"):
        return ErasureAccepted(remote_id)
    return ErasureRetry("status_unknown")


def _read(response: httpx.Response) -> _Answer | None:
    try:
        return _decode(response.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _done(response: httpx.Response) -> Erased:
    digest = sha256(response.content).hexdigest()
    return Erased(f"answered {response.status_code}, sha256 of the answer {digest}")


def _later(response: httpx.Response, now_us: int) -> ErasureRetry:
    after_s = retry_after_s(response.headers.get("retry-after"), now_us)
    return ErasureRetry(f"http_{response.status_code}", after_s)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Answer).decode
