import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.domain.change import MERGED, RESOLVED, decode_change
from cdp.domain.identifier import NAMESPACE_CODE
from tests.unit.identity.world import HOUR, MINUTE, Crash, World, event, histories


def node(world, namespace, value):
    return world.resolver.node(NAMESPACE_CODE[namespace], value)


SHOPPER = [
    event(1, anonymous_id="phone", event="Viewed"),
    event(2, anonymous_id="laptop", event="Viewed"),
    event(3, "identify", anonymous_id="phone", user_id="u1", traits={"email": "one@b.test"}),
    event(4, anonymous_id="laptop", event="Viewed"),
    event(5, "identify", anonymous_id="laptop", user_id="u1", traits={"plan": "paid"}),
    event(6, user_id="u1", event="Bought"),
]


def test_browsing_signing_up_and_buying_becomes_one_profile_with_all_of_it():
    world = World().feed(SHOPPER)
    profile = world.profiles.find("anonymous_id", "laptop")
    assert profile == world.profiles.find("email", "ONE@b.test")
    assert profile.state == "identified"
    assert profile.view.event_counts == {"track": 4, "identify": 2}
    assert {name: trait.value for name, trait in profile.view.traits.items()} == {
        "email": "one@b.test",
        "plan": "paid",
    }


def test_every_event_has_one_decision_in_event_order():
    world = World().feed(SHOPPER, batch_max=2)
    assert [change.cause_offset for change in world.resolved()] == list(range(6))


def test_a_merge_stands_before_the_decision_about_the_event_that_caused_it():
    world = World().feed(SHOPPER)
    decisions = world.decisions()
    merges = [n for n, change in enumerate(decisions) if change.kind == MERGED]
    assert merges, "two devices of one user merge"
    for n in merges:
        after = next(change for change in decisions[n:] if change.kind == RESOLVED)
        assert after.cause_offset == decisions[n].cause_offset
        assert after.profile_id == decisions[n].profile_id


def test_a_raw_identifier_stands_only_in_values():
    world = World().feed(SHOPPER)
    for family, rows in world.rows().items():
        for key, _ in rows:
            assert b"u1" not in key, family
            assert b"one@b" not in key, family


def test_an_identifier_is_written_once_however_often_it_is_named():
    world = World().feed(SHOPPER, batch_max=1)
    # the e-mail is there twice: as it is, and in its provider's canonical form where that differs
    values = {value for _, value in world.store.items("identifiers")}
    assert len(values) == len(world.rows()["identifiers"])


def test_an_event_that_names_nobody_usable_is_about_nobody():
    world = World().feed([event(1, user_id="null")])
    assert [(c.profile_id, c.leaf) for c in world.resolved()] == [(b"", b"")]
    assert world.rows("timeline", "fragments", "logins") == {
        "timeline": [],
        "fragments": [],
        "logins": [],
    }


def test_an_event_with_an_unusable_user_id_is_stored_under_its_anonymous_id():
    world = World().feed([event(1, user_id="null", anonymous_id="a1")])
    assert world.resolved()[0].leaf == node(world, "anonymous_id", "a1")
    assert world.rows("logins") == {"logins": []}


def test_an_alias_joins_the_anonymous_past():
    world = World().feed(
        [event(1, anonymous_id="a1"), event(2, "alias", user_id="u1", previous_id="a1")]
    )
    assert world.profiles.find("user_id", "u1") == world.profiles.find("anonymous_id", "a1")


def test_an_identify_that_carries_its_email_only_in_its_context_is_found_by_it():
    context = {"traits": {"email": "one@b.test"}}
    world = World().feed([event(1, "identify", user_id="u1", context=context)])
    assert world.profiles.find("email", "one@b.test") == world.profiles.find("user_id", "u1")


def test_a_groups_traits_are_the_groups():
    world = World().feed([event(1, "group", user_id="u1", group_id="acme", traits={"seats": 5})])
    assert world.profiles.group("acme").traits["seats"].value == 5
    profile = world.profiles.find("user_id", "u1")
    assert (profile.view.traits, list(profile.view.groups)) == ({}, ["acme"])
    assert world.profiles.group("globex") is None


TABLET = [
    event(1, "identify", at=0, user_id="ann", anonymous_id="tablet", traits={"name": "Ann"}),
    event(2, at=5 * MINUTE, anonymous_id="tablet", event="Read"),
    event(3, "identify", at=3 * HOUR, user_id="bob", anonymous_id="tablet", traits={"name": "Bob"}),
    event(4, at=3 * HOUR + 5 * MINUTE, anonymous_id="tablet", event="Read"),
    event(5, at=10 * MINUTE, anonymous_id="tablet", event="Late"),
]


def test_a_shared_tablet_joins_nobody_and_its_events_go_to_who_was_signed_in():
    world = World().feed(TABLET)
    ann, bob = world.profiles.find("user_id", "ann"), world.profiles.find("user_id", "bob")
    assert ann.profile_id != bob.profile_id
    assert world.profiles.find("anonymous_id", "tablet").shared
    decided = {change.cause_offset: change.profile_id for change in world.resolved()}
    assert decided[3] == bob.profile_id
    assert decided[4] == ann.profile_id, "a late event goes to who was signed in at its time"


def test_who_was_signed_in_does_not_depend_on_the_batches_of_the_fold():
    one = World().feed(TABLET, batch_max=1)
    all_at_once = World().feed(TABLET, batch_max=100)
    assert one.decisions() == all_at_once.decisions()


def test_a_decision_names_the_profile_of_its_moment_not_of_the_end_of_its_batch():
    events = [
        event(1, at=20 * MINUTE, user_id="ann", anonymous_id="tablet"),
        event(2, at=0, user_id="bob", anonymous_id="tablet"),
        event(3, at=21 * MINUTE, anonymous_id="tablet"),
        event(4, at=1 * MINUTE, user_id="ann", anonymous_id="older phone"),  # a new founder
    ]
    one, all_at_once = World().feed(events, batch_max=1), World().feed(events)
    assert all_at_once.decisions() == one.decisions()
    before, after = (change.profile_id for change in all_at_once.resolved()[2:])
    assert before == node(one, "user_id", "ann")
    assert after == node(one, "anonymous_id", "older phone")


def test_an_event_on_a_shared_tablet_long_before_any_sign_in_is_nobodys():
    world = World().feed([*TABLET, event(9, at=-72 * HOUR, anonymous_id="tablet")])
    assert world.resolved()[-1].profile_id == b""
    assert world.resolved()[-1].leaf == node(world, "anonymous_id", "tablet")


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_people_are_the_same_in_whatever_order_events_arrive(events, rng, batch_max):
    straight = World().feed(events)
    rng.shuffle(events)
    shuffled = World(cache_max=2).feed(events, batch_max=batch_max)
    assert shuffled.people() == straight.people()
    assert shuffled.resolver.digest() == straight.resolver.digest()


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(histories(), st.integers(1, 5), st.integers(1, 5))
def test_replay_from_the_first_event_writes_the_same_bytes(events, batch_max, other_batch_max):
    first = World().feed(events, batch_max=batch_max)
    again = World(cache_max=2).feed(events, batch_max=other_batch_max)
    assert again.rows() == first.rows()
    assert again.decisions() == first.decisions()


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(histories(), st.integers(1, 4), st.integers(0, 4))
def test_a_crash_between_step_and_write_leaves_no_trace(events, batch_max, crash_after):
    straight = World().feed(events, batch_max=batch_max)
    world = World()
    world.accept(events)
    try:
        world.resolve(batch_max=batch_max, crash_after=crash_after)
    except Crash:
        world.start()
        world.resolve(batch_max=batch_max)
    assert world.rows() == straight.rows()
    assert [c.cause_offset for c in world.resolved()] == list(range(len(events)))
    assert world.decisions() == straight.decisions()


def test_a_restarted_process_goes_on_where_the_last_one_was():
    straight = World().feed(SHOPPER)
    world = World().feed(SHOPPER[:3])
    world.open()
    world.feed(SHOPPER[3:])
    assert world.rows() == straight.rows()
    assert world.decisions() == straight.decisions()


def test_a_fold_that_failed_is_not_used_again():
    world = World()
    world.accept(SHOPPER)
    entries = world.events.read(0, 10)

    class Full:
        def put(self, *_):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        world.fold.step(Full(), entries)
    with pytest.raises(AssertionError, match="rebuilt"):
        world.fold.step(world.store.batch(), entries)


def test_a_change_names_the_leaf_under_which_the_event_is_stored():
    world = World().feed(SHOPPER)
    entries = world.changes.read(0, 100)
    last = decode_change(entries[-1].record)
    assert last.leaf == node(world, "user_id", "u1")
    assert any(key[:16] == last.leaf for key, _ in world.store.items("timeline"))
