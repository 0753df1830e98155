import pytest
import trio

from cdp.actors import Actor, RestartPolicy, open_supervisor
from cdp.identity import actor as identity_actor
from cdp.identity.actor import IdentityActor, load
from cdp.storage.log import Log
from cdp.testing.world import run_inline
from tests.unit.identity.world import KEY, RULES, World, event

EVENTS = [
    event(1, anonymous_id="a1"),
    event(2, "identify", anonymous_id="a1", user_id="u1"),
    event(3, user_id="u1"),
]


class Failing(Log):
    """A change log that cannot take records for a while."""

    failures = 0

    def append(self, batch, records):
        if self.failures:
            self.failures -= 1
            raise OSError("planted")
        return super().append(batch, records)


def actor_of(world, stopping, changes=None):
    return IdentityActor(
        store=world.store,
        events=world.events,
        changes=changes or world.changes,
        cursors=world.cursors,
        key=KEY,
        rules=RULES,
        stopping=stopping,
        batch_max=2,
        fragment_cache_max=10,
        run_in_thread=run_inline,
    )


async def test_the_actor_resolves_what_waits_and_what_comes_until_told_to_stop(
    autojump_clock,
):
    world, stopping = World(), trio.Event()
    world.accept(EVENTS[:2])
    actor = actor_of(world, stopping)
    assert actor.resolver is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run)
        await world.changes.wait(1)
        world.accept(EVENTS[2:])
        await world.changes.wait(world.changes.published)
        assert actor.resolver is not None
        stopping.set()
    assert [change.cause_offset for change in world.resolved()] == [0, 1, 2]
    assert world.rows() == World().feed(EVENTS).rows()


async def test_a_crashed_actor_goes_on_from_the_store_with_nothing_lost_or_twice(autojump_clock):
    world, stopping = World(), trio.Event()
    world.accept(EVENTS)
    changes = Failing(world.store, "changes")
    changes.failures = 2
    actor = actor_of(world, stopping, changes)
    crashes = []

    def on_crash(crashed, error):
        assert actor.resolver is None, "nobody reads from a resolver that is ahead of the store"
        crashes.append(str(error))

    async with open_supervisor(on_crash=on_crash) as supervisor:
        supervisor.start(Actor("identity", actor.run, restart=RestartPolicy()))
        await changes.wait(0)
        await changes.wait(changes.published)
        stopping.set()
    assert crashes == ["planted", "planted"]
    world.open()
    assert world.rows() == World().feed(EVENTS).rows()
    assert [change.cause_offset for change in world.resolved()] == [0, 1, 2]


@pytest.mark.parametrize("rows_max", [1, 2, 3, 1_000])
async def test_the_graph_is_loaded_whole_in_parts_of_any_size(monkeypatch, rows_max):
    monkeypatch.setattr(identity_actor, "LOAD_ROWS_MAX", rows_max)
    world = World().feed(EVENTS)
    resolver = type(world.resolver)(KEY, RULES)
    await load(resolver, world.store)
    assert resolver.digest() == world.resolver.digest()
