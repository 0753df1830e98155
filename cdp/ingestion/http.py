"""The front door: connections over any Trio stream, their time limits, and the drain.

A connection is one task and one cancel scope. The scope's deadline is moved only when it would
come too early, so a busy connection pays nothing for its time limits: an idle connection ends
after `idle_timeout_s`, at most a quarter later. A slow head or body has an exact deadline.

The unit of failure is the connection: a bug ends one with 500, never its neighbours.
"""

from __future__ import annotations

import math
from collections import Counter as Tallies
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from cdp.ingestion.endpoints import RETRY_AFTER_S, Endpoints, overloaded
from cdp.ingestion.refusal import Refusal
from cdp.ingestion.requests import Request, RequestReader
from cdp.ingestion.responses import CONTINUE, Answer, refusal_answer, to_bytes
from cdp.ingestion.submission import Submission
from cdp.ingestion.wire import READ_BYTES, wire_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.config import Config
    from cdp.environment import Environment
    from cdp.ingestion.actor import Intake
    from cdp.ingestion.stamp import Stamper
    from cdp.telemetry import Counter, Journal, Metrics

FAREWELL_S: Final = 1.0  # for the last words to a client that is turned away

_IDLE_SLACK: Final = 1.25
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)

_STOPPING: Final = Refusal(503, "unavailable", "shutting down", retry_after_s=RETRY_AFTER_S)
_CROWDED: Final = Refusal(
    503, "overloaded", "too many connections", retry_after_s=RETRY_AFTER_S, closes=True
)
_CROWDED_ADDRESS: Final = Refusal(
    429, "overloaded", "too many connections from this address", retry_after_s=RETRY_AFTER_S
)
_SLOW: Final = Refusal(408, "request_timeout", "the request took too long to arrive", closes=True)
_BUG: Final = Refusal(500, "internal_error", "an error of the server, which is logged", closes=True)


class Gateway:
    """The data plane: takes connections until it is told to stop, then lets them finish."""

    def __init__(
        self,
        *,
        config: Config,
        intake: Intake,
        environment: Environment,
        metrics: Metrics,
        journal: Journal,
        stamper: Stamper | None = None,
    ) -> None:
        self.limits = config.limits
        self.endpoints = Endpoints(
            config=config, intake=intake, environment=environment, stamper=stamper
        )
        self.journal = journal
        self._metrics = metrics
        self._answers: dict[int, Counter] = {}
        self._connections: set[Connection] = set()
        self._per_address: Tallies[str] = Tallies()
        metrics.gauge("cdp_ingestion_connections", lambda: len(self._connections))
        metrics.gauge("cdp_ingestion_held_bytes", lambda: self.endpoints.held_bytes)

    async def serve(
        self, listeners: Sequence[trio.abc.Listener[Any]], stopping: trio.Event
    ) -> None:
        """Serves until `stopping`, then closes what is idle and returns when the rest has ended."""
        async with trio.open_nursery() as connections, trio.open_nursery() as accepting:
            serve = partial(trio.serve_listeners, handler_nursery=connections)
            accepting.start_soon(serve, self.handle, list(listeners))
            await stopping.wait()
            accepting.cancel_scope.cancel()
            self.stop()

    def stop(self) -> None:
        """Ends idle connections and turns new ones away; the others end with their answer."""
        self.endpoints.stopping = True
        for connection in list(self._connections):
            connection.end_if_idle()

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serves one connection to its end, and closes it."""
        address = _peer_of(stream)
        refusal = self._refuses(address)
        if refusal is not None:
            self.count(refusal.status)
            await _turn_away(stream, refusal)
            return
        connection = Connection(self, stream, address)
        self._connections.add(connection)
        self._per_address[address] += 1
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    def _refuses(self, address: str) -> Refusal | None:
        if self.endpoints.stopping:
            return _STOPPING
        if len(self._connections) >= self.limits.connections_max:
            return _CROWDED
        crowded = address and self._per_address[address] >= self.limits.connections_per_ip_max
        return _CROWDED_ADDRESS if crowded else None

    def count(self, status: int) -> None:
        """Counts an answer."""
        counter = self._answers.get(status)
        if counter is None:
            name = "cdp_ingestion_responses_total"
            counter = self._answers[status] = self._metrics.counter(name, status=str(status))
        counter.add()


class Connection:
    """One connection: reads requests, answers them in order, and keeps to its time limits."""

    __slots__ = (
        "_address",
        "_gateway",
        "_held_bytes",
        "_phase",
        "_phase_started_s",
        "_reader",
        "_scope",
        "_stream",
        "_wire",
    )

    def __init__(self, gateway: Gateway, stream: trio.abc.Stream, address: str) -> None:
        self._gateway = gateway
        self._stream = stream
        self._wire = wire_of(stream)
        self._address = address
        self._reader = RequestReader(gateway.limits)
        self._scope = trio.CancelScope()
        self._phase = "idle"  # idle, head, body: what is waited for; busy: it is not the client
        self._phase_started_s = 0.0
        self._held_bytes = 0

    async def run(self) -> None:
        """Converses until either side ends it, then closes the stream."""
        try:
            with self._scope:
                await self._converse_safely()
            if self._scope.cancelled_caught and self._phase in ("head", "body"):
                self._gateway.count(_SLOW.status)
                await self._say_farewell(_SLOW)
        finally:
            self._hold(0)
            with trio.move_on_after(FAREWELL_S, shield=True):
                await _close(self._stream)

    def end_if_idle(self) -> None:
        """Ends the connection where no request has begun."""
        if self._phase == "idle":
            self._scope.cancel()

    async def _converse_safely(self) -> None:
        try:
            await self._converse()
        except _GONE:
            pass  # the client is gone; what it had sent whole is stored, the rest is not
        except Exception as bug:
            self._gateway.journal.error("connection_crashed", error=bug)
            await self._refuse(_BUG)

    async def _converse(self) -> None:
        receive, reader = self._wire.receive, self._reader
        self._expect_more()
        while data := await receive():
            requests = reader.feed(data)
            del data  # its memory is of use while the answer is made
            held_bytes = reader.body_bytes
            for request in requests:
                held_bytes += len(request.body)
            self._hold(held_bytes)
            if requests and not await self._answer(requests):
                return
            if reader.refusal is None and self._overloads():
                reader.refusal = overloaded("too many bytes are being worked on", closes=True)
            if reader.refusal is not None:
                return await self._refuse(reader.refusal)
            if reader.expects_continue:
                reader.expects_continue = False
                await self._wire.send(CONTINUE)
            self._hold(reader.body_bytes)
            self._expect_more()

    async def _answer(self, requests: list[Request]) -> bool:
        """Answers in order; tells whether the connection goes on."""
        self._phase = "busy"
        self._postpone()
        endpoints = self._gateway.endpoints
        begun: list[Answer | Submission] = []
        parts: list[bytes] = []
        goes_on = True
        try:
            for request in requests:
                begun.append(await endpoints.begin(request, self._address))
            for request, result in zip(requests, begun, strict=True):
                answer = await endpoints.finish(result) if type(result) is Submission else result
                assert isinstance(answer, Answer), "finish() gives an answer"
                if goes_on:
                    goes_on = request.keeps_alive and not answer.closes and not endpoints.stopping
                    parts.append(self._bytes(request, answer, closes=not goes_on))
        finally:
            for result in begun:
                endpoints.release(result)
        await self._wire.send(parts[0] if len(parts) == 1 else b"".join(parts))
        return goes_on

    def _bytes(self, request: Request, answer: Answer, *, closes: bool) -> bytes:
        self._gateway.count(answer.status)
        head = request.method == b"HEAD"
        return to_bytes(answer, head=head, closes=closes, keeps_alive=request.old)

    def _expect_more(self) -> None:
        """Sets the deadline of what is waited for."""
        reader, limits = self._reader, self._gateway.limits
        if reader.in_body:
            self._enter("body")
            allowed_s = limits.body_grace_s + reader.body_bytes / limits.body_bytes_per_s_min
            self._scope.deadline = self._phase_started_s + allowed_s
        elif reader.in_head:
            self._enter("head")
            self._scope.deadline = self._phase_started_s + limits.header_timeout_s
        else:
            self._phase = "idle"
            self._postpone()
            if self._gateway.endpoints.stopping:
                self._scope.cancel()

    def _enter(self, phase: str) -> None:
        if self._phase != phase:
            self._phase = phase
            self._phase_started_s = trio.current_time()

    def _postpone(self) -> None:
        """Sees to it that there is at least the idle time left."""
        idle_s = self._gateway.limits.idle_timeout_s
        now_s = trio.current_time()
        if not idle_s <= self._scope.deadline - now_s <= _IDLE_SLACK * idle_s:
            self._scope.deadline = now_s + _IDLE_SLACK * idle_s

    def _hold(self, held_bytes: int) -> None:
        if held_bytes != self._held_bytes:
            self._gateway.endpoints.held_bytes += held_bytes - self._held_bytes
            self._held_bytes = held_bytes

    def _overloads(self) -> bool:
        held_bytes_max = self._gateway.limits.inflight_bytes_max
        return self._reader.in_body and self._gateway.endpoints.held_bytes > held_bytes_max

    async def _refuse(self, refusal: Refusal) -> None:
        self._phase = "busy"
        self._hold(0)
        self._gateway.count(refusal.status)
        await self._say_farewell(refusal)

    async def _say_farewell(self, refusal: Refusal) -> None:
        """Answers, then reads and drops what still comes, lest a reset outruns the answer."""
        self._scope.deadline = math.inf
        with trio.move_on_after(self._gateway.limits.body_grace_s):
            await _send_last(self._stream, refusal)


async def _turn_away(stream: trio.abc.Stream, refusal: Refusal) -> None:
    with trio.move_on_after(FAREWELL_S):
        await _send_last(stream, refusal)
    with trio.move_on_after(FAREWELL_S, shield=True):
        await _close(stream)


async def _send_last(stream: trio.abc.Stream, refusal: Refusal) -> None:
    answer = to_bytes(refusal_answer(refusal), head=False, closes=True, keeps_alive=False)
    try:
        await stream.send_all(answer)
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        while await stream.receive_some(READ_BYTES):
            pass
    except _GONE:
        pass


async def _close(stream: trio.abc.Stream) -> None:
    with suppress(*_GONE):
        await stream.aclose()


def _peer_of(stream: trio.abc.Stream) -> str:
    """The peer's address; empty where the stream has none, as in memory."""
    transport = getattr(stream, "transport_stream", stream)
    socket = getattr(transport, "socket", None)
    if socket is None:
        return ""
    try:
        return str(socket.getpeername()[0])
    except (OSError, IndexError):
        return ""
