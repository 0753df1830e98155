import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.domain.change import MERGED, RENAMED, RESOLVED, SPLIT, Change, encode
from cdp.domain.event import ConsentStamp
from cdp.identity.why import Why, caused_by
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from tests.unit.identity.world import HOUR, World, event, histories


def why(world):
    return Why(world.events, world.changes, world.profiles, lambda offset: [])


def sentences(world, offset):
    return why(world).event(offset)["sentences"]


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=60), st.integers(1, 40))
def test_the_changes_of_an_event_are_found_among_any_blocks(events, block):
    store = MemoryStore()
    log = Log(store, "changes")
    made, offset = [], 0
    for gap, count in events:  # not every event leaves a change behind once it is truncated
        offset += gap
        made += [Change(MERGED, offset, bytes([n])) for n in range(count)]
    for start in range(0, len(made), block):
        batch = store.batch()
        log.append(batch, [encode(change) for change in made[start : start + block]])
        store.write(batch)
        log.publish()
    for cause in range(offset + 2):
        assert caused_by(log, cause) == [c for c in made if c.cause_offset == cause]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(histories(), st.integers(1, 5))
def test_every_accepted_event_has_a_chain_that_ends_in_a_decision(events, batch_max):
    world = World().feed(events, batch_max=batch_max)
    for offset in range(len(events)):
        assert why(world).event(offset)["chain"][-1]["stage"] == "resolved"


def test_an_event_that_waits_says_so():
    world = World()
    world.accept([event(1, user_id="u1")])
    assert sentences(world, 0)[-1] == "waits to be resolved"


def test_an_event_past_its_retention_keeps_its_traces():
    world = World().feed([event(1, user_id="u1")])
    world.feed([event(2, user_id="u1")])
    batch = world.store.batch()
    world.events.truncate_before(batch, 1)
    world.store.write(batch)
    first, last = sentences(world, 0)
    assert first == "its body is past its retention; its traces remain"
    assert last.endswith("by user_id u1")
    batch = world.store.batch()
    world.changes.truncate_before(batch, 2)  # of the first event: it introduced u1
    world.store.write(batch)
    assert sentences(world, 0)[-1] == "the decision about it is past its retention"


def test_what_the_event_said_about_consent_is_told():
    stamp = ConsentStamp(True, {"ads": False, "analytics": True})
    world = World().feed([event(1, user_id="u1"), event(2, user_id="u1", stamp=stamp)])
    assert sentences(world, 0)[1] == "carried no consent; the configured defaults decide"
    assert sentences(world, 1)[1] == "carried consent: granted analytics; denied ads"


def test_an_event_about_nobody_says_why():
    tablet = [
        event(1, "identify", at=0, user_id="ann", anonymous_id="tablet"),
        event(2, "identify", at=HOUR, user_id="bob", anonymous_id="tablet"),
        event(3, at=-100 * HOUR, anonymous_id="tablet"),
        event(4, user_id="null"),
    ]
    world = World().feed(tablet)
    assert sentences(world, 2)[-1] == (
        "is about nobody: the device is shared, and nobody is known to have been signed in"
    )
    assert sentences(world, 3)[-2:] == [
        "named nobody who can be identified; not usable as an identifier: user_id null",
        "is about nobody: none of its identifiers is usable",
    ]


def test_a_merge_that_an_event_caused_is_told_before_its_profile():
    world = World().feed(
        [
            event(1, anonymous_id="a1"),
            event(2, user_id="u1"),
            event(3, "identify", anonymous_id="a1", user_id="u1"),
        ]
    )
    one = world.profiles.find("user_id", "u1").profile_id.hex()
    other = world.resolved()[1].profile_id.hex()
    assert sentences(world, 2)[-2:] == [
        f"joined profile {other} into {one}",
        f"is about profile {one}, by user_id u1",
    ]
    assert sentences(world, 1)[-1] == (
        f"is about profile {other}, by user_id u1; that profile is part of {one} now"
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (MERGED, "joined profile bb into aa"),
        (SPLIT, "parted profile bb from aa"),
        (RENAMED, "gave profile bb its earlier founder's id, aa"),
    ],
)
def test_every_kind_of_change_has_its_sentence(kind, expected):
    world = World().feed([event(1, user_id="u1")])
    store = MemoryStore()
    log = Log(store, "changes")
    batch = store.batch()
    made = [Change(kind, 0, b"\xaa", b"", b"\xbb"), Change(RESOLVED, 0, b"")]
    log.append(batch, [encode(change) for change in made])
    store.write(batch)
    log.publish()
    chain = Why(world.events, log, world.profiles, lambda offset: []).event(0)
    assert expected in chain["sentences"]


def kept(edges):
    return [edge["sentence"] for edge in edges]


def test_what_made_a_profile_is_told_in_sentences_and_an_aliass_guess_is_not():
    world = World().feed(
        [
            event(1, "identify", anonymous_id="a1", user_id="u1", traits={"email": "one@b.test"}),
            event(2, "alias", user_id="u9", previous_id="u1"),
        ]
    )
    found = why(world).profile(world.profiles.find("user_id", "u1"))
    assert [(one["namespace"], one["value"]) for one in found["identifiers"]] == [
        ("anonymous_id", "a1"),
        ("email", "one@b.test"),
        ("user_id", "u1"),
        ("user_id", "u9"),
    ]
    sentences = kept(found["evidence"]["accepted"])
    assert len(sentences) == 3
    assert sorted(sentence.split(": ", 1)[1] for sentence in sentences) == [
        "declared to be one person by an alias call, first 2023-11-14T22:13:22.000Z",
        "named together by an identify call, first 2023-11-14T22:13:21.000Z",
        "named together by an identify call, first 2023-11-14T22:13:21.000Z",
    ]
    assert "identifier " not in " ".join(sentences), "every node has its identifier"


def test_what_was_not_believed_is_told_with_its_reason():
    world = World().feed(
        [
            event(1, "identify", user_id="u1", traits={"email": "one@b.test"}),
            event(2, "identify", user_id="u2", traits={"email": "one@b.test"}),
        ]
    )
    one, two = (world.profiles.find("user_id", value) for value in ("u1", "u2"))
    assert one.profile_id != two.profile_id
    (sentence,) = kept(why(world).profile(one)["evidence"]["suppressed"])
    assert sentence.startswith(
        ("user_id u2 and email one@b.test", "email one@b.test and user_id u2")
    )
    assert "not believed: a profile has at most 1 user_id, and user_id u" in sentence
    found = why(world).two(one.profile_id, two.profile_id)
    assert (found["one_profile"], found["reason"]) == (False, "a link between them was refused")
    assert any("not believed" in sentence for sentence in kept(found["path"]))


def test_two_who_met_on_a_shared_device_are_told_so():
    world = World().feed(
        [
            event(1, user_id="ann", anonymous_id="tablet"),
            event(2, user_id="bob", anonymous_id="tablet"),
        ]
    )
    ann, bob = (world.profiles.find("user_id", value) for value in ("ann", "bob"))
    found = why(world).two(ann.profile_id, bob.profile_id)
    assert found["reason"] == "they meet only at a shared or crowded identifier"
    assert [one["value"] for one in found["shared"]] == ["tablet"]
    assert all("one of them is shared" in sentence for sentence in kept(found["path"]))
    (shared,) = why(world).profile(ann)["evidence"]["shared_neighbours"]
    assert (shared["namespace"], shared["value"]) == ("anonymous_id", "tablet")


def test_two_who_never_met_are_told_so():
    world = World().feed([event(1, user_id="u1"), event(2, user_id="u2")])
    one, two = (world.profiles.find("user_id", value) for value in ("u1", "u2"))
    assert why(world).two(one.profile_id, two.profile_id)["reason"] == "no evidence connects them"
    assert why(world).two(one.profile_id, one.profile_id)["one_profile"] is True
