"""Everything that reaches the code from outside: clock, chance, store, network, resolver, threads.

One object, made once (`cdp.system.real_environment`, or a simulated world in the tests) and handed
down. Nothing else in `cdp` reads a clock, throws a die, opens a socket or starts a thread; a lint
rule holds that (pyproject, TID251). So the whole daemon can run in a seeded simulation with
virtual time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path
    from random import Random

    import httpx
    import trio

    from cdp.clock import Clock

T = TypeVar("T")


class Network(Protocol):
    """Sockets, inward and outward."""

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[Any]]:
        """Listeners for the data plane. Port 0 picks a free one. Raises OSError."""
        ...

    def transport(self) -> httpx.AsyncBaseTransport:
        """The transport that destinations' HTTP clients use. The caller closes it."""
        ...

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Every IP address of a host name, as text. Raises OSError."""
        ...


class RunInThread(Protocol):
    """Runs a blocking call off the event loop and awaits it."""

    def __call__(self, function: Callable[..., T], *args: Any) -> Awaitable[T]: ...


def _no_keys(path: Path) -> Any:
    raise OSError(f"this world has no key file: {path}")


@dataclass(frozen=True, slots=True)
class Environment:
    """The world as the daemon sees it.

    `open_store` takes the directory and returns an open store (`cdp.storage.store.Store`); it is
    typed loosely here because the environment lies below the storage layer.
    """

    clock: Clock
    rng: Random
    network: Network
    run_in_thread: RunInThread
    open_store: Callable[[Path], Any]
    environ: Callable[[str], str | None]
    # fresh secret bytes; without it they are drawn from `rng`, which only a simulation may do
    entropy: Callable[[int], bytes] | None = None
    # takes the data directory, returns its `cdp.storage.keyfile.KeyFile`
    open_keys: Callable[[Path], Any] = _no_keys
    # takes the path of the ledger of erasures; without it that is a file like any other
    open_erasures: Callable[[Path], Any] | None = None

    def new_id(self) -> str:
        """A random 128-bit id in hexadecimal."""
        return f"{self.rng.getrandbits(128):032x}"

    def new_seed(self) -> bytes:
        """32 bytes that nobody can guess, in a simulation those that its seed gives.

        Never from `rng` in the real world: who sees enough of its ids could tell the rest.
        """
        return self.entropy(32) if self.entropy is not None else self.rng.randbytes(32)
