"""The bytes of answers. What browsers need to read one is on every answer, errors included.

Bodies of errors have the string fields `code` and `message`, which some SDKs insist on. Success is
always 200: several SDKs take any other 2xx for a failure and send the batch again.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from cdp.ingestion.refusal import Refusal
    from cdp.ingestion.submission import Submission

GIF: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_REASONS: Final = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
_CORS: Final = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Expose-Headers: Retry-After\r\n"
    b"Vary: Origin\r\n"
)
_HEADER_NAMES: Final = re.compile(rb"[A-Za-z0-9-]{1,64}(?: ?, ?[A-Za-z0-9-]{1,64}){0,63}")
_CACHED_COUNTS_MAX: Final = 1_000
_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """A response without what depends on the connection."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: bytes = b""
    closes: bool = False


def to_bytes(answer: Answer, *, head: bool, closes: bool, keeps_alive: bool) -> bytes:
    """The response on the wire. `keeps_alive` is for HTTP/1.0, where it must be said."""
    connection = b"Connection: close\r\n" if closes else b""
    if keeps_alive and not closes:
        connection = b"Connection: keep-alive\r\n"
    content = b"" if answer.status == 204 else _content(answer)
    return b"HTTP/1.1 %d %s\r\n%s%s%s%s\r\n%s" % (
        answer.status,
        _REASONS[answer.status],
        content,
        _CORS,
        answer.headers,
        connection,
        b"" if head else answer.body,
    )


def _content(answer: Answer) -> bytes:
    return b"Content-Type: %s\r\nContent-Length: %d\r\n" % (answer.content_type, len(answer.body))


def json_answer(value: object, *, headers: bytes = b"") -> Answer:
    """A 200 with a JSON body."""
    return Answer(200, _encode(value), headers=headers)


GIF_ANSWER: Final = Answer(200, GIF, b"image/gif", b"Cache-Control: no-store\r\n")
HEALTHY: Final = json_answer({"status": "ok"}, headers=b"Cache-Control: no-store\r\n")
NOTHING_TO_DO: Final = json_answer({"success": True, "accepted": 0, "duplicates": 0})

_accepted: dict[int, Answer] = {}


def _accepted_answer(count: int) -> Answer:
    answer = _accepted.get(count)
    if answer is None:
        answer = json_answer({"success": True, "accepted": count, "duplicates": 0, "rejected": []})
        if len(_accepted) < _CACHED_COUNTS_MAX:
            _accepted[count] = answer
    return answer


def settled_answer(submission: Submission) -> Answer:
    """What became of every event of a request. Lists no more rejected events than are kept.

    Suppressed events look accepted: whom we have erased is no sender's to find out.
    """
    accepted = submission.accepted + submission.suppressed
    if not submission.duplicates and not submission.rejected_count:
        return _accepted_answer(accepted)
    listed = [
        {"index": row.index, "messageId": row.message_id, "code": row.code, "message": row.message}
        for row in submission.rejected
    ]
    result = {
        "success": True,
        "accepted": accepted,
        "duplicates": submission.duplicates,
        "rejected": listed,
    }
    if submission.rejected_count > len(listed):
        result["rejectedTotal"] = submission.rejected_count
    return json_answer(result)


def refusal_answer(refusal: Refusal) -> Answer:
    """The answer of a refused request."""
    headers = b""
    if refusal.retry_after_s is not None:
        headers = b"Retry-After: %d\r\n" % max(1, refusal.retry_after_s)
    if refusal.status == 405:
        headers += b"Allow: GET, HEAD, POST, OPTIONS\r\n"
    body = _encode({"code": refusal.code, "message": refusal.message})
    return Answer(refusal.status, body, headers=headers, closes=refusal.closes)


def preflight_answer(requested_headers: bytes | None) -> Answer:
    """Allows what the browser asks for, by name: `*` would not cover `Authorization`."""
    headers = b"Access-Control-Allow-Methods: GET, POST, OPTIONS\r\n"
    if requested_headers and _HEADER_NAMES.fullmatch(requested_headers):
        headers += b"Access-Control-Allow-Headers: %s\r\n" % requested_headers
    return Answer(204, b"", headers=headers + b"Access-Control-Max-Age: 86400\r\n")
