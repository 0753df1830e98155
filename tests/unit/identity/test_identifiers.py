import pytest

from cdp.domain.event import Event, encode_event
from cdp.domain.identifier import NAMESPACES
from cdp.domain.naming import EXTERNAL_IDS_MAX, VALUE_CHARS_MAX
from cdp.identity.facts import EventFacts, decode_facts
from cdp.identity.identifiers import ALIAS, CO_OCCUR, IDENTIFY, observation, source_ordinal


def observed(type="track", **fields):
    record = encode_event(Event(1, type, "m1", "web", 1_000, 2_000, **fields))
    return observation(decode_facts(record))


def named(type="track", **fields):
    return [(NAMESPACES[code], value) for code, value in observed(type, **fields)[3]]


def test_the_view_of_an_event_has_the_layout_of_the_event():
    fields = EventFacts.__struct_fields__
    assert fields == Event.__struct_fields__[: len(fields)]


def test_an_observation_has_the_time_of_the_event_and_the_bit_of_its_source():
    time_us, kind, source, _ = observed(user_id="u")
    assert (time_us, kind, source) == (1_000, CO_OCCUR, source_ordinal("web"))


def test_a_time_before_1970_counts_as_1970():
    record = encode_event(Event(1, "track", "m", "web", -5, 0, user_id="u"))
    assert observation(decode_facts(record))[0] == 0


def test_sources_have_bits_of_a_32_bit_set_whatever_their_name():
    assert {source_ordinal(f"source {n}") for n in range(1_000)} == set(range(32))


def test_a_user_id_stands_before_an_anonymous_id():
    assert named(anonymous_id="a", user_id="u") == [("user_id", "u"), ("anonymous_id", "a")]


def test_an_identify_names_email_and_phone_of_its_traits():
    assert named("identify", user_id="u", traits={"phone": "+1", "email": "a@b.test"}) == [
        ("user_id", "u"),
        ("email", "a@b.test"),
        ("phone", "+1"),
    ]
    assert observed("identify", user_id="u")[1] == IDENTIFY


def test_the_traits_of_an_identify_win_over_those_of_its_context_each_on_its_own():
    context = {"traits": {"email": "context@b.test", "phone": "+2"}}
    assert named("identify", user_id="u", traits={"email": "own@b.test"}, context=context) == [
        ("user_id", "u"),
        ("email", "own@b.test"),
        ("phone", "+2"),
    ]


@pytest.mark.parametrize("type", ["track", "page", "screen"])
def test_other_events_name_the_email_of_the_traits_in_their_context(type):
    context = {"traits": {"email": "a@b.test"}}
    assert named(type, anonymous_id="a", context=context) == [
        ("anonymous_id", "a"),
        ("email", "a@b.test"),
    ]


def test_a_group_never_names_an_email_because_it_may_be_the_companys():
    context = {"traits": {"email": "office@b.test"}}
    found = named("group", user_id="u", group_id="g", traits={"email": "x@b.test"}, context=context)
    assert found == [("user_id", "u")]


def test_a_track_does_not_take_identifiers_from_traits_of_its_own():
    assert named(user_id="u", traits={"email": "a@b.test"}) == [("user_id", "u")]


def test_devices_are_named_by_id_and_by_advertising_id():
    context = {"device": {"id": "d1", "advertisingId": "ad1", "type": "ios"}}
    assert named(anonymous_id="a", context=context)[1:] == [("device_id", "d1"), ("ad_id", "ad1")]


def external(**fields):
    return {"id": "1", "type": "badge", "collection": "users", "encoding": "none", **fields}


def test_external_ids_of_people_are_named_and_the_others_are_not():
    ids = [external(), external(id="2", collection="accounts"), external(id="3", encoding="sha256")]
    assert named(user_id="u", context={"externalIds": ids})[1:] == [("external_id", "badge:1")]


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        ("email", ("email", "1")),
        ("PHONE_NUMBER", ("phone", "1")),
        ("ios.idfa", ("ad_id", "1")),
        ("crm_id", ("crm_id", "1")),
        ("ga_client_id", ("external_id", "ga_client_id:1")),
    ],
)
def test_an_external_id_of_a_known_type_is_of_our_namespace(type, expected):
    assert named(user_id="u", context={"externalIds": [external(type=type)]})[1:] == [expected]


def test_an_event_names_a_bounded_number_of_external_ids():
    ids = [external(id=str(n)) for n in range(EXTERNAL_IDS_MAX + 1)]
    assert len(named(user_id="u", context={"externalIds": ids})) == 1 + EXTERNAL_IDS_MAX


def test_an_alias_names_the_new_id_and_the_previous_one_in_both_namespaces():
    assert named("alias", user_id="new", previous_id="old") == [
        ("user_id", "new"),
        ("user_id", "old"),
        ("anonymous_id", "old"),
    ]
    assert observed("alias", user_id="new", previous_id="old")[1] == ALIAS


def test_an_alias_to_itself_links_nothing():
    _, kind, _, ids = observed("alias", user_id="u", previous_id="u")
    assert (kind, len(ids)) == (CO_OCCUR, 1)


def test_an_alias_without_a_new_id_names_nobody():
    assert named("alias", previous_id="old") == []


@pytest.mark.parametrize(
    "bad", [7, 1.5, True, None, "", [], {}, ["a@b.test"], "x" * (VALUE_CHARS_MAX + 1)]
)
def test_a_value_that_cannot_be_an_identifier_is_left_out(bad):
    context = {
        "traits": {"email": bad, "phone": bad},
        "device": {"id": bad, "advertisingId": bad},
        "externalIds": [external(id=bad), external(type=bad), bad],
    }
    assert named("identify", user_id="u", traits={"email": bad}, context=context) == [
        ("user_id", "u")
    ]


@pytest.mark.parametrize("bad", [7, None, "text", [1], True])
def test_a_context_of_any_shape_is_survived(bad):
    context = {"traits": bad, "device": bad, "externalIds": bad}
    assert named("identify", user_id="u", context=context) == [("user_id", "u")]


def test_the_longest_value_is_still_an_identifier():
    assert named(user_id="x" * VALUE_CHARS_MAX) == [("user_id", "x" * VALUE_CHARS_MAX)]
    assert named(user_id="x" * (VALUE_CHARS_MAX + 1)) == []


def test_the_codes_of_evidence_are_the_resolvers():
    from cdp import _matcher as matcher

    assert (CO_OCCUR, IDENTIFY, ALIAS) == (
        matcher.KIND_CO_OCCUR,
        matcher.KIND_IDENTIFY,
        matcher.KIND_ALIAS,
    )
