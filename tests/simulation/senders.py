"""Senders: they speak HTTP as the SDKs do, and send the same message until it is answered 200.

A request may be cut half-way, its answer may be lost on the way back, it may arrive twice at the
same time, in pieces, or after its successor. A sender believes only an answer that it read.
"""

from __future__ import annotations

import base64
import gzip
import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from cdp.clock import isoformat

if TYPE_CHECKING:
    from tests.simulation.network import SimStream
    from tests.simulation.story import Message
    from tests.simulation.world import World

PORT: Final = 8080
_TRIES_MAX: Final = 3_000  # a world in which a sender needs more is not alive


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: Any


class Sender:
    """One installation of an SDK, with its queue of messages."""

    def __init__(self, world: World, number: int, messages: list[Message]) -> None:
        self._world = world
        self._options = world.options
        self._rng = Random(f"sender {world.options.seed} {number}")
        self._stream: SimStream | None = None
        self.source = f"source{number % 2}"
        self._queue = sorted(
            ((message.at_s + self._delay_s(), n) for n, message in enumerate(messages))
        )
        self._messages = messages

    def _delay_s(self) -> float:
        late = self._rng.random() < self._options.reordered
        return self._rng.expovariate(20 / self._options.duration_s) if late else 0.0

    async def run(self) -> None:
        """Sends everything, in requests of what is due."""
        at = 0
        while at < len(self._queue):
            await trio.sleep_until(self._world.began_s + self._queue[at][0])
            due = [number for due_s, number in self._queue[at:] if self._is_due(due_s)]
            taken = due[: self._options.batch_events_max] or [self._queue[at][1]]
            at += len(taken)
            await self._send([self._messages[number] for number in taken])

    def _is_due(self, due_s: float) -> bool:
        return self._world.began_s + due_s <= trio.current_time()

    async def _send(self, messages: list[Message]) -> None:
        async with trio.open_nursery() as nursery:
            if self._rng.random() < self._options.request_repeated:
                nursery.start_soon(self._send_copy, messages)
            await self._until_answered(messages, self._rng)

    async def _send_copy(self, messages: list[Message]) -> None:
        # The same messages over another connection at about the same time, as a load balancer or
        # an impatient client makes them.
        copy = Sender(self._world, 0, [])
        copy.source = self.source
        copy._rng = Random(f"copy {messages[0].at_s} {self._options.seed}")
        soon_s = copy._rng.uniform(0, 2 * self._options.sync_s_mean)
        await trio.sleep(copy._rng.choice((0.0, soon_s, soon_s, copy._rng.uniform(0, 20))))
        await copy._until_answered(messages, copy._rng)

    async def _until_answered(self, messages: list[Message], rng: Random) -> None:
        for _ in range(_TRIES_MAX):
            answer = await self._exchange(self._request(messages))
            if answer is not None and answer.status == 200:
                self._world.answered(self.source, messages, answer)
                return
            await trio.sleep(self._pause_s(answer, rng))
        self._world.check(False, "a sender was never answered", len(messages))

    def _pause_s(self, answer: Answer | None, rng: Random) -> float:
        if answer is None:
            return rng.uniform(0.1, 4.0)
        self._world.check(answer.status in (429, 503), "a good request was refused", answer)
        retry_after = answer.headers.get(b"retry-after", b"")
        self._world.check(retry_after.isdigit(), "turned away without Retry-After", answer)
        return int(retry_after) + rng.uniform(0, 1)

    def _request(self, messages: list[Message]) -> bytes:
        bodies = [message.body for message in messages]
        if len(messages) == 1 and messages[0].good and self._rng.random() < 0.5:
            path, payload = f"/v1/{bodies[0]['type']}", bodies[0]
        else:
            sent_at = isoformat(self._world.clock.now_us())
            path, payload = "/v1/batch", {"batch": bodies, "sentAt": sent_at}
        body = msgspec.json.encode(payload)
        credential = base64.b64encode(f"key-{self.source}:".encode()).decode()
        head = f"POST {path} HTTP/1.1\r\nHost: cdp.example\r\nAuthorization: Basic {credential}\r\n"
        if self._rng.random() < self._options.gzip:
            body = gzip.compress(body, 1, mtime=0)
            head += "Content-Encoding: gzip\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    async def _exchange(self, request: bytes) -> Answer | None:
        """One try. None: no answer that can be believed."""
        stream, self._stream = self._stream or self._world.network.connect(PORT), None
        if stream is None:
            return None
        fate = math.inf if self._world.healed else self._rng.random()
        answer: Answer | None = None
        with trio.move_on_after(self._options.client_timeout_s):
            try:
                if fate < self._options.request_cut:
                    await stream.send_all(request[: self._rng.randrange(len(request))])
                elif fate < self._options.request_cut + self._options.reply_unread:
                    await stream.send_all(request)
                    await trio.sleep(self._rng.choice((0.0, 0.01, 1.0)))
                else:
                    await self._send_pieces(stream, request)
                    answer = await read_answer(stream)
            except trio.BrokenResourceError:
                answer = None
        self._keep(stream, answer)
        return answer

    def _keep(self, stream: SimStream, answer: Answer | None) -> None:
        if answer is not None and answer.headers.get(b"connection", b"").lower() != b"close":
            self._stream = stream
        elif self._rng.random() < 0.5:
            stream.reset()
        else:
            stream.close()

    async def _send_pieces(self, stream: SimStream, request: bytes) -> None:
        if self._rng.random() >= self._options.trickle:
            await stream.send_all(request)
            return
        cut = self._rng.randrange(1, len(request))
        for piece in (request[:cut], request[cut:]):
            await stream.send_all(piece)
            await trio.sleep(self._rng.choice((0.0, 0.2)))


async def read_answer(stream: SimStream) -> Answer | None:
    """One HTTP answer with a Content-Length; None where the connection ends before it does."""
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        part = await stream.receive_some()
        if not part:
            return None
        data += part
    status, *lines = bytes(data[:end]).split(b"\r\n")
    headers = dict(
        (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    )
    length = int(headers.get(b"content-length", b"0"))
    body = data[end + 4 :]
    while len(body) < length:
        part = await stream.receive_some()
        if not part:
            return None
        body += part
    return Answer(int(status.split()[1]), headers, msgspec.json.decode(body))
