"""A small world for tests of delivery: a store, the two logs, a clock that follows virtual time."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from cdp.environment import Environment
from cdp.storage.keyfile import KeyFile, MemoryKeys
from cdp.storage.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import httpx

    from cdp.environment import Network
    from cdp.storage.store import Store

T = TypeVar("T")

START_US = 1_750_000_000_000_000  # 2025-06-15: any moment will do, as long as it is the same one


class TrioClock:
    """A wall clock that moves with Trio's: with a test's virtual time where it has one."""

    def __init__(self, start_us: int = START_US) -> None:
        self._start_us = start_us
        self._start_s = trio.current_time()

    def now_us(self) -> int:
        """The wall time in microseconds since 1970, UTC."""
        return self._start_us + round((trio.current_time() - self._start_s) * 1e6)


class FakeNetwork:
    """A network whose only service is a function, and whose resolver is a table.

    A name's addresses may be several lists: then each look-up gets the next one, and the last
    stays. That is how a name is rebound between a check and its use. `*` is any other name.
    """

    def __init__(
        self,
        transport: Callable[[], httpx.AsyncBaseTransport],
        names: Mapping[str, Sequence[Sequence[str]]] | None = None,
    ) -> None:
        self._transport = transport
        self._names = {name: list(answers) for name, answers in (names or {}).items()}
        self.resolved: list[str] = []

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        """There is nothing to listen on."""
        raise OSError(f"this network has no listeners: {host}:{port}")

    def transport(self) -> httpx.AsyncBaseTransport:
        """A transport to the one service."""
        return self._transport()

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The next answer for a name. Raises OSError where it has none."""
        await trio.lowlevel.checkpoint()
        self.resolved.append(host)
        answers = self._names.get(host) or self._names.get("*")
        if not answers:
            raise OSError(f"no such name: {host}")
        return answers.pop(0) if len(answers) > 1 else answers[0]


MASTER = bytes(range(32))  # the master key of every small world


def make_vault(store: Store, *, keys: KeyFile | None = None, seed: int = 0) -> Vault:
    """A vault over a store, with its keys in memory. The same seed gives the same bytes."""
    return Vault(
        keys or MemoryKeys(), store, master=MASTER, seed=seed.to_bytes(32, "big"), cache_max=10_000
    )


async def run_inline(function: Callable[..., T], *args: Any) -> T:
    """Runs a blocking call where it stands: tests have no threads."""
    await trio.lowlevel.checkpoint()
    return function(*args)


def make_environment(
    network: Network,
    *,
    seed: int = 0,
    open_store: Callable[[Path], Any] | None = None,
    open_keys: Callable[[Path], Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Environment:
    """An environment with virtual time, seeded chance and no outside."""

    def no_store(path: Path) -> Any:
        raise OSError(f"this world has no disk: {path}")

    return Environment(
        clock=TrioClock(),
        rng=Random(seed),
        network=network,
        run_in_thread=run_inline,
        open_store=open_store or no_store,
        open_keys=open_keys or no_store,
        environ=(environ or {}).get,
    )
