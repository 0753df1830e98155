"""The fold from events to people: event log -> change log, fragments, timeline.

One step takes a batch of events across the language border in one call, or a few where devices are
shared, and writes in event order: the resolver's rows, new identifiers, sign-ins, timeline rows
and changes. A merge, split or rename that an event caused stands before the `RESOLVED` change of
that event, so that a reader of the change log always knows the profile that an event is about.
Fragments are written last, each once, however many events of the batch touched it.

Resolver and fragment cache run ahead of the store while a step is under way. If anything fails
between `resolve` and the write, they know of events that the store does not. So a fold that
failed is never used again: `IdentityActor.run` builds both anew from the store each time that its
supervisor starts it.

An event on a shared device belongs to whoever was signed in there at its time, by what is known
so far. The change log keeps that decision; `cdp.identity.profiles` decides again when it reads,
by what is known then.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from cdp._matcher import Resolver, attribute
from cdp.domain import change
from cdp.domain.change import MERGED, RENAMED, RESOLVED, SPLIT, Change
from cdp.domain.identifier import NAMESPACES, Identifier
from cdp.domain.naming import ANONYMOUS_ID, CRM_ID, USER_ID, Named
from cdp.identity.facts import EventFacts, decode_facts
from cdp.identity.fragments import (
    FragmentCache,
    apply_event,
    apply_group,
    encode_fragment,
    group_node,
)
from cdp.identity.identifiers import Observed, observation
from cdp.identity.rows import (
    TYPE_CODES,
    Login,
    encode_identifier,
    login_time,
    logins_near,
    merged,
    timeline_tail,
)
from cdp.storage.fold import Pace, run_fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cdp._matcher import Resolution
    from cdp.domain.profile import Fragment
    from cdp.storage.cursors import Cursors
    from cdp.storage.log import Entry, Log
    from cdp.storage.store import Batch, Store

READER: Final = "identity"
LOAD_ROWS_MAX: Final = 4_096  # rows of the graph loaded between two chances for other tasks

PERSONS: Final = (USER_ID, CRM_ID)  # an identifier that is seen with several of these is shared

Decided = tuple[bytes, bytes]  # the leaf of an event, and the profile that it is about
Fresh = dict[bytes, list[Login]]  # sign-ins of the batch in hand, by device

CHANGE_KINDS: Final = {"merged": MERGED, "split": SPLIT, "renamed": RENAMED}


class IdentityFold:
    """The state of one run of the fold. `step` is what `run_fold` calls."""

    def __init__(
        self,
        store: Store,
        changes: Log,
        resolver: Resolver,
        *,
        key: bytes,
        fragment_cache_max: int,
    ) -> None:
        self._store = store
        self._changes = changes
        self._resolver = resolver
        self._key = key
        self._cache = FragmentCache(
            lambda nodes: store.get_many("fragments", nodes) if nodes else [],
            entries_max=fragment_cache_max,
        )
        self._ahead = False  # of the store: something failed after the resolver had moved on

    def step(self, batch: Batch, entries: list[Entry]) -> None:
        """Folds these events into the batch. Never called again after it raised."""
        assert not self._ahead, "a fold that failed is rebuilt from the store, not used again"
        events = [decode_facts(record) for _, record in entries]
        observations = [observation(event) for event in events]
        self._ahead = True
        decided: list[Decided] = []
        records: list[bytes] = []
        fresh: Fresh = {}
        start = 0
        while start < len(entries):
            end = self._part_end(observations, start)
            resolution = self._resolver.resolve(observations[start:end])
            put_graph(batch, resolution)
            seen = zip(entries[start:end], events[start:end], observations[start:end], strict=True)
            part = self._put_history(batch, seen, resolution, fresh)
            records += changes_of(entries[start:end], resolution, part)
            decided += part
            start = end
        self._put_fragments(batch, events, decided)
        self._changes.append(batch, records)
        self._ahead = False

    def _part_end(self, observations: Sequence[Observed], start: int) -> int:
        """How far the resolver may go at once: to the next event that may be on a shared device.

        Who was signed in there is asked right after that event, so that the answer does not
        depend on where batches happen to end. A device may also become shared within the part,
        by a sign-in on it; such a device counts as shared, which costs a call, not the truth.
        """
        node_of, is_shared = self._resolver.node, self._resolver.is_shared
        signed_in: set[str] = set()
        for index in range(start, len(observations)):
            named = observations[index][3]
            device = lone_device(named, node_of)
            if device is None:
                signed_in.update(value for code, value in named if code == ANONYMOUS_ID)
            elif (
                device in signed_in
                or any(code in PERSONS for code, _ in named[1:])
                or is_shared(node_of(ANONYMOUS_ID, device) or b"")
            ):
                return index + 1
        return len(observations)

    def _put_history(
        self,
        batch: Batch,
        seen: Iterable[tuple[Entry, EventFacts, Observed]],
        resolution: Resolution,
        fresh: Fresh,
    ) -> list[Decided]:
        """Writes timeline and sign-ins; returns each event's leaf and profile."""
        put = batch.put
        decided: list[Decided] = []
        for ((offset, _), event, observed), resolved in zip(seen, resolution.events, strict=True):
            leaf, profile_id, _, shared, _ = resolved
            if leaf:
                time_us = observed[0]
                put("timeline", leaf + timeline_tail(time_us, offset), TYPE_CODES[event.type])
                if shared:
                    profile_id = self._attributed(leaf, time_us, fresh)
                elif event.user_id and event.anonymous_id:
                    self._sign_in(put, observed, leaf, fresh)
            decided.append((leaf, profile_id))
        return decided

    def _sign_in(
        self,
        put: Callable[[str, bytes, bytes], None],
        observed: Observed,
        leaf: bytes,
        fresh: Fresh,
    ) -> None:
        """Notes that a user was on a device. Any device: which are shared shows later."""
        time_us, _, _, named = observed
        if len(named) < 2 or named[0][0] != USER_ID or named[1][0] != ANONYMOUS_ID:
            return
        device = self._resolver.node(*named[1])
        if device is None or device == leaf:
            return  # one of the two is no usable identifier
        put("logins", device + login_time(time_us) + leaf, b"")
        fresh.setdefault(device, []).append((time_us, leaf))

    def _attributed(self, device: bytes, time_us: int, fresh: Fresh) -> bytes:
        """The profile of whoever was on a shared device; empty where that is nobody's guess."""
        logins = logins_near(self._store, device, time_us)
        if device in fresh:
            logins = merged(logins, fresh[device])
        person, _ = attribute(logins, time_us)
        return (self._resolver.profile_of(person) or b"") if person else b""

    def _put_fragments(
        self, batch: Batch, events: Sequence[EventFacts], decided: Sequence[Decided]
    ) -> None:
        nodes = {leaf: None for leaf, _ in decided}
        nodes.pop(b"", None)
        groups: dict[str, bytes] = {}
        for event in events:
            if event.type == "group" and event.group_id:
                groups[event.group_id] = group_node(self._key, event.group_id)
        nodes.update(dict.fromkeys(groups.values()))
        taken: dict[bytes, Fragment] = self._cache.take(nodes)
        for event, (leaf, _) in zip(events, decided, strict=True):
            if leaf:
                apply_event(taken[leaf], event)
            if event.type == "group" and event.group_id:
                apply_group(taken[groups[event.group_id]], event)
        put = batch.put
        for node, fragment in taken.items():
            put("fragments", node, encode_fragment(fragment))


def lone_device(named: Sequence[Named], node_of: Callable[[int, str], bytes | None]) -> str | None:
    """The anonymous id that an event is stored under; None where a user comes before it."""
    if not named:
        return None
    if named[0][0] == ANONYMOUS_ID:
        return named[0][1]
    if len(named) > 1 and named[1][0] == ANONYMOUS_ID and node_of(*named[0]) is None:
        return named[1][1]
    return None


def changes_of(
    entries: Sequence[Entry], resolution: Resolution, decided: Sequence[Decided]
) -> list[bytes]:
    """The records of the change log: for each event what it caused, then what it is about."""
    encode = change.encode
    caused: dict[int, list[bytes]] = {}
    for index, kind, profile_id, other in resolution.changes:
        made = Change(CHANGE_KINDS[kind], entries[index].offset, profile_id, b"", other)
        caused.setdefault(index, []).append(encode(made))
    records: list[bytes] = []
    for index, (entry, (leaf, profile_id)) in enumerate(zip(entries, decided, strict=True)):
        if index in caused:
            records += caused[index]
        records.append(encode(Change(RESOLVED, entry.offset, profile_id, leaf)))
    return records


def put_graph(batch: Batch, resolution: Resolution) -> None:
    """Writes what the resolver returned, and the values of identifiers seen for the first time."""
    put = batch.put
    for key, value in resolution.records:
        if value is None:
            batch.delete("identity", key)
        else:
            put("identity", key, value)
    for node, namespace, text in resolution.new_identifiers:
        put("identifiers", node, encode_identifier(Identifier(NAMESPACES[namespace], text)))


class IdentityActor:
    """Keeps the fold running, and lends its resolver to those who read profiles.

    `resolver` is None until the graph is loaded, and after a crash until it is loaded again.
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
        pace: Pace | None = None,
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
        self._pace = pace
        self.resolver: Resolver | None = None

    async def run(self) -> None:
        """Loads the graph, then folds events until it is told to stop."""
        self.resolver = None
        resolver = Resolver(self._key, self._rules)
        await load(resolver, self._store)
        self.resolver = resolver
        fold = IdentityFold(
            self._store,
            self._changes,
            resolver,
            key=self._key,
            fragment_cache_max=self._fragment_cache_max,
        )
        try:
            await self._fold(fold)
        except BaseException:
            self.resolver = None  # it may know of events that the store does not
            raise

    async def _fold(self, fold: IdentityFold) -> None:
        await run_fold(
            store=self._store,
            log=self._events,
            cursors=self._cursors,
            reader=READER,
            step=fold.step,
            publishes=[self._changes],
            stopping=self._stopping,
            batch_max=self._batch_max,
            pace=self._pace,
        )


async def load(resolver: Resolver, store: Store) -> None:
    """Gives the resolver its stored rows, a part at a time, so that others get their turn."""
    # One iterator over all: only the fold writes this family, and it does not run yet.
    stored = store.items("identity")
    while rows := list(islice(stored, LOAD_ROWS_MAX)):
        resolver.load(rows)
        await trio.lowlevel.checkpoint()
