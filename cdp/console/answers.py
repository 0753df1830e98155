"""Turns values into HTTP answers, and errors into refusals, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.responses import Response

from cdp.console.shapes import error
from cdp.console.surface import NotFound, Refused
from cdp.errors import CdpError, InvalidEvent, Overloaded
from cdp.identity.history import HistoryTooLong

if TYPE_CHECKING:
    from starlette.requests import Request

BODY_BYTES_MAX: Final = 1 << 20  # of an order

_encode = msgspec.json.Encoder().encode


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(_encode(value), status_code=status, media_type="application/json")


def refusal(code: str, message: str, status: int) -> Response:
    """A JSON answer that says no, and what to do."""
    return answer(error(code, message), status)


async def refused(_: Request, cause: Exception) -> Response:
    """The answer to an expected error. Bugs are not expected and do not come here."""
    assert isinstance(cause, CdpError)
    if isinstance(cause, NotFound):
        return refusal("not_found", str(cause), 404)
    if isinstance(cause, Overloaded):
        answered = refusal("unavailable", str(cause), 503)
        answered.headers["retry-after"] = str(cause.retry_after_s)
        return answered
    if isinstance(cause, (Refused, HistoryTooLong, InvalidEvent)):
        return refusal("validation_error", str(cause), 400)
    return refusal("internal_error", "the request failed, the journal has the cause", 500)


async def no_route(_: Request, __: Exception) -> Response:
    """The answer where there is no such path."""
    return refusal("not_found", "there is nothing at this path", 404)


async def wrong_method(_: Request, cause: Exception) -> Response:
    """The answer where the path takes other methods."""
    answered = refusal("invalid_request_error", "this path does not take that method", 405)
    answered.headers.update(getattr(cause, "headers", None) or {})
    return answered


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object in the body; empty where there is no body. Raises Refused."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise Refused(f"the body is larger than {BODY_BYTES_MAX} bytes")
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("the body must be a JSON object") from None
