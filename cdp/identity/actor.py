"""Runs the fold from events to people, and lends its resolver to those who read profiles.

Between two steps of the fold it also erases people from everything that identity keeps. What a
step does is in `cdp.identity.fold`.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from cdp._matcher import Namer, Resolver
from cdp.identity.fold import IdentityFold
from cdp.identity.traces import traces_of
from cdp.storage.fold import Pace, run_fold

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cdp.environment import RunInThread
    from cdp.identity.fold import Suppression
    from cdp.identity.sealing import Vault
    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Log
    from cdp.storage.store import Store

__all__ = ["READER", "IdentityActor", "IdentityFold", "load"]

READER: Final = "identity"
LOAD_ROWS_MAX: Final = 4_096  # rows of the graph loaded between two chances for other tasks


class IdentityActor:
    """Keeps the fold running, and lends its resolver to those who read profiles.

    `resolver` is None until the graph is loaded, and after a crash until it is loaded again.
    `on_change` hears, after each write, of the profiles whose members are others now.
    """

    def __init__(
        self,
        *,
        store: Store,
        events: Log,
        changes: Log,
        cursors: Cursors,
        key: bytes,
        rules: str,
        stopping: trio.Event,
        batch_max: int,
        fragment_cache_max: int,
        run_in_thread: RunInThread,
        pace: Pace | None = None,
        vault: Vault | None = None,
        suppression: Suppression | None = None,
    ) -> None:
        self._store = store
        self._events = events
        self._changes = changes
        self._cursors = cursors
        self._key = key
        self._rules = rules
        self._stopping = stopping
        self._batch_max = batch_max
        self._fragment_cache_max = fragment_cache_max
        self._run_in_thread = run_in_thread
        self._pace = pace
        self._vault = vault
        self._suppression = suppression
        self._namer = Namer(key, rules)
        self._running: _Running | None = None
        self._loaded = trio.Event()
        self.resolver: Resolver | None = None
        self.on_change: Callable[[Collection[bytes]], None] | None = None

    async def run(self) -> None:
        """Loads the graph, then folds events until it is told to stop."""
        self.resolver = None
        resolver = Resolver(self._key, self._rules)
        await load(resolver, self._store)
        await self._run_in_thread(resolver.finish_load)
        fold = IdentityFold(
            self._store,
            self._changes,
            resolver,
            key=self._key,
            fragment_cache_max=self._fragment_cache_max,
            vault=self._vault,
            suppression=self._suppression,
            namer=self._namer,
        )
        running = self._running = _Running(fold, resolver)
        self.resolver = resolver
        self._loaded.set()
        try:
            with running.scope:
                await self._fold(fold)
            if running.failure is not None:
                raise running.failure
        except BaseException:
            self._give_up()  # it may know of events that the store does not
            raise

    async def erase(self, nodes: Collection[bytes]) -> None:
        """Erases people, by all their nodes, from the graph and from every row of identity.

        Waits until the graph is loaded. One batch; erasing again finds nothing. Their nodes must
        be suppressed before, or an event that is in hand may bring them back.

        Raises:
            StorageError: the store failed; the graph is loaded anew, erase again.
        """
        while True:
            await self._loaded.wait()
            running = self._running
            if running is not None:
                traces = await traces_of(self._store, running.resolver, nodes)
                if running is self._running:
                    break
        batch = self._store.batch()
        try:
            after = self._cursors.get(READER) - 1
            running.fold.erase(batch, nodes, traces, cause_offset=max(0, after))
            self._store.write(batch)
        except Exception as error:
            # Nobody may read from a graph that forgot whom the store remembers.
            running.failure = error
            running.fold.abandon()
            self._give_up()
            running.scope.cancel()
            raise
        self._tell_moved(running.fold)
        self._changes.publish()

    def _give_up(self) -> None:
        self.resolver = self._running = None
        if self._loaded.is_set():
            self._loaded = trio.Event()
        if self._vault is not None:
            self._vault.forget_unwritten()

    def _tell_moved(self, fold: IdentityFold) -> None:
        if self.on_change is not None and (moved := fold.moved()):
            self.on_change(moved)

    async def _fold(self, fold: IdentityFold) -> None:
        await run_fold(
            store=self._store,
            log=self._events,
            cursors=self._cursors,
            reader=READER,
            step=fold.step,
            publishes=[_Written(lambda: self._tell_moved(fold)), self._changes],
            stopping=self._stopping,
            batch_max=self._batch_max,
            pace=self._pace,
        )


class _Running:
    """One run of the actor. `failure`: why it must be built anew, where `scope` was cancelled."""

    def __init__(self, fold: IdentityFold, resolver: Resolver) -> None:
        self.fold = fold
        self.resolver = resolver
        self.scope = trio.CancelScope()
        self.failure: Exception | None = None


class _Written:
    """Calls back where a log is published: once the batch is written."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.publish = call


async def load(resolver: Resolver, store: Store) -> None:
    """Gives the resolver its stored rows, a part at a time, so that others get their turn."""
    # One iterator over all: only the fold writes this family, and it does not run yet.
    stored = store.items("identity")
    while resolver.load(islice(stored, LOAD_ROWS_MAX)):
        await trio.lowlevel.checkpoint()
