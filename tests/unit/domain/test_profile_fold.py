from itertools import permutations

import msgspec
import pytest

from cdp.domain.identifier import (
    NAMESPACES,
    Identifier,
    format_profile_id,
    parse_profile_id,
)
from cdp.domain.profile import Fragment, TraitValue, fold

ONE = Fragment(
    traits={"plan": TraitValue("free", 10, "a"), "city": TraitValue("Oslo", 30, "b")},
    first_seen_us=10,
    last_seen_us=30,
    event_counts={"track": 2},
    sources={"web": 2},
    groups={"acme": 10},
    first_message=(10, "a", "web"),
    last_message=(30, "b", "web"),
)
TWO = Fragment(
    traits={"plan": TraitValue("paid", 20, "c"), "city": TraitValue(None, 30, "c")},
    first_seen_us=5,
    last_seen_us=20,
    event_counts={"track": 1, "identify": 1},
    sources={"app": 2},
    groups={"acme": 20, "globex": 5},
    first_message=(5, "d", "app"),
    last_message=(20, "c", "app"),
)
EMPTY = Fragment()


def test_a_profile_is_the_same_in_whatever_order_its_fragments_come():
    views = [
        msgspec.json.encode(fold(order), order="sorted")
        for order in permutations([ONE, TWO, EMPTY])
    ]
    assert len(set(views)) == 1


def test_the_later_trait_wins_and_a_tie_goes_to_the_greater_message_id():
    view = fold([ONE, TWO])
    assert view.traits["plan"].value == "paid"
    assert view.traits["city"].value is None, "removed at the same time by a greater message id"


def test_counts_add_up_and_first_and_last_are_the_outermost():
    view = fold([ONE, TWO])
    assert view.event_counts == {"track": 3, "identify": 1}
    assert view.sources == {"web": 2, "app": 2}
    assert view.groups == {"acme": 20, "globex": 5}
    assert (view.first_message, view.last_message) == ((5, "d", "app"), (30, "b", "web"))
    assert (view.first_seen_us, view.last_seen_us) == (5, 30)


def test_folding_changes_none_of_the_fragments():
    before = msgspec.msgpack.encode([ONE, TWO])
    fold([ONE, TWO])
    assert msgspec.msgpack.encode([ONE, TWO]) == before


def test_a_fragment_survives_the_store():
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(TWO), type=Fragment)
    assert decoded == TWO


def test_a_trait_that_was_stored_without_its_source_is_still_read():
    stored = msgspec.msgpack.encode(["free", 10, "a"])
    assert msgspec.msgpack.decode(stored, type=TraitValue) == TraitValue("free", 10, "a", "")


def test_an_identifier_never_shows_its_value():
    assert "secret" not in repr(Identifier("email", "secret@example.test"))


@pytest.mark.parametrize("text", ["", "00", "g" * 32, "00" * 17])
def test_what_is_not_a_profile_id_is_none(text):
    assert parse_profile_id(text) is None


def test_a_profile_id_is_read_back_from_what_people_see():
    profile_id = bytes(range(16))
    assert parse_profile_id(format_profile_id(profile_id)) == profile_id


def test_the_codes_of_namespaces_never_change():
    assert NAMESPACES[:10] == (
        "user_id",
        "email",
        "phone",
        "crm_id",
        "device_id",
        "ad_id",
        "anonymous_id",
        "email_canonical",
        "click_id",
        "external_id",
    )
