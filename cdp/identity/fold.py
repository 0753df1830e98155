"""One step of the fold from events to people: rows, changes and the fragments of a batch.

A step takes a batch of events across the language border in one call, or a few where devices are
shared or identifiers new, and writes in event order: the resolver's rows, new identifiers,
sign-ins, timeline rows and changes (`cdp.identity.telling`).
Fragments are written last, each once, however many events of the batch touched it. What holds raw
values, identifiers and fragments, is sealed in one go for those whom it is about.

Events that were erased are passed over, and so are those of people who are suppressed by now.
What others say of a suppressed identifier is left out, as if they had never named it.

Resolver and fragment cache run ahead of the store while a step is under way. If anything fails
between `resolve` and the write, they know of events that the store does not. So a fold that
failed is never used again: `IdentityActor.run` builds both anew from the store each time that its
supervisor starts it.

An event on a shared device belongs to whoever was signed in there at its time, by what is known
so far. The change log keeps that decision; `cdp.identity.profiles` decides again when it reads,
by what is known then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cdp._matcher import Resolver, attribute
from cdp.domain.identifier import NAMESPACES, NODE_BYTES, Identifier
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
    node_range,
    timeline_tail,
)
from cdp.identity.sealing import SealedPuts, SealedRows
from cdp.identity.telling import changes_by_erasure, changes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from cdp._matcher import Namer, Resolution
    from cdp.domain.profile import Fragment
    from cdp.identity.sealing import Vault
    from cdp.identity.telling import Decided
    from cdp.identity.traces import Traces
    from cdp.storage.log import Entry, Log
    from cdp.storage.store import Batch, Store

PERSONS: Final = (USER_ID, CRM_ID)  # an identifier that is seen with several of these is shared

Fresh = dict[bytes, list[Login]]  # sign-ins of the batch in hand, by device


class Suppression(Protocol):
    """Of whom nothing may be kept, by node. See `cdp.consent.suppression`."""

    @property
    def nodes(self) -> AbstractSet[bytes]: ...


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
        vault: Vault | None = None,
        suppression: Suppression | None = None,
        namer: Namer | None = None,
    ) -> None:
        assert suppression is None or namer is not None, "who is suppressed is found by node"
        self._store = store
        self._changes = changes
        self._resolver = resolver
        self._key = key
        self._vault = vault
        self._suppression = suppression
        self._namer = namer
        rows = SealedRows(store, vault)
        self._cache = FragmentCache(
            lambda nodes: rows.get_many("fragments", nodes), entries_max=fragment_cache_max
        )
        self._moved: set[bytes] = set()  # profiles that changed in the last step
        self._introduced: set[bytes] = set()  # nodes that were new in it
        self._ahead = False  # of the store: something failed after the resolver had moved on

    def step(self, batch: Batch, entries: list[Entry]) -> None:
        """Folds these events into the batch. Never called again after it raised."""
        assert not self._ahead, "a fold that failed is rebuilt from the store, not used again"
        self._moved, self._introduced = set(), set()
        entries = [entry for entry in entries if entry.record]  # of those that were not erased
        events = [decode_facts(record) for _, record in entries]
        observations = [observation(event) for event in events]
        if self._suppression is not None and self._suppression.nodes:
            observations, kept = self._spared(observations, self._suppression.nodes)
            entries = [entries[index] for index in kept]
            events = [events[index] for index in kept]
        self._ahead = True
        decided: list[Decided] = []
        records: list[bytes] = []
        fresh: Fresh = {}
        puts = SealedPuts()
        start = 0
        while start < len(entries):
            end = self._part_end(observations, start)
            resolution = self._resolver.resolve(observations[start:end])
            put_graph(batch, resolution)
            self._put_identifiers(puts, resolution)
            seen = zip(entries[start:end], events[start:end], observations[start:end], strict=True)
            part = self._put_history(batch, seen, resolution, fresh)
            records += changes_of(entries[start:end], resolution, part, self._resolver)
            decided += part
            start = end
        self._put_fragments(puts, events, decided)
        puts.write(batch, self._vault)
        self._changes.append(batch, records)
        self._ahead = False

    def erase(
        self, batch: Batch, nodes: Collection[bytes], traces: Traces, *, cause_offset: int
    ) -> None:
        """Erases people, by all their nodes, into the batch. Never called again after it raised."""
        assert not self._ahead, "a fold that failed is rebuilt from the store, not used again"
        self._ahead = True
        self._moved, self._introduced = set(), set()
        resolution = self._resolver.forget(list(nodes))
        put_graph(batch, resolution)
        gone = {*nodes, *forgotten_nodes(resolution)}
        for node in gone:
            batch.delete("identifiers", node)
            batch.delete("fragments", node)
            start, end = node_range(node)
            batch.delete_range("timeline", start, end)
            batch.delete_range("logins", start, end)
        traces.delete(batch)
        self._cache.drop(gone)
        self._note_moved(resolution)
        self._moved |= gone | {device for device, _, _ in traces.stretches}
        if resolution.changes:
            records = changes_by_erasure(resolution, cause_offset, self._resolver)
            self._changes.append(batch, records)
        self._ahead = False

    def abandon(self) -> None:
        """Sees that it is never used again: what it did was not written."""
        self._ahead = True

    def moved(self) -> set[bytes]:
        """The profiles whose members the last step changed, those that are gone among them."""
        profile_of = self._resolver.profile_of
        return self._moved | {profile_of(node) or node for node in self._introduced}

    def _note_moved(self, resolution: Resolution) -> None:
        for _, _, profile_id, other in resolution.changes:
            self._moved.add(profile_id)
            self._moved.add(other)
        self._introduced.update(node for node, _, _, _ in resolution.new_identifiers)

    def _spared(
        self, observations: Sequence[Observed], suppressed: AbstractSet[bytes]
    ) -> tuple[list[Observed], list[int]]:
        """What may be taken in of these, and of which places it is.

        An event of a suppressed person, one whose leaf is, is left out: it was stored before, and
        is being erased.
        """
        assert self._namer is not None, "the constructor saw to it"
        spared: list[Observed] = []
        kept: list[int] = []
        for index, nodes in enumerate(self._namer.nodes([one[3] for one in observations])):
            observed = observations[index]
            if not suppressed.isdisjoint(nodes):
                if nodes[0] in suppressed:
                    continue
                observed = self._without(observed, suppressed)
            spared.append(observed)
            kept.append(index)
        return spared, kept

    def _without(self, observed: Observed, suppressed: AbstractSet[bytes]) -> Observed:
        """The observation as if it had not named suppressed identifiers."""
        assert self._namer is not None, "the constructor saw to it"
        time_us, kind, source, named = observed
        nodes = self._namer.nodes([[one] for one in named])
        left = [one for one, of in zip(named, nodes, strict=True) if suppressed.isdisjoint(of)]
        return (time_us, kind, source, left)

    def _put_identifiers(self, puts: SealedPuts, resolution: Resolution) -> None:
        """Identifiers seen for the first time, each the secret of the event that named it."""
        for node, namespace, text, leaf in resolution.new_identifiers:
            record = encode_identifier(Identifier(NAMESPACES[namespace], text))
            puts.put("identifiers", leaf, node, record)
        self._note_moved(resolution)

    def _part_end(self, observations: Sequence[Observed], start: int) -> int:
        """How far the resolver may go at once: to the next event after which it is asked.

        That is one that may be on a shared device: who was signed in there? And one that names
        somebody anew beside its leaf: whose is that? Asked right after the event, so that the
        answer does not depend on where batches happen to end. A device may also become shared
        within the part, by a sign-in on it; such a device counts as shared, which costs a call,
        not the truth.
        """
        node_of, is_shared = self._resolver.node, self._resolver.is_shared
        profile_of = self._resolver.profile_of
        signed_in: set[str] = set()
        for index in range(start, len(observations)):
            named = observations[index][3]
            for code, value in named[1:]:
                node = node_of(code, value)
                if node is not None and profile_of(node) is None:
                    return index + 1
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
        """Writes timeline and sign-ins; returns what each event is about."""
        put = batch.put
        decided: list[Decided] = []
        for ((offset, _), event, observed), resolved in zip(seen, resolution.events, strict=True):
            leaf, profile_id, _, shared, _ = resolved
            person = b""
            if leaf:
                time_us = observed[0]
                put("timeline", leaf + timeline_tail(time_us, offset), TYPE_CODES[event.type])
                if shared:
                    person, profile_id = self._attributed(leaf, time_us, fresh)
                elif event.user_id and event.anonymous_id:
                    self._sign_in(put, observed, leaf, fresh)
            decided.append((leaf, profile_id, person))
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

    def _attributed(self, device: bytes, time_us: int, fresh: Fresh) -> tuple[bytes, bytes]:
        """Who was on a shared device, and their profile; empty where that is nobody's guess."""
        logins = logins_near(self._store, device, time_us)
        if device in fresh:
            logins = merged(logins, fresh[device])
        person, _ = attribute(logins, time_us)
        profile_id = self._resolver.profile_of(person) if person else None
        return (person, profile_id) if profile_id else (b"", b"")

    def _put_fragments(
        self, puts: SealedPuts, events: Sequence[EventFacts], decided: Sequence[Decided]
    ) -> None:
        nodes = {leaf: None for leaf, _, _ in decided}
        nodes.pop(b"", None)
        groups: dict[str, bytes] = {}
        for event in events:
            if event.type == "group" and event.group_id:
                groups[event.group_id] = group_node(self._key, event.group_id)
        nodes.update(dict.fromkeys(groups.values()))
        taken: dict[bytes, Fragment] = self._cache.take(nodes)
        for event, (leaf, _, _) in zip(events, decided, strict=True):
            if leaf:
                apply_event(taken[leaf], event)
            if event.type == "group" and event.group_id:
                apply_group(taken[groups[event.group_id]], event)
        for node, fragment in taken.items():
            puts.put("fragments", node, node, encode_fragment(fragment))


def lone_device(named: Sequence[Named], node_of: Callable[[int, str], bytes | None]) -> str | None:
    """The anonymous id that an event is stored under; None where a user comes before it."""
    if not named:
        return None
    if named[0][0] == ANONYMOUS_ID:
        return named[0][1]
    if len(named) > 1 and named[1][0] == ANONYMOUS_ID and node_of(*named[0]) is None:
        return named[1][1]
    return None


def put_graph(batch: Batch, resolution: Resolution) -> None:
    """Writes and deletes the rows of the resolver that changed."""
    put = batch.put
    for key, value in resolution.records:
        if value is None:
            batch.delete("identity", key)
        else:
            put("identity", key, value)


def forgotten_nodes(resolution: Resolution) -> list[bytes]:
    """The nodes whose rows are deleted: those that were asked for, and what goes along."""
    rows = resolution.records
    return [key[1:] for key, value in rows if value is None and len(key) == 1 + NODE_BYTES]
