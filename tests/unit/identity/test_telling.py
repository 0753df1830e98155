"""From the change log alone a reader knows who is whose."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.domain.change import INTRODUCED, MERGED, RENAMED, RESOLVED, SPLIT
from cdp.domain.identifier import NAMESPACE_CODE
from tests.unit.identity.test_identity_fold import SHOPPER, TABLET
from tests.unit.identity.world import HOUR, World, event, histories


def node(world, namespace, value):
    return world.resolver.node(NAMESPACE_CODE[namespace], value)


def read_along(changes):
    """What a reader of the change log holds after it: the profile of every node."""
    owners, introduced = {}, set()
    for change in changes:
        if change.kind == INTRODUCED:
            assert change.leaf not in introduced, "introduced once"
            introduced.add(change.leaf)
            owners[change.leaf] = change.profile_id
        elif change.kind in (MERGED, RENAMED):
            for known, owner in owners.items():
                if owner == change.other_profile_id:
                    owners[known] = change.profile_id
        elif change.kind == SPLIT:
            owners.update(dict.fromkeys(change.nodes, change.other_profile_id))
    return owners


def truth(world):
    """The same, asked of the graph: of whoever is some profile's own."""
    found = {}
    for key, _ in world.store.items("identifiers"):
        profile_id = world.resolver.profile_of(key)
        if key in world.resolver.members(key) and not world.resolver.is_shared(key):
            found[key] = profile_id
    return found


def agrees(world):
    owners = read_along(world.decisions())
    return {key: owners.get(key) for key in truth(world)} == truth(world)


def kinds_of(world, offset):
    return [change.kind for change in world.decisions() if change.cause_offset == offset]


def test_an_identifier_is_introduced_once_before_the_decision_about_its_event():
    world = World().feed(SHOPPER)
    assert kinds_of(world, 0) == [INTRODUCED, RESOLVED]
    assert kinds_of(world, 3) == [RESOLVED]
    assert kinds_of(world, 2).count(INTRODUCED) == 2, "a user and an e-mail"
    assert agrees(world)


def test_an_introduced_identifier_belongs_to_the_profile_of_its_moment():
    world = World().feed(SHOPPER)
    introduced = {c.leaf: c.profile_id for c in world.decisions() if c.kind == INTRODUCED}
    laptop, email = node(world, "anonymous_id", "laptop"), node(world, "email", "one@b.test")
    assert introduced[laptop] == laptop, "it joined the other devices later"
    assert introduced[email] == world.resolver.profile_of(email)


def test_a_decision_on_a_shared_device_names_who_was_signed_in():
    world = World().feed(TABLET)
    people = {change.cause_offset: change.person for change in world.resolved()}
    assert people[3] == node(world, "user_id", "bob")
    assert people[4] == node(world, "user_id", "ann")
    assert people[2] == b"", "a user is signed in: it is theirs by its leaf"


def test_a_decision_about_nobody_names_nobody_who_was_signed_in():
    world = World().feed([*TABLET, event(9, at=-72 * HOUR, anonymous_id="tablet")])
    assert world.resolved()[-1].person == b""


def test_a_split_names_every_identifier_of_the_other_profile():
    world = World().feed(TABLET)
    (split,) = (change for change in world.decisions() if change.kind == SPLIT)
    tablet = node(world, "anonymous_id", "tablet")
    assert set(split.nodes) == set(world.resolver.members(split.other_profile_id))
    assert world.resolver.is_shared(tablet)
    assert agrees(world)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(histories(), st.integers(1, 6))
def test_a_reader_of_the_change_log_knows_the_profile_of_every_identifier(events, batch_max):
    assert agrees(World().feed(events, batch_max=batch_max))
