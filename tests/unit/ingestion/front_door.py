"""Ingestion over memory streams and a store in memory: what the tests of it talk to."""

from __future__ import annotations

import base64
import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio
import trio.testing

from cdp.config import Config, Consent, Limits, Source
from cdp.config import Gateway as GatewayTable
from cdp.domain.event import Event, decode_event
from cdp.environment import Environment
from cdp.ingestion import Gateway, Intake
from cdp.ingestion.accounts import Tally, read_counts
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.telemetry import Journal, Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cdp.ingestion.stamp import Stamper

NOW_US = 1_795_000_000_000_000  # 2026-11-18
KEY = "wk_test"
BASIC = b"Basic " + base64.b64encode(KEY.encode() + b":")


class HandClock:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.time_us = NOW_US

    def now_us(self) -> int:
        return self.time_us


class Reply:
    """One response, taken apart."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split()[1])
        pairs = (line.split(b": ", 1) for line in lines[1:])
        self.headers = {name.decode().lower(): value.decode() for name, value in pairs}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rejections(self) -> list[tuple[int, str]]:
        return [(row["index"], row["code"]) for row in self.json["rejected"]]


def parse_replies(data: bytes) -> list[Reply]:
    replies = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"half a response: {head!r}"
        if head.startswith(b"HTTP/1.1 100"):
            continue
        reply = Reply(head, b"")
        length = int(reply.headers.get("content-length", 0))
        reply.body, data = data[:length], data[length:]
        replies.append(reply)
    return replies


def request(
    method: str, target: str, body: bytes = b"", *, auth: bytes | None = BASIC, **headers: str
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1"), b"Host: cdp.test"]
    if auth:
        lines.append(b"Authorization: " + auth)
    lines += [f"{k.replace('_', '-')}: {v}".encode("latin-1") for k, v in headers.items()]
    if body or method == "POST":
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def track(number: int | str = 1, **fields: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "Bought",
        "userId": "u1",
        "messageId": f"m{number}",
        **fields,
    }


Door = TypeVar("Door", bound="FrontDoor")


class FrontDoor:
    """A gateway and a log writer, running."""

    def __init__(
        self,
        limits: Limits,
        sources: dict[str, Source],
        consent: Consent | None = None,
        **gateway: Any,
    ) -> None:
        self.clock = HandClock()
        self.store = MemoryStore()
        self.log = Log(self.store, "events")
        self.lines: list[str] = []
        self.metrics = Metrics()
        self.journal = Journal(self.clock, self.lines.append)
        self.limits = limits
        self.rng = random.Random(7)
        self.config = Config(
            limits=limits,
            sources=sources,
            gateway=GatewayTable(**gateway),
            consent=consent or Consent(),
        )
        self.intake = self.new_intake()
        self.nursery: trio.Nursery
        self.gateway = Gateway(
            config=self.config,
            intake=self.intake,
            environment=self.environment(),
            metrics=self.metrics,
            journal=self.journal,
            stamper=self.new_stamper(),
        )

    def new_stamper(self) -> Stamper | None:
        return None

    def new_intake(self) -> Intake:
        return Intake(
            store=self.store,
            events=self.log,
            clock=self.clock,
            limits=self.limits,
            metrics=self.metrics,
            journal=self.journal,
            key=b"k" * 16,
        )

    def environment(self) -> Environment:
        async def run_in_thread(function: Any, *args: Any) -> Any:
            await trio.lowlevel.checkpoint()
            return function(*args)

        return Environment(
            clock=self.clock,
            rng=self.rng,
            network=None,  # type: ignore[arg-type]
            run_in_thread=run_in_thread,
            open_store=lambda path: None,
            environ=lambda name: None,
        )

    async def connect(self) -> trio.abc.HalfCloseableStream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.gateway.handle, theirs)
        await trio.testing.wait_all_tasks_blocked()
        return ours

    async def talk(self, data: bytes) -> list[Reply]:
        """Sends bytes, says that it was all, and reads to the end."""
        stream = await self.connect()
        await stream.send_all(data)
        await stream.send_eof()
        return parse_replies(await read_to_end(stream))

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: Any) -> Reply:
        replies = await self.talk(request(method, target, body, **headers))
        assert len(replies) == 1
        return replies[0]

    async def post(self, target: str, value: Any, **headers: Any) -> Reply:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self.ask("POST", target, body, **headers)

    async def send(self, *events: Any, **headers: Any) -> Reply:
        return await self.post("/v1/batch", {"batch": list(events)}, **headers)

    async def stored(self, wire: dict[str, Any], path: str = "/v1/batch", **headers: Any) -> Event:
        """Sends one event, which must be accepted, and gives it as stored."""
        body = {"batch": [wire]} if path == "/v1/batch" else wire
        reply = await self.post(path, body, **headers)
        assert reply.status == 200
        assert reply.json["accepted"] == 1, reply.json
        return self.events()[-1]

    def events(self) -> list[Event]:
        return [decode_event(entry.record) for entry in self.log.read(0, 100_000)]

    def counts(self, source: str = "web") -> Tally:
        return read_counts(self.store, source)


async def read_to_end(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while part := await stream.receive_some(65_536):
        data += part
    return data


@asynccontextmanager
async def open_front_door(
    limits: Limits | None = None, sources: dict[str, Source] | None = None, **gateway: Any
) -> AsyncIterator[FrontDoor]:
    sources = sources or {"web": Source(write_key=KEY)}
    async with run_door(FrontDoor(limits or Limits(), sources, **gateway)) as door:
        yield door


@asynccontextmanager
async def run_door(door: Door) -> AsyncIterator[Door]:
    async with trio.open_nursery() as nursery:
        door.nursery = nursery
        nursery.start_soon(door.intake.run)
        yield door
        nursery.cancel_scope.cancel()
    assert not door.lines, door.lines
