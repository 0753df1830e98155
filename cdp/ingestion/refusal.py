"""Why something from outside is not taken: a whole request (`Refusal`) or one event (`Rejection`).

A refusal becomes an HTTP answer and stores nothing. A rejection concerns one event of a request
that is otherwise fine: the request is answered 200, the event is listed in the answer and kept
for repair (`cdp.ingestion.rejected`).
"""

from __future__ import annotations

from cdp.errors import CdpError, InvalidEvent


class Refusal(CdpError):
    """A request that is turned away: the status and the two fields of the error body.

    `closes` says that what follows on the connection cannot be trusted or is not wanted.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        closes: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
        self.closes = closes


class Rejection(InvalidEvent):
    """One event that cannot be accepted. `path` is the place in the event, in wire names."""

    def __init__(self, code: str, message: str, *, path: str = "") -> None:
        super().__init__(code, message)
        self.path = path


def malformed(message: str) -> Refusal:
    """The refusal of a message that is not clean HTTP/1.1; the connection ends with it."""
    return Refusal(400, "bad_request", message, closes=True)
