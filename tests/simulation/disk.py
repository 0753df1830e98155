"""The disk of one world: what outlives a process, and how it fails.

The store is `cdp.storage.memory.MemoryStore`, which knows what is durable. A killed process leaves
all that it wrote; a power cut leaves what was synced and a random prefix of the rest. An I/O error
sticks until the process starts again, a full disk heals. Some writes are the last thing that a
process does: just before the batch is applied, or just after; some flushes are never seen to end.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cdp.consent.tombstones import MemoryTombstones
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.swarm import Options


class Crash(BaseException):
    """The process is gone. No code of the daemon may catch it, so it is no Exception."""


class SimDisk:
    """One data directory. `store` is the open store of the process that has it now."""

    def __init__(self, rng: Random, options: Options, on_crash: Callable[[float], None]) -> None:
        self.rng = rng
        self.options = options
        self.full = False
        self.writes = 0
        self._on_crash = on_crash  # ends the process, after so many seconds
        self.keys = MemoryKeys()
        self.tombstones = MemoryTombstones()
        self.store = MemoryStore(
            sync_latency_s=self._sync_latency_s,
            sync_fault=self._sync_fault,
            write_fault=self._write_fault,
        )

    def cut(self, *, power: bool) -> int:
        """Ends the process that has the disk; returns how many batches were lost with it."""
        unsynced = self.store.unsynced_count
        self.store = self.store.power_cut(self.rng) if power else self.store.killed()
        self.keys = self.keys.survivor()
        return unsynced if power else 0

    def _sync_latency_s(self) -> float:
        latency_s = self.rng.expovariate(1 / self.options.sync_s_mean)
        every = self.options.crash_at_sync
        if every is not None and self.rng.random() < 1 / every:
            self._on_crash(self.rng.uniform(0, latency_s))
        return latency_s

    def _sync_fault(self) -> int:
        return errno.EIO if self.rng.random() < self.options.sync_broken else 0

    def _write_fault(self) -> int:
        self.writes += 1
        every = self.options.crash_at_write
        if every is not None and self.rng.random() < 1 / every:
            self._on_crash(0.0)
            if self.rng.random() < 0.5:
                raise Crash  # else this write is the last one, and is applied
        return errno.ENOSPC if self.full else 0
