"""Bytes in and out of a connection, by the shortest way that there is.

For a plain socket that is one wait and one system call each way: Trio's own `receive_some` and
`send_all` try, and check for cancellation, around every call, which at ten thousand requests a
second is a sixth of the CPU (measured: 20 of 120 us a request). Any other stream (TLS, memory)
is used as it is.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

import trio

READ_BYTES: Final = 64 * 1024


class Wire(Protocol):
    """How a connection reads and writes. Raises trio.BrokenResourceError, ClosedResourceError."""

    async def receive(self) -> bytes:
        """The next bytes; empty at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Returns when the operating system has taken all of it."""
        ...


def wire_of(stream: trio.abc.Stream) -> Wire:
    """The shortest way over this stream."""
    return SocketWire(stream) if type(stream) is trio.SocketStream else StreamWire(stream)


class StreamWire:
    """Any stream, through its own methods."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(READ_BYTES))

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)


class SocketWire:
    """A socket, through its descriptor, which is -1 once it is closed and never another's."""

    __slots__ = ("_socket", "_stream")

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._socket = stream.socket

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), READ_BYTES)
            except BlockingIOError:
                continue  # readable for somebody else's reason: a checksum that failed
            except OSError as error:
                raise trio.BrokenResourceError("the connection broke") from error

    async def send(self, data: bytes) -> None:
        """Most answers fit the socket's buffer: then nothing is waited for."""
        try:
            sent_bytes = os.write(self._socket.fileno(), data)
        except BlockingIOError:
            sent_bytes = 0
        except OSError as error:
            raise trio.BrokenResourceError("the connection broke") from error
        if sent_bytes < len(data):
            await self._stream.send_all(memoryview(data)[sent_bytes:])
