"""A request to its answer: what each route does, and the one way of events into the log.

`begin` does everything up to the log writer and `finish` waits for it, so that a connection with
several requests in hand has them stored by one flush.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from cdp.errors import Overloaded
from cdp.ingestion.addresses import TrustedProxies, apply_policy
from cdp.ingestion.admission import admit, admit_surplus
from cdp.ingestion.authentication import Authenticator, KnownSource, check_origin
from cdp.ingestion.consent_endpoint import GPC_ANSWER, NOTED, read_statement
from cdp.ingestion.decoding import decompress, decompress_parts, without_mark
from cdp.ingestion.envelope import Contents, open_body, write_key_in
from cdp.ingestion.hearing import hear
from cdp.ingestion.normalisation import Scope
from cdp.ingestion.pixel import pixel_body, query_fields, write_key_of
from cdp.ingestion.refusal import Refusal
from cdp.ingestion.responses import (
    GIF_ANSWER,
    HEALTHY,
    NOTHING_TO_DO,
    Answer,
    preflight_answer,
    refusal_answer,
    settled_answer,
)
from cdp.ingestion.routes import Route, find_route
from cdp.ingestion.settings_endpoint import public_place, rudder_source_config, segment_settings
from cdp.ingestion.stamp import GPC_HEADER, Stamper
from cdp.ingestion.submission import Submission
from cdp.ingestion.timestamps import parse_time

if TYPE_CHECKING:
    from cdp.config import Config
    from cdp.environment import Environment
    from cdp.ingestion.actor import Intake
    from cdp.ingestion.requests import Request

RETRY_AFTER_S: Final = 2

_ADMITTED_AT_ONCE: Final = 128  # events between two looks at what else is to do
_INFLATED_AT_ONCE_BYTES_MAX: Final = 2 * 1024  # of what came, which may be 1,000 times as much
_NO_FIELDS: Final[dict[str, str]] = {}
_FIXED: Final = {"metrics": NOTHING_TO_DO, "health": HEALTHY, "gpc": GPC_ANSWER}


class Endpoints:
    """What the routes do. `held_bytes` is what requests in hand hold, over all connections."""

    def __init__(
        self,
        *,
        config: Config,
        intake: Intake,
        environment: Environment,
        stamper: Stamper | None = None,
    ) -> None:
        self.held_bytes = 0
        self.stopping = False
        self._config = config
        self._limits = config.limits
        self._intake = intake
        self._environment = environment
        self._authenticator = Authenticator(config.sources)
        self._proxies = TrustedProxies(config.gateway.trusted_proxies)
        self._stamper = stamper or Stamper.from_config(config)

    async def begin(self, request: Request, peer: str) -> Answer | Submission:
        """The answer, or a submission that the log writer has taken, for `finish`."""
        try:
            return await self._begin(request, peer)
        except Refusal as refusal:
            return refusal_answer(refusal)

    async def finish(self, submission: Submission) -> Answer:
        """Waits until the events are on disk, and says what became of each."""
        try:
            await submission.settled()
        except Overloaded as error:
            return refusal_answer(_unavailable(str(error), error.retry_after_s))
        return submission.answer or settled_answer(submission)

    def release(self, result: Answer | Submission) -> None:
        """Gives back what a submission held; to be called once for each result of `begin`."""
        if isinstance(result, Submission):
            self.held_bytes -= result.held_bytes

    async def _begin(self, request: Request, peer: str) -> Answer | Submission:
        path, _, query = request.target.partition(b"?")
        route = find_route(path)
        if request.method == b"OPTIONS":
            return preflight_answer(request.headers.get(b"access-control-request-headers"))
        if route is None:
            raise Refusal(404, "not_found", "no such path; events go to /v1/batch")
        if self.stopping:
            raise _unavailable("shutting down", RETRY_AFTER_S)
        if request.method not in ((b"POST",) if route.takes_posts else (b"GET", b"HEAD")):
            raise Refusal(405, "method_not_allowed", "this path does not take this method")
        fields = query_fields(query) if query else _NO_FIELDS
        if route.kind == "event" or route.kind == "batch":
            return await self._take_events(request, route, fields, peer)
        if route.kind in _FIXED:
            return _FIXED[route.kind]
        if route.kind == "consent":
            return await self._take_consent(request, route, fields, peer)
        if route.kind == "pixel":
            return await self._take_pixel(request, route, fields, peer)
        return self._settings(request, route, fields, peer)

    def _settings(
        self, request: Request, route: Route, fields: dict[str, str], peer: str
    ) -> Answer:
        if route.kind == "source_config":
            return rudder_source_config(self._source(request, fields) or _unknown_key())
        try:
            source = self._authenticator.by_key(route.key)
        except Refusal as refusal:
            raise Refusal(404, refusal.code, refusal.message) from refusal
        gateway = self._config.gateway
        scheme = "https" if gateway.tls_certificate else "http"
        forwarded = request.headers.get(b"x-forwarded-proto")
        if forwarded in (b"http", b"https") and self._proxies.trusts(peer):
            scheme = forwarded.decode()
        place = public_place(gateway.public_url, request.headers.get(b"host"), scheme)
        return segment_settings(source, place)

    async def _take_pixel(
        self, request: Request, route: Route, fields: dict[str, str], peer: str
    ) -> Answer:
        try:
            request.body = pixel_body(fields)
            taken = await self._take_events(request, route, fields, peer)
        except Refusal:
            return GIF_ANSWER  # a page cannot see more, and a broken image would be seen by people
        try:
            if isinstance(taken, Submission):
                await self.finish(taken)
        finally:
            self.release(taken)
        return GIF_ANSWER

    async def _take_events(
        self, request: Request, route: Route, fields: dict[str, str], peer: str
    ) -> Answer | Submission:
        source = self._source(request, fields)
        body = await self._plain_body(request)
        contents = open_body(body, self._limits, expects_batch=route.kind == "batch")
        if source is None:
            source = self._source_in(contents)
        check_origin(source, request.headers.get(b"origin"))
        scope = self._scope(request, route, contents, source, peer)
        submission = Submission(source.name, scope.received_at_us)
        await _admit_all(submission, contents, scope)
        if not submission.records and not submission.rejected_count:
            return NOTHING_TO_DO
        self._offer(submission, held_bytes=max(0, len(body) - len(request.body)))
        request.body = b""  # while the events wait to be stored, others can have its memory
        return submission

    async def _take_consent(
        self, request: Request, route: Route, fields: dict[str, str], peer: str
    ) -> Submission:
        source = self._source(request, fields)
        body = await self._plain_body(request)
        if source is None:
            source = self._authenticator.by_key(write_key_in(body))
        check_origin(source, request.headers.get(b"origin"))
        if self._intake.ledger is None:
            raise _unavailable("consent is not recorded here", RETRY_AFTER_S)
        if len(body) > self._limits.event_bytes_max:
            text = f"body is longer than {self._limits.event_bytes_max} bytes; shorten it"
            raise Refusal(400, "payload_too_large", text)
        scope = self._scope(request, route, Contents([], single=True), source, peer)
        submission = Submission(source.name, scope.received_at_us)
        said = read_statement(body, scope.sender, scope.received_at_us)
        hear(submission, [], said, scope.namer)
        submission.answer = NOTED
        self._offer(submission, held_bytes=max(0, len(body) - len(request.body)))
        return submission

    def _source(self, request: Request, fields: dict[str, str]) -> KnownSource | None:
        headers = request.headers
        query_key = write_key_of(fields) if fields else None
        return self._authenticator.by_headers(
            headers.get(b"authorization"), headers.get(b"x-write-key"), query_key
        )

    def _source_in(self, contents: Contents) -> KnownSource:
        key = contents.write_key
        if key is None and contents.raws:
            key = write_key_in(contents.raws[0])
        return self._authenticator.by_key(key)

    async def _plain_body(self, request: Request) -> bytes:
        body, bytes_max = request.body, self._limits.body_bytes_max
        encoding = request.headers.get(b"content-encoding", b"")
        if encoding and len(body) > _INFLATED_AT_ONCE_BYTES_MAX:
            parts: list[bytes] = []
            for part in decompress_parts(body, encoding, bytes_max):
                parts.append(part)
                await trio.lowlevel.checkpoint()
            body = without_mark(b"".join(parts))
        else:
            body = decompress(body, encoding, bytes_max)
        if not body:
            raise Refusal(400, "invalid_json", "body is empty")
        return body

    def _scope(
        self, request: Request, route: Route, contents: Contents, source: KnownSource, peer: str
    ) -> Scope:
        headers = request.headers
        sent_at = contents.sent_at
        if sent_at is None and b"sentat" in headers:
            sent_at = headers[b"sentat"].decode("latin-1")
        received_at_us = self._environment.clock.now_us()
        whole_address = self._proxies.client_address(peer, headers.get(b"x-forwarded-for"))
        address = apply_policy(whole_address, headers.get(b"x-ip-policy"))
        browser = source.config.kind != "server" and _from_browser(headers, route)
        agent = headers.get(b"user-agent") if browser else None
        origin = headers.get(b"origin")
        sender = self._stamper.sender(
            source,
            gpc=headers.get(GPC_HEADER) == b"1",
            origin=origin.decode("latin-1") if origin else None,
            address=whole_address,
            kept_address=address if browser else None,
            agent=agent,
        )
        return Scope(
            source=source.name,
            received_at_us=received_at_us,
            new_id=self._environment.new_id,
            limits=self._limits,
            sent_at_us=parse_time(sent_at),
            path_type=route.type if contents.single else None,
            fallback_type=route.type,
            context=contents.context,
            integrations=contents.integrations,
            address=address if browser else None,
            direct_address=address,
            user_agent=agent.decode("utf-8", "replace") if agent else None,
            sender=sender,
            namer=self._intake.namer,
            plan=self._intake.plan,
        )

    def _offer(self, submission: Submission, *, held_bytes: int) -> None:
        if self.held_bytes + held_bytes > self._limits.inflight_bytes_max:
            raise overloaded("too many bytes are being worked on")
        if not self._intake.offer(submission):
            raise overloaded("too many events wait to be stored")
        submission.held_bytes = held_bytes
        self.held_bytes += held_bytes


async def _admit_all(submission: Submission, contents: Contents, scope: Scope) -> None:
    raws, limit = contents.raws, scope.limits.batch_events_max
    admit(submission, raws[: min(_ADMITTED_AT_ONCE, limit)], 0, scope)
    for first in range(_ADMITTED_AT_ONCE, min(len(raws), limit), _ADMITTED_AT_ONCE):
        await trio.lowlevel.checkpoint()
        admit(submission, raws[first : min(first + _ADMITTED_AT_ONCE, limit)], first, scope)
    if len(raws) > limit:
        admit_surplus(submission, raws[limit:], limit, scope)


def _from_browser(headers: dict[bytes, bytes], route: Route) -> bool:
    return (
        route.browser
        or b"origin" in headers
        or headers.get(b"user-agent", b"").startswith(b"Mozilla/")
        or headers.get(b"content-type", b"").startswith(b"text/plain")
    )


def overloaded(message: str, *, closes: bool = False) -> Refusal:
    """Too much at once: nothing was stored, and it may be sent again."""
    return Refusal(429, "overloaded", message, retry_after_s=RETRY_AFTER_S, closes=closes)


def _unavailable(message: str, retry_after_s: int) -> Refusal:
    return Refusal(503, "unavailable", message, retry_after_s=retry_after_s)


def _unknown_key() -> KnownSource:
    raise Refusal(401, "invalid_write_key", "no write key was given")
