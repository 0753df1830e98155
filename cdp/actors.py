"""Supervised actors: a nursery is the supervisor, a bounded channel is the mailbox.

Three rules are the whole model:

* Back-pressure. `send` waits while a mailbox is full, so a slow reader slows its writers, as far
  as the ingress, which uses `offer` and turns its caller away.
* Crash. An exception that leaves an actor is a bug in the actor, not in the message. The actor runs
  again with fresh state and the same mailbox; after too many crashes its supervisor gives up: the
  error escapes, the siblings are cancelled, and the parent decides.
* Drain. An actor returns when its mailbox has ended, and that ends the mailboxes that it feeds.
  Ending the head drains the whole line, in order.

A mailbox is not storage: a crash loses the message in hand, so what must survive one is read from
a log by offset, and the cursor moves only with its effects. A message is a batch. Actors that
must restart together are one actor with a nursery of its own.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import Self

T = TypeVar("T")


class ActorGaveUp(Exception):
    """An actor crashed more often than its policy allows. `__cause__` is the last crash."""


@final
class Mailbox(Generic[T]):
    """A bounded queue between actors, which outlives the crashes of its reader."""

    def __init__(self, name: str, *, capacity: int) -> None:
        assert capacity > 0, "a mailbox holds at least one message"
        self.name = name
        self._send, self._receive = trio.open_memory_channel[T](capacity)
        self._feeders = 0

    async def send(self, message: T) -> None:
        """Adds a message; waits while the mailbox is full."""
        await self._send.send(message)

    def offer(self, message: T) -> bool:
        """Adds a message if there is room, and tells whether there was."""
        try:
            self._send.send_nowait(message)
        except trio.WouldBlock:
            return False
        return True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        # A class with __anext__, not an async generator: a generator that a crash leaves half-way
        # would be closed by the garbage collector, outside the actor's task.
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive_batch(self, size_max: int) -> list[T]:
        """Waits for a message and takes what else is there. Empty means that the mailbox ended."""
        batch: list[T] = []
        with suppress(trio.EndOfChannel, trio.WouldBlock):
            batch.append(await self._receive.receive())
            while len(batch) < size_max:
                batch.append(self._receive.receive_nowait())
        return batch

    def end(self) -> None:
        """Takes no more messages; the reader gets those that are here, then stops."""
        self._send.close()

    @property
    def ended(self) -> bool:
        statistics = self._send.statistics()
        return statistics.open_send_channels == 0 and statistics.current_buffer_used == 0


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """More than `crashes_max` crashes within `window_s`, and the supervisor gives up."""

    crashes_max: int = 5
    window_s: float = 60.0
    backoff_s_min: float = 0.1
    backoff_s_max: float = 10.0

    def backoff_s(self, crashes: int) -> float:
        """How long to wait before the next run, doubling with each crash in the window."""
        return min(self.backoff_s_max, self.backoff_s_min * 2.0 ** (crashes - 1))


@dataclass(frozen=True, slots=True)
class Actor:
    """What a supervisor keeps running. `run` builds fresh state each time that it is called."""

    name: str
    run: Callable[[], Awaitable[None]]
    inbox: Mailbox[Any] | None = None
    feeds: tuple[Mailbox[Any], ...] = ()
    restart: RestartPolicy = field(default_factory=RestartPolicy)


class Supervisor:
    """Keeps actors running until they finish. Made by `open_supervisor`."""

    def __init__(self, nursery: trio.Nursery, on_crash: Callable[[Actor, Exception], None]) -> None:
        self._nursery = nursery
        self._on_crash = on_crash
        self.draining = trio.Event()

    def start(self, actor: Actor) -> None:
        """Starts an actor; the mailboxes that it feeds end when their last feeder has finished."""
        for mailbox in actor.feeds:
            mailbox._feeders += 1
        self._nursery.start_soon(self._keep_running, actor, name=actor.name)

    def drain(self, *, timeout_s: float) -> None:
        """Tells the heads to stop. What has not drained by the deadline is cancelled."""
        self.draining.set()
        self._nursery.cancel_scope.deadline = trio.current_time() + timeout_s

    def cancel(self) -> None:
        """Stops every actor where it stands, as a crash of the process would."""
        self._nursery.cancel_scope.cancel()

    async def _keep_running(self, actor: Actor) -> None:
        crashes: deque[float] = deque()
        try:
            # Not polling: it is the actor that runs in the condition, and the sleep its back-off.
            while not await self._finished(actor, crashes):  # noqa: ASYNC110
                await trio.sleep(actor.restart.backoff_s(len(crashes)))
        finally:
            _end_feeds(actor)

    async def _finished(self, actor: Actor, crashes: deque[float]) -> bool:
        try:
            await actor.run()
            assert actor.inbox is None or actor.inbox.ended, "returned before its inbox ended"
        except Exception as crash:
            self._on_crash(actor, crash)
            if _too_many(crashes, actor.restart):
                raise ActorGaveUp(actor.name) from crash
            return False
        return True


def _too_many(crashes: deque[float], policy: RestartPolicy) -> bool:
    now_s = trio.current_time()
    crashes.append(now_s)
    while crashes[0] <= now_s - policy.window_s:
        crashes.popleft()
    return len(crashes) > policy.crashes_max


def _end_feeds(actor: Actor) -> None:
    for mailbox in actor.feeds:
        mailbox._feeders -= 1
        if mailbox._feeders == 0:
            mailbox.end()


@asynccontextmanager
async def open_supervisor(
    *, on_crash: Callable[[Actor, Exception], None]
) -> AsyncIterator[Supervisor]:
    """Opens a supervisor. As with a nursery, the block ends when the last actor has finished."""
    async with trio.open_nursery() as nursery:
        yield Supervisor(nursery, on_crash)
