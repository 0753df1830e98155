"""A load generator that costs little: raw sockets and epoll, requests made before or in one step.

Closed loop: every connection sends its next request when the answer to the last one is complete;
that finds the highest rate. Open loop: requests are due at fixed times, whether or not the daemon
keeps up, and the time that counts for latency is when a request was *due*; that measures latency
without hiding the waits (no coordinated omission). One request is in flight a connection.
"""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Address = tuple[str, int]
_ANSWER_BYTES_MAX = 65_536
_DRAIN_S_MAX = 10.0


@dataclass(slots=True)
class Load:
    """What a run of the generator saw. Latencies are of acknowledged requests, in nanoseconds."""

    acknowledged: int = 0
    refused: int = 0
    first_refusal: bytes = b""
    began_ns: int = 0
    ended_ns: int = 0
    latencies_ns: array[int] = field(default_factory=lambda: array("q"))
    due_ns: array[int] = field(default_factory=lambda: array("q"))  # open loop: of each request
    unsent: int = 0  # open loop: due, but no connection was free when time was over

    @property
    def seconds(self) -> float:
        """How long requests were answered."""
        return (self.ended_ns - self.began_ns) / 1e9

    @property
    def rate_per_s(self) -> float:
        """Acknowledged requests a second."""
        return self.acknowledged / self.seconds if self.ended_ns > self.began_ns else 0.0

    def latency_ms(self, quantile: float) -> float:
        """A quantile of the latencies of acknowledged requests."""
        return quantile_of(self.latencies_ns, quantile) / 1e6


def quantile_of(values: Iterable[float], quantile: float) -> float:
    """The value that this share of the values does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]) if ordered else 0.0


class Generator:
    """Connections to one address, and what is in flight on them."""

    def __init__(self, address: Address, connections: int) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent_ns: dict[int, int] = {}
        self._partial: dict[int, bytes] = {}
        for _ in range(connections):
            self._connect(address)
        self.load = Load()

    def closed_loop(self, requests: Iterator[bytes], seconds: float) -> Load:
        """Sends as fast as answers come, for so long. The last answers are waited for."""
        load, now_ns = self.load, time.monotonic_ns
        load.began_ns = now_ns()
        until_ns = load.began_ns + int(seconds * 1e9)
        for descriptor in self._sockets:
            self._send(descriptor, next(requests), now_ns())
        while self._sent_ns:
            for descriptor in self._answered():
                moment_ns = now_ns()
                if moment_ns < until_ns:
                    self._send(descriptor, next(requests), moment_ns)
        load.ended_ns = now_ns()
        return load

    def open_loop(self, requests: Iterator[bytes], per_s: float, seconds: float) -> Load:
        """Sends requests when they are due; those that find no free connection wait their turn."""
        load, now_ns = self.load, time.monotonic_ns
        free = deque(self._sockets)
        gap_ns, total = 1e9 / per_s, int(per_s * seconds)
        load.began_ns = now_ns()
        sent = 0
        while sent < total or self._sent_ns:
            late_ns = now_ns() - load.began_ns
            while free and sent < total and sent * gap_ns <= late_ns:
                due_ns = load.began_ns + int(sent * gap_ns)
                load.due_ns.append(due_ns)
                self._send(free.popleft(), next(requests), due_ns)
                sent += 1
            if late_ns > (seconds + _DRAIN_S_MAX) * 1e9:
                load.unsent = total - sent
                break
            wait_s = max(0.0, (sent * gap_ns - late_ns) / 1e9) if free and sent < total else 0.05
            free.extend(self._answered(wait_s))
        load.ended_ns = now_ns()
        return load

    def close(self) -> None:
        """Closes every connection."""
        for one in self._sockets.values():
            one.close()
        self._epoll.close()

    def _connect(self, address: Address) -> None:
        one = socket.create_connection(address)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._sockets[one.fileno()] = one
        self._epoll.register(one.fileno(), select.EPOLLIN)

    def _send(self, descriptor: int, request: bytes, due_ns: int) -> None:
        self._sent_ns[descriptor] = due_ns
        self._sockets[descriptor].sendall(request)

    def _answered(self, wait_s: float = 5.0) -> list[int]:
        """The connections whose answer is complete, after waiting for at least one event."""
        done = []
        for descriptor, _ in self._epoll.poll(wait_s):
            data = self._sockets[descriptor].recv(_ANSWER_BYTES_MAX)
            if not data:
                raise ConnectionResetError("the daemon closed a connection under load")
            if self._partial:
                data = self._partial.pop(descriptor, b"") + data
            if is_complete(data):
                self._note(descriptor, data)
                done.append(descriptor)
            else:
                self._partial[descriptor] = data
        return done

    def _note(self, descriptor: int, answer: bytes) -> None:
        sent_ns = self._sent_ns.pop(descriptor)
        if answer.startswith(b"HTTP/1.1 200"):
            self.load.acknowledged += 1
            self.load.latencies_ns.append(time.monotonic_ns() - sent_ns)
        else:
            self.load.refused += 1
            self.load.first_refusal = self.load.first_refusal or answer


def is_complete(answer: bytes) -> bool:
    """Whether these bytes are one whole HTTP answer with a Content-Length."""
    head_end = answer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    at = answer.lower().find(b"content-length:", 0, head_end)
    assert at >= 0, "an answer without Content-Length"
    length = int(answer[at + 15 : answer.index(b"\r\n", at)])
    return len(answer) >= head_end + 4 + length
