"""A network of bytes in memory: connections to the gateway, and services that destinations call.

`SimStream` is a connection's end with a close, a half-close and a reset, as a socket has.
`SimNetwork` is the `Network` of the environment: `listen` binds a port in the world, `transport`
answers HTTP requests from the world's services, and no byte leaves the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Service = "Callable[[httpx.Request], Awaitable[httpx.Response]]"


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    def __init__(self) -> None:
        self._peer: SimStream = self
        self._received = bytearray()
        self._wake = trio.Event()
        self._ended = False  # the peer sends no more
        self._closed = False
        self._reset = False

    @staticmethod
    def pair() -> tuple[SimStream, SimStream]:
        """Both ends of a new connection."""
        near, far = SimStream(), SimStream()
        near._peer, far._peer = far, near
        return near, far

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        if self._reset or self._peer._closed:
            raise trio.BrokenResourceError("the other end is gone")
        self._peer._received += data
        self._peer._notify()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self._peer._ended = True
        self._peer._notify()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._received:
            if self._closed:
                raise trio.ClosedResourceError("this end is closed")
            if self._reset:
                raise trio.BrokenResourceError("the connection was reset")
            if self._ended:
                return b""
            await self._wake.wait()
        data = bytes(self._received[:max_bytes])
        del self._received[: len(data)]
        return data

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Closes without a checkpoint."""
        self._closed = True
        self._peer._ended = True
        self._notify()
        self._peer._notify()

    def reset(self) -> None:
        """Tears the connection down at both ends; what was not read is lost."""
        for end in (self, self._peer):
            end._reset = True
            end._received.clear()
            end._notify()

    def _notify(self) -> None:
        self._wake.set()
        self._wake = trio.Event()


class SimListener(trio.abc.Listener[SimStream]):
    """Where a gateway accepts connections."""

    def __init__(self, network: SimNetwork, address: tuple[str, int]) -> None:
        self._network = network
        self.address = address
        self._send, self._receive = trio.open_memory_channel[SimStream](64)
        self.streams: list[SimStream] = []

    def connect(self) -> SimStream | None:
        """A client's end; None where the backlog is full."""
        near, far = SimStream.pair()
        try:
            self._send.send_nowait(far)
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        self.streams.append(far)
        return near

    async def accept(self) -> SimStream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._receive.close()
        self._network.unbind(self)
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """The process is gone: every connection breaks."""
        self._receive.close()
        self._network.unbind(self)
        for stream in self.streams:
            stream.reset()


class SimNetwork:
    """The network of one world. `services` maps a host name to what answers there."""

    def __init__(self) -> None:
        self._listeners: dict[int, SimListener] = {}
        self.services: dict[str, Callable[[httpx.Request], Awaitable[httpx.Response]]] = {}

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        await trio.lowlevel.checkpoint()
        if port in self._listeners:
            raise OSError(f"{host}:{port}: address in use")
        self._listeners[port] = SimListener(self, (host, port))
        return [self._listeners[port]]

    def unbind(self, listener: SimListener) -> None:
        """Frees the port of a listener that was closed."""
        if self._listeners.get(listener.address[1]) is listener:
            del self._listeners[listener.address[1]]

    def connect(self, port: int) -> SimStream | None:
        """A connection to whatever listens there; None is a refusal."""
        listener = self._listeners.get(port)
        return listener.connect() if listener is not None else None

    def power_off(self) -> None:
        """Breaks every connection and frees every port."""
        for listener in list(self._listeners.values()):
            listener.reset()

    def transport(self) -> httpx.AsyncBaseTransport:
        return SimTransport(self)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        if host not in self.services:
            raise OSError(f"{host}: name not known")
        return ["203.0.113.7"]


class SimTransport(httpx.AsyncBaseTransport):
    """Hands a request to the service of its host, within the client's read timeout."""

    def __init__(self, network: SimNetwork) -> None:
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        service = self._network.services.get(request.url.host)
        if service is None:
            raise httpx.ConnectError("connection refused", request=request)
        await request.aread()
        limit_s = request.extensions.get("timeout", {}).get("read")
        try:
            with trio.fail_after(limit_s if limit_s is not None else float("inf")):
                return await service(request)
        except trio.TooSlowError:
            raise httpx.ReadTimeout("no answer in time", request=request) from None
