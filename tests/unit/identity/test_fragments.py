from itertools import permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.domain.event import ConsentStamp, Event, encode_event
from cdp.domain.profile import UNKNOWN_STAMP, Fragment, TraitValue, allowed_traits, fold
from cdp.identity import fragments
from cdp.identity.facts import decode_facts
from cdp.identity.fragments import FragmentCache, apply_event, apply_group, group_node


def event(n, type="identify", *, time_us=None, source="web", **fields):
    at = n if time_us is None else time_us
    return decode_facts(encode_event(Event(1, type, f"m{n}", source, at, 0, **fields)))


def folded(events):
    fragment = Fragment()
    for one in events:
        apply_event(fragment, one)
    return fragment


def canonical(fragment):
    return msgspec.json.encode(fragment, order="sorted")


def test_the_later_event_sets_the_trait_whenever_it_arrives():
    early, late = event(1, traits={"plan": "free"}), event(2, traits={"plan": "paid"})
    for order in permutations([early, late]):
        assert folded(order).traits["plan"] == TraitValue("paid", 2, "m2", "web", 0)


def test_events_of_the_same_time_are_ordered_by_their_ids():
    one, two = event(1, time_us=9, traits={"a": 1}), event(2, time_us=9, traits={"a": 2})
    assert canonical(folded([one, two])) == canonical(folded([two, one]))
    assert folded([two, one]).traits["a"].value == 2


def test_a_null_trait_removes_and_an_older_value_does_not_bring_it_back():
    fragment = folded([event(2, traits={"plan": None}), event(1, traits={"plan": "free"})])
    assert fragment.traits["plan"].value is None


def test_an_empty_text_is_a_value():
    assert folded([event(1, traits={"plan": ""})]).traits["plan"].value == ""


def test_only_an_identify_sets_traits():
    assert folded([event(1, "track", traits={"a": 1})]).traits == {}


def test_every_event_is_counted_by_type_and_source():
    fragment = folded([event(1), event(2, "track"), event(3, "track", source="app")])
    assert fragment.event_counts == {"identify": 1, "track": 2}
    assert fragment.sources == {"web": 2, "app": 1}


def test_first_and_last_are_by_event_time_not_by_arrival():
    fragment = folded([event(2), event(3), event(1)])
    assert fragment.first_message == (1, "m1", "web")
    assert fragment.last_message == (3, "m3", "web")
    assert (fragment.first_seen_us, fragment.last_seen_us) == (1, 3)


def test_a_group_is_remembered_with_its_latest_time_and_its_traits_are_not_the_persons():
    events = [event(n, "group", group_id="acme", traits={"seats": n}) for n in (2, 1)]
    fragment = folded(events)
    assert (fragment.groups, fragment.traits) == ({"acme": 2}, {})
    group = Fragment()
    for one in events:
        apply_group(group, one)
    assert group.traits["seats"].value == 2
    assert group.first_message == (1, "m1", "web")


def test_a_groups_node_depends_on_the_key():
    assert group_node(b"k" * 16, "acme") != group_node(b"x" * 16, "acme")
    assert len(group_node(b"k" * 16, "acmé")) == 16


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["identify", "track", "group"]),
        st.integers(0, 4),
        st.dictionaries(st.sampled_from("abcd"), st.sampled_from([None, 1, "x"]), max_size=3),
        st.sampled_from(["g1", "g2", "g3"]),
    ),
    max_size=12,
)


@pytest.mark.slow
@settings(deadline=None)
@given(EVENTS, st.randoms(use_true_random=False), st.integers(1, 4))
def test_a_fragment_is_the_same_in_any_order_of_arrival_also_at_its_limits(drawn, rng, limit):
    events = [
        event(n, type, time_us=time_us, traits=traits, group_id=group)
        for n, (type, time_us, traits, group) in enumerate(drawn)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments, "TRAITS_MAX", limit)
        patch.setattr(fragments, "GROUPS_MAX", limit)
        before = canonical(folded(events))
        rng.shuffle(events)
        assert canonical(folded(events)) == before
        assert len(folded(events).traits) <= limit
        assert len(folded(events).groups) <= limit


def test_a_full_fragment_keeps_the_traits_that_were_set_last():
    count = fragments.TRAITS_MAX
    fragment = folded([event(n, traits={f"t{n}": n}) for n in range(count + 3)])
    assert set(fragment.traits) == {f"t{n}" for n in range(3, count + 3)}


class Rows:
    """A family of fragments that counts what is asked of it."""

    def __init__(self):
        self.rows = {}
        self.asked = []

    def __call__(self, nodes):
        self.asked += nodes
        return [self.rows.get(node) for node in nodes]


def test_the_cache_reads_a_fragment_once():
    rows = Rows()
    rows.rows[b"a"] = fragments.encode_fragment(Fragment(event_counts={"track": 4}))
    cache = FragmentCache(rows, entries_max=10)
    first = cache.take([b"a", b"b"])
    assert first[b"a"].event_counts == {"track": 4}
    assert first[b"b"] == Fragment()
    assert cache.take([b"a"])[b"a"] is first[b"a"]
    assert rows.asked == [b"a", b"b"]


def test_the_cache_forgets_what_was_used_longest_ago_and_reads_it_again():
    rows = Rows()
    cache = FragmentCache(rows, entries_max=4)
    for node in (b"a", b"b", b"c", b"d", b"a", b"e", b"f"):
        cache.take([node])
    assert len(cache) <= 4
    rows.asked.clear()
    cache.take([b"b"])
    assert rows.asked == [b"b"]


def test_the_cache_is_bounded_by_its_limit_and_one_batch():
    cache = FragmentCache(Rows(), entries_max=8)
    for start in range(0, 1_000, 10):
        cache.take([b"%d" % n for n in range(start, start + 10)])
        assert len(cache) <= 8 + 2 * 10


YES, NO = ConsentStamp(True, {"ads": True}), ConsentStamp(True, {"ads": False})
stamps = st.sampled_from([YES, NO, ConsentStamp(), ConsentStamp(True, {"ads": True}, head=7)])
identifies = st.lists(
    st.tuples(
        st.integers(0, 4),
        stamps,
        st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 2), max_size=3),
    ),
    max_size=8,
)


def grants_ads(stamp):
    return stamp.readable and stamp.purposes.get("ads", False)


def test_a_trait_remembers_the_consent_of_the_event_that_set_it():
    fragment = folded(
        [
            event(1, traits={"plan": "free", "city": "Oslo"}, stamp=YES),
            event(2, traits={"plan": "paid"}, stamp=NO),
        ]
    )
    view = fold([fragment])
    assert {name: trait.stamp for name, trait in view.traits.items()} == {"plan": NO, "city": YES}
    assert allowed_traits(view, grants_ads) == {"city": "Oslo"}


def test_a_consent_that_no_trait_was_collected_under_any_more_is_not_kept():
    fragment = folded([event(n, traits={"plan": n}, stamp=ConsentStamp(head=n)) for n in range(9)])
    assert fragment.stamps == [ConsentStamp(head=8)]


def test_consents_are_never_more_than_traits():
    many = [event(n, traits={f"t{n}": 1}, stamp=ConsentStamp(head=n)) for n in range(5)]
    again = [event(9 + n, traits={"t0": n}, stamp=ConsentStamp(head=90 + n)) for n in range(9)]
    assert len(folded(many + again).stamps) == 5


def test_an_event_that_sets_no_trait_leaves_no_consent():
    assert folded([event(1, "track", stamp=YES), event(2, stamp=YES)]).stamps == []


def test_a_removed_trait_is_no_trait_and_whoever_asks_is_asked_once_a_consent():
    asked = []

    def allow(stamp):
        asked.append(stamp)
        return True

    fragment = folded([event(1, traits={"a": 1, "b": 2, "c": None}, stamp=YES)])
    assert allowed_traits(fold([fragment]), allow) == {"a": 1, "b": 2}
    assert asked == [YES]


def test_a_trait_from_before_traits_remembered_consent_is_nobodys_to_use():
    stored = msgspec.msgpack.encode([{"plan": ["free", 1, "m1", "web"]}, 1, 1, {}, {}, {}])
    view = fold([fragments.decode_fragment(stored)])
    assert view.traits["plan"].stamp == UNKNOWN_STAMP
    assert allowed_traits(view, lambda stamp: stamp.readable) == {}


@settings(max_examples=200, deadline=None)
@given(identifies, st.randoms(use_true_random=False))
def test_the_consent_of_traits_does_not_depend_on_the_order_of_events(said, rng):
    events = [
        event(n, time_us=time_us, traits=traits, stamp=stamp)
        for n, (time_us, stamp, traits) in enumerate(said)
    ]
    straight = folded(events)
    expected = {}
    for one, (_, stamp, traits) in sorted(
        zip(events, said, strict=True), key=lambda pair: (pair[0].event_time_us, pair[0].message_id)
    ):
        expected |= dict.fromkeys(traits, (stamp, one.message_id))
    found = {
        name: (straight.stamp_of(trait), trait.message_id)
        for name, trait in straight.traits.items()
    }
    assert found == expected
    rng.shuffle(events)
    halves = [folded(events[::2]), folded(events[1::2])]
    assert canonical(folded(events)) == canonical(straight)
    assert canonical(fold(halves).traits) == canonical(fold([straight]).traits)


def test_the_oldest_traits_take_their_consent_along_when_they_fall_out(monkeypatch):
    monkeypatch.setattr(fragments, "TRAITS_MAX", 3)
    said = [event(n, traits={f"t{n}": 1}, stamp=ConsentStamp(head=n)) for n in range(6)]
    for order in (said, said[::-1]):
        assert folded(order).stamps == [ConsentStamp(head=n) for n in (3, 4, 5)]
