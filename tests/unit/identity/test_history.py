import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.identity import history
from cdp.identity.history import HistoryTooLong, Place, Question
from tests.unit.identity.world import SECOND, START, World, event, histories, in_order


async def straight(world, profile):
    """Every event of a profile, oldest first, read in one go."""
    page = await world.history.page(profile, Question(limit=10_000, newest_first=False))
    return page.events


async def paged(world, profile, **asked):
    found, after = [], None
    while True:
        page = await world.history.page(profile, Question(after=after, **asked))
        assert len(page.events) <= asked["limit"]
        found += page.events
        if page.next is None:
            return found
        after = page.next


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 4), st.booleans(), st.integers(1, 3), st.integers(1, 3))
async def test_pages_of_any_size_make_the_whole_history(
    events, limit, newest_first, rows, examined
):
    world = World().feed(events)
    with pytest.MonkeyPatch.context() as patch:
        for node, _ in world.store.items("identifiers"):
            profile = world.profiles.of_node(node)
            whole = await straight(world, profile)
            patch.setattr(history, "ROWS_READ_MIN", rows)
            patch.setattr(history, "ROWS_READ_MAX", rows)
            patch.setattr(history, "EXAMINED_MAX", examined)
            found = await paged(world, profile, limit=limit, newest_first=newest_first)
            patch.undo()
            assert found == (whole[::-1] if newest_first else whole)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(histories())
async def test_every_event_is_in_one_history_or_on_a_shared_device_with_nobody(events):
    world = World().feed(events)
    profiles = {
        world.profiles.of_node(node).profile_id: world.profiles.of_node(node)
        for node, _ in world.store.items("identifiers")
    }
    seen = [
        past.moment.offset
        for profile in profiles.values()
        if not profile.shared and not world.resolver.is_shared(profile.members[0])
        for past in await straight(world, profile)
    ]
    assert len(seen) == len(set(seen))
    for offset in set(range(len(events))) - set(seen):
        change = next(c for c in world.resolved() if c.cause_offset == offset)
        assert not change.leaf or world.resolver.is_shared(change.leaf)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(histories())
async def test_as_of_now_is_the_profile(events):
    world = World().feed(events)
    for node, _ in world.store.items("identifiers"):
        profile = world.profiles.of_node(node)
        earlier = await world.history.as_of(profile, START + 1_000_000 * SECOND)
        assert in_order(earlier.view) == in_order(profile.view)
        assert earlier.missing == 0
        assert earlier.nodes <= set(profile.members)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 10))
async def test_as_of_a_time_is_the_fold_of_what_had_happened_by_then(events, twenty_minutes):
    time_us = START + twenty_minutes * 1_200 * SECOND
    world = World().feed(events)
    profile = world.profiles.of_node(next(world.store.items("identifiers"))[0])
    earlier = await world.history.as_of(profile, time_us)
    expected = sum(
        change.leaf in profile.members and events[change.cause_offset].event_time_us <= time_us
        for change in world.resolved()
    )
    assert earlier.events == expected
    assert sum(earlier.view.event_counts.values()) == expected


async def test_a_history_that_is_too_long_for_one_question_is_refused(monkeypatch):
    monkeypatch.setattr(history, "AS_OF_EVENTS_MAX", 3)
    world = World().feed([event(n, user_id="u1") for n in range(4)])
    profile = world.profiles.find("user_id", "u1")
    assert (await world.history.as_of(profile, START + 2 * SECOND)).events == 3
    with pytest.raises(HistoryTooLong, match="more than 3 events"):
        await world.history.as_of(profile, START + 3 * SECOND)


async def test_a_page_looks_at_a_bounded_number_of_events_and_says_where_it_stopped(monkeypatch):
    monkeypatch.setattr(history, "EXAMINED_MAX", 5)
    world = World().feed([event(n, user_id="u1") for n in range(9)])
    profile = world.profiles.find("user_id", "u1")
    page = await world.history.page(profile, Question(include={"Bought"}, newest_first=False))
    assert page == ([], Place(START + 4 * SECOND, 4))


async def test_events_of_one_time_are_in_log_order():
    world = World().feed([event(n, at=0, user_id="u1") for n in range(5)])
    profile = world.profiles.find("user_id", "u1")
    found = await paged(world, profile, limit=2, newest_first=False)
    assert [past.moment.offset for past in found] == list(range(5))
