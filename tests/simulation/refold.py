"""Identity computed again from the stored events: in their order, in another order, and by hand.

I4: replay from offset 0 gives the same bytes. I5: any order of arrival gives the same profiles.
I6: an identifier belongs to one profile or is shared, and every profile id leads to one profile.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from random import Random
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp._matcher import Resolver
from cdp.domain.change import decode_change
from cdp.domain.identifier import NAMESPACE_CODE
from cdp.domain.profile import Fragment, fold
from cdp.identity.actor import IdentityFold
from cdp.identity.rows import decode_identifier
from cdp.storage.log import Entry, Log
from cdp.storage.memory import MemoryStore
from tests.simulation.daemon import IDENTITY_KEY, IDENTITY_RULES
from tests.simulation.reading import vault_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdp.domain.event import Event
    from cdp.storage.store import Store
    from tests.simulation.world import World

REBUILT: Final = ("identity", "identifiers", "fragments", "timeline", "logins")

_decode_fragment = msgspec.msgpack.Decoder(Fragment).decode


class Refolded:
    """A fresh store with the state that these events make."""

    def __init__(self, entries: Sequence[Entry], *, batch_max: int, cache_max: int) -> None:
        self.store = MemoryStore()
        self.changes = Log(self.store, "changes")
        self.resolver = new_resolver()
        step = IdentityFold(
            self.store,
            self.changes,
            self.resolver,
            key=IDENTITY_KEY,
            fragment_cache_max=cache_max,
        ).step
        for start in range(0, len(entries), batch_max):
            batch = self.store.batch()
            step(batch, list(entries[start : start + batch_max]))
            self.store.write(batch)
            self.changes.publish()


def new_resolver() -> Resolver:
    """A resolver as the daemon makes it."""
    return Resolver(IDENTITY_KEY, IDENTITY_RULES)


def loaded_resolver(store: Store) -> Resolver:
    """A resolver with what is stored."""
    resolver = new_resolver()
    resolver.load(store.scan("identity"))
    return resolver


def opened(world: World, family: str) -> list[tuple[bytes, bytes]]:
    """The rows of a family as they were before they were sealed."""
    rows = world.store.scan(family)
    if family not in ("identifiers", "fragments"):
        return rows
    vault = vault_of(world)
    return [(key, vault.open_row(value, key)) for key, value in rows]


def check_identity(world: World, entries: list[Entry], events: dict[int, Event]) -> None:
    """Every question to identity."""
    live = loaded_resolver(world.store)
    rng = Random(f"refold {world.options.seed}")
    _check_replay(world, entries, rng)
    _check_any_order(world, entries, live, rng)
    _check_belonging(world, live, events)
    _check_by_hand(world, live, events)


def _check_replay(world: World, entries: list[Entry], rng: Random) -> None:
    again = Refolded(entries, batch_max=rng.choice((1, 5, 1_024)), cache_max=rng.choice((2, 1_000)))
    for family in REBUILT:
        rebuilt_rows, live_rows = again.store.scan(family), opened(world, family)
        world.check(
            rebuilt_rows == live_rows,
            f"I4 replay gives another {family}",
            _difference(rebuilt_rows, live_rows),
        )
    live = [record for _, record in Log(world.store, "changes").read(0, 10**9)]
    rebuilt = [record for _, record in again.changes.read(0, 10**9)]
    pairs = zip(live, rebuilt, strict=False)
    different = [(decode_change(a), decode_change(b)) for a, b in pairs if a != b]
    counts = len(live), len(rebuilt)
    world.check(live == rebuilt, "I4 replay decides otherwise", counts, different[:2])


def _difference(a: list[Any], b: list[Any]) -> str:
    # Only computed into the text of an offence; the families of one world are small.
    ours, theirs = dict(a), dict(b)
    keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    return repr([(key.hex(), ours.get(key), theirs.get(key)) for key in keys[:2]])


def _check_any_order(world: World, entries: list[Entry], live: Resolver, rng: Random) -> None:
    shuffled = [record for _, record in entries]
    rng.shuffle(shuffled)
    again = Refolded(
        [Entry(offset, record) for offset, record in enumerate(shuffled)],
        batch_max=rng.choice((1, 3, 1_024)),
        cache_max=1_000,
    )
    world.check(again.resolver.digest() == live.digest(), "I5 another order, other clusters")
    ours = profiles_of(again.store.scan("fragments"), again.resolver)
    theirs = profiles_of(opened(world, "fragments"), live)
    different = [key.hex() for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    world.check(not different, "I5 another order, other profiles", different)
    logins = again.store.scan("logins") == world.store.scan("logins")
    world.check(logins, "I5 another order, other sign-ins")


def profiles_of(rows: Iterable[tuple[bytes, bytes]], resolver: Resolver) -> dict[bytes, Any]:
    """Every profile, folded from its members' fragments; a shared identifier stands for itself."""
    fragments: dict[bytes, list[Fragment]] = defaultdict(list)
    for node, row in rows:
        owner = node if resolver.is_shared(node) else resolver.profile_of(node)
        fragments[owner or node].append(_decode_fragment(row))
    return {profile: fold(members) for profile, members in fragments.items()}


def _check_belonging(world: World, live: Resolver, events: dict[int, Event]) -> None:
    named = {("user_id", event.user_id) for event in events.values()}
    named |= {("anonymous_id", event.anonymous_id) for event in events.values()}
    nodes: list[bytes] = []
    for node, row in opened(world, "identifiers"):
        if live.is_shared(node):
            continue
        nodes.append(node)
        identifier = decode_identifier(row)
        profile = live.profile_of(node)
        count = live.members(profile).count(node) if profile is not None else 0
        # An alias names its previous id in both namespaces; the one that was never seen on an
        # event of its own leads to the profile, and is not shown among its members.
        seen = identifier.namespace == "email" or (identifier.namespace, identifier.value) in named
        right = count == 1 or (count == 0 and not seen and profile is not None)
        world.check(right, "I6 an identifier without one profile", node.hex(), count)
    profiles = {live.profile_of(node): None for node in nodes}
    owners = Counter(
        member for profile in profiles if profile is not None for member in live.members(profile)
    )
    twice = [node.hex() for node, count in owners.items() if count > 1]
    world.check(not twice, "I6 an identifier in two profiles", twice)
    _check_issued(world, live)


def _check_issued(world: World, live: Resolver) -> None:
    issued: dict[bytes, None] = {}
    for _, record in Log(world.store, "changes").read(0, 10**9):
        change = decode_change(record)
        issued.update({change.profile_id: None, change.other_profile_id: None})
    for outlet in world.outlets.values():
        issued.update({bytes.fromhex(s.profile_id or ""): None for s in outlet.sightings})
    issued.pop(b"", None)
    for profile_id in issued:
        current = live.profile_of(profile_id)
        world.check(current is not None, "I6 a profile id that leads nowhere", profile_id.hex())
        if current is not None:
            fixed = live.profile_of(current) == current
            world.check(fixed, "I6 a profile id that leads on and on", profile_id.hex())


def _check_by_hand(world: World, live: Resolver, events: dict[int, Event]) -> None:
    """I2: counts and traits, computed from the events alone."""
    counts: dict[bytes, Counter[str]] = defaultdict(Counter)
    traits: dict[bytes, dict[str, tuple[int, str, Any]]] = defaultdict(dict)
    for event in events.values():
        leaf = _leaf(live, event)
        counts[leaf][event.type] += 1
        if event.type == "identify":
            for name, value in event.traits.items():
                held = traits[leaf].get(name)
                said = (event.event_time_us, event.message_id, value)
                if held is None or said[:2] > held[:2]:
                    traits[leaf][name] = said
    for node, row in opened(world, "fragments"):
        fragment = _decode_fragment(row)
        if node not in counts:  # of a group: it has no events of its own
            world.check(not fragment.event_counts, "I2 events counted for nobody", node.hex())
            continue
        expected = dict(counts.pop(node))
        world.check(
            fragment.event_counts == expected,
            "I2 events counted wrongly",
            node.hex(),
            fragment.event_counts,
            expected,
        )
        held = {n: (t.event_time_us, t.message_id, t.value) for n, t in fragment.traits.items()}
        world.check(
            held == traits[node], "I4 a trait is not the latest", node.hex(), held, traits[node]
        )
    world.check(not counts, "I2 events that no fragment has", [node.hex() for node in counts])


def _leaf(live: Resolver, event: Event) -> bytes:
    if event.user_id:
        node = live.node(NAMESPACE_CODE["user_id"], event.user_id)
    else:
        assert event.anonymous_id is not None, "accepted events name somebody"
        node = live.node(NAMESPACE_CODE["anonymous_id"], event.anonymous_id)
    assert node is not None, "the story has no unusable identifiers"
    return node
