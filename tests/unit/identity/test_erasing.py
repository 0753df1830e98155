"""Erasing people from everything that identity keeps."""

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.actors import Actor, RestartPolicy, open_supervisor
from cdp.domain.change import MERGED
from cdp.errors import StorageError
from cdp.identity.actor import READER, IdentityActor
from cdp.identity.people import People
from cdp.identity.traces import stretches
from cdp.storage.memory import MemoryStore
from cdp.testing.world import run_inline
from tests.unit.identity.world import (
    FOLDED,
    HOUR,
    KEY,
    MINUTE,
    RULES,
    START,
    World,
    event,
    histories,
)

HOUSEHOLD = [
    event(1, "identify", at=0, user_id="ann", anonymous_id="tablet", traits={"name": "Ann"}),
    event(2, at=5 * MINUTE, anonymous_id="tablet", event="Read"),
    event(3, "identify", at=3 * HOUR, user_id="bob", anonymous_id="tablet", traits={"name": "Bob"}),
    event(4, at=3 * HOUR + 5 * MINUTE, anonymous_id="tablet", event="Read"),
    event(5, at=4 * HOUR, user_id="ann", anonymous_id="phone", event="Bought"),
]


def actor_of(world, stopping=None):
    return IdentityActor(
        store=world.store,
        events=world.events,
        changes=world.changes,
        cursors=world.cursors,
        key=KEY,
        rules=RULES,
        stopping=trio.Event() if stopping is None else stopping,
        batch_max=2,
        fragment_cache_max=10,
        run_in_thread=run_inline,
        vault=world.vault,
        suppression=world.suppressed,
    )


async def folded(world):
    """Returns when everything that was accepted is folded."""
    while world.cursors.get(READER) < world.events.published:  # noqa: ASYNC110
        await trio.sleep(0.01)


async def run_until_idle(actor, world, then):
    """Starts the actor, lets it fold what waits, and then does something."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run)
        await folded(world)
        await then()
        nursery.cancel_scope.cancel()


def node(world, namespace, value):
    return world.profiles.node(namespace, value)


def members(world, namespace, value):
    return list(world.profiles.find(namespace, value).members)


def rows_that_name(world, nodes):
    return [
        (family, key)
        for family in FOLDED
        for key, value in world.store.items(family)
        if any(one in key or one in value for one in nodes)
    ]


async def test_nothing_of_an_erased_person_is_left_in_any_row(autojump_clock):
    world = World()
    world.accept(HOUSEHOLD)
    actor = actor_of(world)
    gone = []

    async def erase():
        world.resolver = actor.resolver
        gone.extend(members(world, "user_id", "ann"))
        assert rows_that_name(world, gone)
        await actor.erase(gone)
        assert world.profiles.find("user_id", "ann") is None

    await run_until_idle(actor, world, erase)
    assert rows_that_name(world, gone) == []
    world.start()
    assert world.resolver.digest() == actor_digest(world)
    assert not any(b"Ann" in value for _, value in world.store.items("fragments"))
    bob = world.profiles.find("user_id", "bob")
    assert bob.view.traits["name"].value == "Bob"


def actor_digest(world):
    resolver = type(world.resolver)(KEY, RULES)
    resolver.load(list(world.store.items("identity")))
    return resolver.digest()


async def test_a_tablet_of_two_is_the_others_alone_and_without_what_the_erased_did(autojump_clock):
    world = World()
    world.accept(HOUSEHOLD)
    actor = actor_of(world)

    async def erase():
        world.resolver = actor.resolver
        assert world.profiles.find("anonymous_id", "tablet").shared
        await actor.erase(members(world, "user_id", "ann"))
        tablet = world.profiles.find("anonymous_id", "tablet")
        assert not tablet.shared
        assert tablet == world.profiles.find("user_id", "bob")

    await run_until_idle(actor, world, erase)
    offsets = {int.from_bytes(key[-8:], "big") for key, _ in world.store.items("timeline")}
    assert offsets == {2, 3}, "what was read while Ann was signed in went with her"
    merges = [change for change in world.decisions() if change.by_erasure]
    assert [(one.kind, one.cause_offset) for one in merges] == [(MERGED, 4)]


async def test_a_change_that_follows_from_an_erasure_stands_in_the_order_of_causes(autojump_clock):
    world = World()
    world.accept(HOUSEHOLD)
    actor = actor_of(world)

    async def erase():
        world.resolver = actor.resolver
        await actor.erase(members(world, "user_id", "ann"))
        world.accept([event(6, at=5 * HOUR, user_id="cid")])
        await folded(world)

    await run_until_idle(actor, world, erase)
    causes = [change.cause_offset for change in world.decisions()]
    assert causes == sorted(causes)


async def test_erasing_again_finds_nothing(autojump_clock):
    world = World()
    world.accept(HOUSEHOLD)
    actor = actor_of(world)

    async def erase():
        world.resolver = actor.resolver
        gone = members(world, "user_id", "ann")
        await actor.erase(gone)
        before, changes = world.rows(), world.decisions()
        await actor.erase(gone)
        assert (world.rows(), world.decisions()) == (before, changes)

    await run_until_idle(actor, world, erase)


async def test_who_comes_back_after_an_erasure_is_somebody_new(autojump_clock):
    world = World()
    world.accept(HOUSEHOLD)
    actor = actor_of(world)

    async def erase():
        world.resolver = actor.resolver
        await actor.erase(members(world, "user_id", "ann"))
        world.accept([event(6, at=5 * HOUR, user_id="ann", anonymous_id="tablet")])
        await folded(world)
        ann = world.profiles.find("user_id", "ann")
        assert ann.view.event_counts == {"track": 1}
        assert ann.view.traits == {}

    await run_until_idle(actor, world, erase)


class FailsOnce(MemoryStore):
    """A store that fails one write, after which it is as it was."""

    failing = False

    def write(self, batch):
        if self.failing:
            self.failing = False
            raise StorageError("planted")
        super().write(batch)


async def test_an_erasure_that_is_not_written_leaves_nobody_a_graph_that_forgot(autojump_clock):
    world = World(FailsOnce())
    world.accept(HOUSEHOLD)
    stopping = trio.Event()
    actor = actor_of(world, stopping)
    crashes = []

    async with open_supervisor(on_crash=lambda _, error: crashes.append(str(error))) as supervisor:
        supervisor.start(Actor("identity", actor.run, restart=RestartPolicy()))
        await folded(world)
        world.resolver = actor.resolver
        gone = members(world, "user_id", "ann")
        world.store.failing = True
        with pytest.raises(StorageError, match="planted"):
            await actor.erase(gone)
        assert actor.resolver is None
        await actor.erase(gone)  # waits for the graph that is built anew
        assert actor.resolver.profile_of(gone[0]) is None
        stopping.set()
    assert crashes == ["planted"]
    assert rows_that_name(world, gone) == []


async def test_whose_members_changed_is_told_after_the_write(autojump_clock):
    world = World()
    actor = actor_of(world)
    told = []

    def hear(profile_ids):
        stored = {key[1:] for key, _ in world.store.items("identity") if key[:1] == b"n"}
        told.append((set(profile_ids), stored))

    actor.on_change = hear
    world.accept([event(1, user_id="ann")])

    async def go_on():
        world.resolver = actor.resolver
        ann = node(world, "user_id", "ann")
        assert told.pop() == ({ann}, {ann})
        world.accept([event(2, user_id="ann")])
        await folded(world)
        assert told == [], "nobody's members changed"
        world.accept([event(3, user_id="ann", anonymous_id="phone")])
        await folded(world)
        profile_ids, stored = told.pop()
        assert profile_ids == {ann}, "a node joined a profile that was there"
        assert node(world, "anonymous_id", "phone") in stored
        await actor.erase([ann])
        assert ann in told.pop()[0]

    await run_until_idle(actor, world, go_on)


def test_an_erased_event_leaves_no_trace():
    world = World()
    world.erased = {0, 2}
    world.feed(HOUSEHOLD)
    assert [change.cause_offset for change in world.resolved()] == [1, 3, 4]
    offsets = {int.from_bytes(key[-8:], "big") for key, _ in world.store.items("timeline")}
    assert offsets == {1, 3, 4}
    assert world.cursors.get(READER) == 5


def test_a_batch_of_erased_events_only_moves_the_cursor():
    world = World()
    world.erased = set(range(5))
    world.feed(HOUSEHOLD)
    assert world.rows() == {family: [] for family in FOLDED}
    assert world.decisions() == []
    assert world.cursors.get(READER) == 5


def test_what_others_say_of_a_suppressed_identifier_is_as_if_they_had_not():
    world, without = World(), World()
    world.suppressed.nodes = {node(world, "email", "ann@b.test")}
    context = {"traits": {"email": "ann@b.test", "phone": "+1 650 253 0000"}}
    world.feed([event(1, user_id="bob", context=context)])
    without.feed([event(1, user_id="bob", context={"traits": {"phone": "+1 650 253 0000"}})])
    assert world.rows() == without.rows()


def test_an_event_of_somebody_suppressed_is_passed_over():
    world = World()
    world.suppressed.nodes = {node(world, "user_id", "ann")}
    world.feed(HOUSEHOLD)
    assert [change.cause_offset for change in world.resolved()] == [1, 2, 3]
    assert rows_that_name(world, world.suppressed.nodes) == []


def test_a_canonical_address_that_is_suppressed_takes_its_spellings_along():
    world = World()
    canonical = node(world, "email_canonical", "ann@gmail.com")
    world.suppressed.nodes = {canonical}
    traits = {"email": "a.nn+shop@gmail.com"}
    world.feed([event(1, "identify", user_id="bob", traits=traits)])
    assert len(world.rows()["identifiers"]) == 1


def test_rows_with_raw_values_are_sealed_and_read_through_the_vault():
    world, plain = World(sealed=True).feed(HOUSEHOLD), World().feed(HOUSEHOLD)
    for family in ("identifiers", "fragments"):
        for _, value in world.store.items(family):
            assert not any(word in value for word in (b"ann", b"Ann", b"tablet", b"Bob"))
    assert world.people() == plain.people()
    world.open()
    world.feed([event(9, at=9 * HOUR, user_id="ann")])
    assert world.people() == plain.feed([event(9, at=9 * HOUR, user_id="ann")]).people()


async def test_a_row_whose_key_is_destroyed_counts_as_absent():
    world = World(sealed=True, cache_max=2).feed(HOUSEHOLD)
    ann = node(world, "user_id", "ann")
    profile = world.profiles.find("user_id", "ann")
    assert profile.view.traits["name"].value == "Ann"

    async def in_this_thread(work, *args):
        return work(*args)

    await world.vault.destroy(world.vault.slots_of(ann), in_this_thread)
    profile = world.profiles.find("user_id", "ann")
    assert profile.view.traits == {}
    known = {known.identifier.value for known in world.profiles.identifiers(profile)}
    assert known == set(), "her user id, and the devices that her events named first"


async def test_an_erasure_waits_for_the_graph(autojump_clock):
    world = World().feed(HOUSEHOLD)
    actor, gone = actor_of(world), members(world, "user_id", "ann")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.erase, gone)
        await trio.testing.wait_all_tasks_blocked()
        assert rows_that_name(world, gone)
        nursery.start_soon(actor.run)
        await trio.testing.wait_all_tasks_blocked()
        assert rows_that_name(world, gone) == []
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(histories(), histories(events_max=4), st.integers(1, 5), st.randoms(use_true_random=False))
def test_an_erasure_leaves_the_rows_of_others_and_a_store_to_go_on_from(
    events, later, batch_max, rng
):
    world = World(cache_max=2).feed(events, batch_max=batch_max)
    known = [key for key, _ in world.store.items("identifiers")]
    if not known:
        return
    gone = list(world.profiles.of_node(rng.choice(known)).members)
    before = world.rows()
    shown = {one for key in known for one in world.profiles.of_node(key).members}

    async def erase():
        actor = actor_of(world)

        async def once():
            await actor.erase(gone)

        await run_until_idle(actor, world, once)

    trio.run(erase)
    assert rows_that_name(world, gone) == []
    after = world.rows()
    for family in ("identifiers", "fragments"):
        assert all(row in before[family] for row in after[family])
        lost = {key for key, _ in before[family]} - {key for key, _ in after[family]} - set(gone)
        assert not lost & shown, "only readings of an alias that nobody used go along"
    world.start()
    world.feed(later, batch_max=batch_max)
    assert all(world.profiles.of_node(key) for key, _ in world.store.items("identifiers"))


def test_a_sign_in_lasts_until_somebody_elses_and_the_first_reaches_back_a_session():
    ann, bob = b"a" * 16, b"b" * 16
    logins = [(START, ann), (START + 1, ann), (START + 9, bob), (START + 20, ann)]
    assert stretches(logins, {ann}) == [
        (START - 30 * MINUTE, START + 9),
        (START + 20, 2**64 - 1),
    ]
    assert stretches(logins, {bob}) == [(START + 9, START + 20)]
    assert stretches([], {ann}) == []


def test_people_are_the_members_that_are_theirs_alone():
    world = World().feed(HOUSEHOLD)
    people = People(lambda: world.resolver)
    ann, tablet = node(world, "user_id", "ann"), node(world, "anonymous_id", "tablet")
    assert people.ready
    assert set(people.members(ann)) == {ann, node(world, "anonymous_id", "phone")}
    assert people.is_shared(tablet)
    assert people.members(tablet) == []
    assert people.members(b"never seen befor") == []
    assert people.profile_of(b"never seen befor") is None
    assert not People(lambda: None).ready
