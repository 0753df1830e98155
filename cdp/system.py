"""The real world: the one place where clock, chance, sockets, threads and the disk come in.

Everything else takes an `Environment`. What stands here has no logic worth simulating; where it
begins to have some, the logic moves out.
"""

from __future__ import annotations

import gc
import os
import resource
import time
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
import trio

from cdp.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from cdp.config import Config

T = TypeVar("T")

BACKLOG_MIN: Final = 4_096  # connections that wait to be accepted; the kernel caps it by somaxconn
BACKLOG_MAX: Final = 65_535
GARBAGE_OBJECTS_MAX: Final = 50_000  # new container objects before a look at the youngest
THREADS_MAX: Final = 16  # flushes, resolver calls, files of destinations

_POOL: Final = httpx.Limits(
    max_connections=256, max_keepalive_connections=64, keepalive_expiry=30.0
)


class SystemClock:
    """The machine's wall clock. It may jump; durations are measured with `trio.current_time`."""

    def now_us(self) -> int:
        """The wall time in microseconds since 1970, UTC."""
        return time.time_ns() // 1_000


class SystemNetwork:
    """The machine's sockets and resolver."""

    def __init__(self, connections_max: int = BACKLOG_MIN) -> None:
        # A burst of new connections waits in the kernel rather than being dropped there.
        self._backlog = min(BACKLOG_MAX, max(BACKLOG_MIN, connections_max))

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        """Listeners on every address of `host`, with a long backlog. Raises OSError."""
        return await trio.open_tcp_listeners(port, host=host, backlog=self._backlog)

    def transport(self) -> httpx.AsyncBaseTransport:
        """A pooled transport. It never retries: the delivery schedule does, and counts it."""
        return httpx.AsyncHTTPTransport(limits=_POOL, retries=0, trust_env=False)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Every IP address of a host name, in the resolver's order, each once. Raises OSError."""
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[4][0]) for address in found))


class Threads:
    """Runs blocking calls in a bounded number of threads. A cancelled call is waited for."""

    def __init__(self, threads_max: int = THREADS_MAX) -> None:
        self._limiter = trio.CapacityLimiter(threads_max)

    def __call__(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        return trio.to_thread.run_sync(function, *args, limiter=self._limiter)


def spare_collections() -> None:
    """Lets the cycle collector look less often: what events make is freed by reference counts.

    Measured: at the interpreter's own threshold (700) a fifth of a delivery's time is collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS_MAX, 20, 50)


def write_no_core_files() -> None:
    """Sees that a crash leaves no image of the memory on disk: people's keys are in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def real_environment(config: Config) -> Environment:
    """The environment of a daemon that runs on this machine."""
    run_in_thread = Threads()
    return Environment(
        clock=SystemClock(),
        rng=Random(int.from_bytes(os.urandom(32), "big")),
        network=SystemNetwork(config.limits.connections_max),
        run_in_thread=run_in_thread,
        open_store=lambda path: _open_store(path, run_in_thread),
        open_keys=_open_keys,
        entropy=os.urandom,
        environ=os.environ.get,
    )


def _open_store(path: Path, run_in_thread: Threads) -> Any:
    # Imported here: what only checks a configuration does without the database.
    from cdp.storage.opening import open_store

    return open_store(path, run_in_thread=run_in_thread)


def _open_keys(path: Path) -> Any:
    from cdp.storage.keyfile import open_keys

    return open_keys(path)


def new_secret() -> str:
    """A fresh secret of 256 bits, in hexadecimal. Only `cdp init` asks for it."""
    return os.urandom(32).hex()
