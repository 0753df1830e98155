"""Whom an event names, for those who read the whole event."""

from hypothesis import given
from hypothesis import strategies as st

from cdp.domain.event import Event, decode_event, encode_event
from cdp.domain.identifier import NAMESPACES
from cdp.domain.naming import named_in_event
from cdp.identity.facts import decode_facts
from cdp.identity.identifiers import observation

scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
values = scalars | st.sampled_from(["ann@shop.example", "+16502530000", "x" * 600])
anything = st.recursive(
    values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(values.map(str), inner)
)
external_ids = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["user_id", "android.id", "loyalty", 7]),
        "id": values,
        "collection": st.sampled_from(["users", "accounts"]),
        "encoding": st.sampled_from(["none", "sha256"]),
    },
)
traits = anything | st.fixed_dictionaries({}, optional={"email": values, "phone": values})
contexts = st.fixed_dictionaries(
    {},
    optional={
        "traits": traits,
        "device": anything
        | st.fixed_dictionaries({}, optional={"id": values, "advertisingId": values}),
        "externalIds": anything | st.lists(external_ids, max_size=25),
        "ip": values,
    },
)
ids = st.none() | st.sampled_from(["", "ann", "bob", "x" * 600])
events = st.builds(
    Event,
    schema=st.just(1),
    type=st.sampled_from(["track", "identify", "page", "screen", "group", "alias"]),
    message_id=st.just("m"),
    source=st.just("web"),
    event_time_us=st.integers(-5, 5),
    received_at_us=st.just(1),
    user_id=ids,
    anonymous_id=ids,
    previous_id=ids,
    traits=st.fixed_dictionaries({}, optional={"email": values, "phone": values}),
    context=contexts,
)


def named(type="track", **fields):
    found = named_in_event(Event(1, type, "m", "web", 1, 2, **fields))
    return [(NAMESPACES[code], value) for code, value in found]


@given(events)
def test_ingestion_and_identity_see_the_same_people_in_an_event(event):
    record = encode_event(event)
    found = named_in_event(decode_event(record))
    assert found == observation(decode_facts(record))[3]
    assert all(isinstance(value, str) and value for _, value in found)


def test_the_leaf_comes_first():
    context = {"traits": {"email": "a@b.test"}, "device": {"id": "d1"}}
    assert named(user_id="u", anonymous_id="a", context=context) == [
        ("user_id", "u"),
        ("anonymous_id", "a"),
        ("email", "a@b.test"),
        ("device_id", "d1"),
    ]


def test_an_alias_names_the_new_id_and_then_the_previous_in_both_namespaces():
    assert named("alias", user_id="new", previous_id="old") == [
        ("user_id", "new"),
        ("user_id", "old"),
        ("anonymous_id", "old"),
    ]


def test_an_alias_without_a_new_id_names_nobody():
    assert named("alias", anonymous_id="a", previous_id="old") == []
