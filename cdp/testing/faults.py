"""Faults as data: what a service does with the requests that it gets, one after the other.

A `Service` is a script. It stands behind a transport without sockets (`transport`), which works in
virtual time, or behind the small server of `cdp.testing.server`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Answer:
    """Answers, after `delay_s`."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class Hang:
    """Takes the request, has its effect, and never answers."""


@dataclass(frozen=True)
class Drop:
    """Takes the request, has its effect, and closes the connection without an answer."""


@dataclass(frozen=True)
class Refuse:
    """Does not take a connection: nothing was received."""


Fault = Answer | Hang | Drop | Refuse


class Service:
    """Plays its faults in turn, then answers by `handler`. Remembers every request it received."""

    def __init__(
        self,
        *faults: Fault,
        handler: Callable[[httpx.Request], httpx.Response] | None = None,
    ) -> None:
        self.faults = list(faults)
        self.requests: list[httpx.Request] = []
        self._handler = handler or (lambda request: httpx.Response(200, content=b"{}"))

    def always(self, fault: Fault) -> None:
        """Does the same with every request from now on."""
        self.faults = []
        self._always = fault

    _always: Fault | None = None

    def heal(self) -> None:
        """Has no faults from now on."""
        self.faults, self._always = [], None

    def next_fault(self) -> Fault | None:
        """What happens to the next request; None where the handler answers it."""
        return self.faults.pop(0) if self.faults else self._always

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """Answers a request, or raises what a client sees where there is no answer."""
        await trio.lowlevel.checkpoint()
        fault = self.next_fault()
        if isinstance(fault, Refuse):
            raise httpx.ConnectError("connection refused", request=request)
        self.requests.append(request)
        if isinstance(fault, Hang):
            await trio.sleep_forever()
        if isinstance(fault, Drop):
            raise httpx.RemoteProtocolError("closed without an answer", request=request)
        if isinstance(fault, Answer):
            await trio.sleep(fault.delay_s)
            return httpx.Response(fault.status, content=fault.body, headers=fault.headers)
        return self._handler(request)

    def transport(self) -> httpx.AsyncBaseTransport:
        """A way to this service without a socket."""
        return _ServiceTransport(self)


class _ServiceTransport(httpx.AsyncBaseTransport):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        response = await self._service.answer(request)
        # Unread, as from a socket: so that the client's own bounds are in its way.
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx.ByteStream(response.content),
        )
