"""The daemon under test, and getting it warm."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.load import Generator
from tests.crash.daemon import Daemon, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 256
_CATCH_UP_S_MAX = 300.0


@contextmanager
def bench_daemon(
    settings: Settings | None = None, directory: Path | None = None
) -> Iterator[Daemon]:
    """A fresh daemon that takes events; gone at the end, with its files.

    `CDP_BENCH_PROFILE=FILE` runs it under the sampling profiler (see `bench.profile`).
    """
    with TemporaryDirectory(prefix="cdp-bench-") as scratch:
        where = directory or Path(scratch)
        with Daemon(where, settings or Settings(), wrapper=_wrapper()) as daemon:
            daemon.start()
            yield daemon
            if os.environ.get("CDP_BENCH_PROFILE"):
                daemon.stop()  # the profile is written at the end of an orderly stop


def _wrapper() -> list[str] | None:
    target = os.environ.get("CDP_BENCH_PROFILE")
    return [sys.executable, "-m", "bench.sampling", target] if target else None


def warm_up(daemon: Daemon, requests: Iterator[bytes], count: int) -> None:
    """Sends some requests that are not counted, and waits until the folds have taken them."""
    generator = Generator(daemon.address, connections=8)
    generator.open_loop(islice(requests, count), per_s=1_000, seconds=count / 1_000)
    generator.close()
    wait_until_caught_up(daemon)


def wait_until_caught_up(daemon: Daemon, timeout_s: float = _CATCH_UP_S_MAX) -> None:
    """Returns when every fold has read its log to the end and nothing waits to be delivered."""
    daemon.wait_until(lambda: backlog(daemon) == 0, "to catch up", timeout_s)


def backlog(daemon: Daemon) -> int:
    """How much is still to do: the lags of all readers, and deliveries that wait."""
    status: dict[str, Any] = daemon.status()
    lags = sum(one["lag"] for one in status["folds"].values())
    owed = sum(one["lag"] + one["pending"] for one in status["destinations"].values())
    return int(lags + owed)
