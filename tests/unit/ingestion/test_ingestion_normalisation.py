"""From the words of each SDK to one event: sections 3, 8, 10 and 11 of the wire contract."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.clock import SECOND_US
from cdp.config import Limits
from cdp.domain.event import Event, decode_event, encode_event
from cdp.ingestion.normalisation import Scope, normalise, read_wire
from cdp.ingestion.refusal import Rejection

NOW_US = 1_795_000_000_000_000
LIMITS = Limits()


def scope(**others: Any) -> Scope:
    return Scope(
        **{
            "source": "web",
            "received_at_us": NOW_US,
            "new_id": lambda: "made-up",
            "limits": LIMITS,
            **others,
        }
    )


def event(
    wire: dict[str, Any] | None = None, /, *, of: Scope | None = None, **fields: Any
) -> Event:
    body = {"type": "track", "event": "Bought", "userId": "u1", "messageId": "m1", **(wire or {})}
    return normalise({**body, **fields}, of or scope())


def rejected(wire: dict[str, Any]) -> str:
    with pytest.raises(Rejection) as caught:
        normalise(wire, scope())
    return caught.value.code


# ------------------------------------------------------------------ ids


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("u1", "u1"),
        (" u1 ", "u1"),
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        ("", None),
        ("  ", None),
        (None, None),
        (True, None),
        ([], None),
        ({"a": 1}, None),
        (2**70, str(2**70)),
    ],
)
def test_ids_are_text_and_the_ways_to_say_none_are_none(sent: object, kept: str | None) -> None:
    assert event(userId=sent, anonymousId="a").user_id == kept


def test_a_missing_message_id_is_made_up_and_control_characters_are_taken_out() -> None:
    assert event(messageId=None).message_id == "made-up"
    assert event(messageId="").message_id == "made-up"
    assert event(messageId="\x01\x7f").message_id == "made-up"
    assert event(messageId="a\tb\x1f").message_id == "ab"
    assert event(messageId=12).message_id == "12"


def test_a_message_id_has_a_limit_which_is_exact() -> None:
    assert event(messageId="x" * 100).message_id == "x" * 100
    assert rejected({"type": "track", "event": "e", "userId": "u", "messageId": "x" * 101}) == (
        "invalid_message_id"
    )


# ------------------------------------------------------------------ what each type needs


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        ({"type": "track", "event": "e"}, "no_user_anon_id"),
        ({"type": "track", "event": "e", "userId": "", "anonymousId": None}, "no_user_anon_id"),
        ({"type": "track", "userId": "u"}, "missing_event"),
        ({"type": "track", "userId": "u", "event": "  "}, "missing_event"),
        ({"type": "group", "userId": "u"}, "missing_group_id"),
        ({"type": "alias", "userId": "u"}, "no_user_anon_id"),
        ({"type": "alias", "previousId": "u"}, "no_user_anon_id"),
        ({"type": "alias", "previousId": "u", "anonymousId": "a"}, "no_user_anon_id"),
        ({"type": "merge", "userId": "u"}, "invalid_type"),
        ({"type": "Track", "userId": "u"}, "invalid_type"),
        ({"type": ["track"], "userId": "u"}, "invalid_type"),
        ({"userId": "u"}, "invalid_type"),
        ({"type": "page", "userId": "u", "properties": "x"}, "invalid_event"),
        ({"type": "page", "userId": "u", "context": [1]}, "invalid_event"),
        ({"type": "identify", "userId": "u", "traits": 5}, "invalid_event"),
        ({"type": "identify", "userId": "u", "context": {"traits": 5}}, "invalid_event"),
        ({"type": "page", "userId": "u", "integrations": "All"}, "invalid_event"),
    ],
)
def test_what_is_wrong_with_an_event_has_a_code(wire: dict[str, Any], code: str) -> None:
    assert rejected(wire) == code


def test_a_rejection_names_the_place_in_the_event() -> None:
    with pytest.raises(Rejection) as caught:
        normalise({"type": "identify", "userId": "u", "context": {"traits": 5}}, scope())
    assert caught.value.path == "context.traits"


def test_empty_stands_for_an_object_as_php_writes_it() -> None:
    assert event(properties=[], context=None, traits="").properties == {}


def test_an_alias_of_an_id_to_itself_is_accepted() -> None:
    wire = {"type": "alias", "userId": "u", "previousId": "u"}
    assert normalise(wire, scope()).previous_id == "u"


def test_the_path_defines_the_type_of_a_single_event() -> None:
    assert event(type="page", of=scope(path_type="track")).type == "track"


def test_in_a_batch_the_path_only_helps_an_event_without_a_type() -> None:
    assert event(type=None, of=scope(fallback_type="track")).type == "track"
    assert event(type="page", of=scope(fallback_type="track")).type == "page"


# ------------------------------------------------------------------ traits, names, integrations


def test_segment_and_customer_io_put_traits_at_the_top() -> None:
    assert event(type="identify", traits={"a": 1}).traits == {"a": 1}


def test_rudder_puts_the_traits_of_an_identify_into_the_context() -> None:
    found = event(type="identify", context={"traits": {"a": 1}})
    assert found.traits == {"a": 1}
    assert found.context["traits"] == {"a": 1}


def test_where_both_are_there_the_traits_at_the_top_win() -> None:
    assert event(type="identify", traits={"a": 1}, context={"traits": {"a": 2}}).traits == {"a": 1}


def test_context_traits_of_other_types_are_no_identify() -> None:
    assert event(context={"traits": {"a": 1}}).traits == {}
    assert event(type="group", groupId="g", context={"traits": {"a": 1}}).traits == {}


def test_the_traits_of_a_group_are_its_own() -> None:
    assert event(type="group", groupId="g", traits={"plan": "x"}).traits == {"plan": "x"}


@pytest.mark.parametrize("kind", ["page", "screen"])
def test_a_page_is_named_at_the_top_or_in_its_properties(kind: str) -> None:
    found = event(type=kind, name="Home", properties={"name": "Other", "category": "Shop"})
    assert (found.name, found.category) == ("Home", "Shop")


def test_the_properties_of_a_track_name_nothing() -> None:
    assert event(properties={"name": "Cup", "category": "Kitchen"}).name is None


def test_segment_io_is_no_integration() -> None:
    found = event(integrations={"Segment.io": True, "All": False})
    assert found.integrations == {"All": False}


def test_batch_context_and_integrations_lie_under_those_of_the_event_one_level_deep() -> None:
    of = scope(
        context={"app": {"name": "a", "build": {"x": 1}}, "ip": "1.1.1.1", "locale": "de"},
        integrations={"All": False, "CRM": True},
    )
    found = event(
        of=of, context={"app": {"build": {"y": 2}}, "locale": "en"}, integrations={"All": True}
    )
    assert found.context == {
        "app": {"name": "a", "build": {"y": 2}},
        "ip": "1.1.1.1",
        "locale": "en",
    }
    assert found.integrations == {"All": True, "CRM": True}
    assert of.context == {
        "app": {"name": "a", "build": {"x": 1}},
        "ip": "1.1.1.1",
        "locale": "de",
    }


def test_events_of_a_batch_do_not_share_their_context() -> None:
    of = scope(context={"page": {"path": "/"}}, address="1.2.3.4")
    first, second = event(of=of), event(of=of, context={"ip": "5.6.7.8"})
    assert (first.context["ip"], second.context["ip"]) == ("1.2.3.4", "5.6.7.8")
    assert "ip" not in of.context  # type: ignore[operator]


def test_other_fields_are_kept_but_never_the_write_key() -> None:
    found = event(channel="server", _metadata={"a": 1}, writeKey="wk", receivedAt="2020-01-01")
    assert found.extra == {"channel": "server", "_metadata": {"a": 1}}
    assert found.received_at_us == NOW_US


# ------------------------------------------------------------------ address and agent


def test_a_browsers_address_and_agent_fill_what_is_missing() -> None:
    of = scope(address="1.2.3.4", user_agent="Mozilla/5.0")
    assert event(of=of).context == {"ip": "1.2.3.4", "userAgent": "Mozilla/5.0"}
    own = {"ip": "9.9.9.9", "userAgent": "Mine"}
    assert event(of=of, context=dict(own)).context == own


def test_a_servers_address_is_never_filled_in_unless_it_asks() -> None:
    of = scope(direct_address="1.2.3.4")
    assert event(of=of).context == {}
    assert event(of=of, context={"direct": True}).context["ip"] == "1.2.3.4"
    assert event(of=of, channel="web").context["ip"] == "1.2.3.4"


# ------------------------------------------------------------------ times


def test_an_explicit_timestamp_wins_over_the_original_one() -> None:
    found = event(timestamp="2024-01-01T12:00:00Z", originalTimestamp="2026-11-18T00:00:00Z")
    assert found.original_time_us == found.event_time_us == 1_704_110_400 * SECOND_US
    assert "originalTimestamp" not in found.extra


def test_the_sent_at_of_the_event_wins_over_that_of_the_batch() -> None:
    hour = 3_600 * SECOND_US
    of = scope(sent_at_us=NOW_US)
    found = event(of=of, timestamp=(NOW_US - hour) // 1_000, sentAt=(NOW_US - hour) // 1_000)
    assert found.sent_at_us == NOW_US - hour
    assert found.event_time_us == NOW_US


def test_a_time_that_cannot_be_read_is_absent_and_kept_as_sent() -> None:
    found = event(timestamp="yesterday", sentAt="now", originalTimestamp="2026-01-01T00:00:00Z")
    assert found.extra == {"timestamp": "yesterday", "sentAt": "now"}
    assert found.sent_at_us is None
    assert found.original_time_us == found.event_time_us


# ------------------------------------------------------------------ consent


def purposes(context: dict[str, Any]) -> dict[str, bool] | None:
    stamp = event(context=context).stamp
    return dict(stamp.purposes) if stamp.present else None


def test_segments_preferences_become_the_stamp() -> None:
    preferences = {"C0001": True, "C0002": False, "C0003": "true"}
    assert purposes({"consent": {"categoryPreferences": preferences}}) == {
        "C0001": True,
        "C0002": False,
        "C0003": True,
    }


@pytest.mark.parametrize("value", [1, "TRUE", "yes", "granted", [True], {"a": 1}, None, "false", 0])
def test_only_true_grants(value: object) -> None:
    assert purposes({"consent": {"categoryPreferences": {"ads": value}}}) == {"ads": False}


@pytest.mark.parametrize("context", [{}, {"consent": None}, {"consent": {}}])
def test_no_consent_object_is_not_an_empty_one(context: dict[str, Any]) -> None:
    assert purposes(context) is None
    assert purposes({"consent": {"categoryPreferences": {}}}) == {}


@pytest.mark.parametrize("consent", ["yes", ["ads"], {"categoryPreferences": ["ads"]}, {"tcf": ""}])
def test_consent_that_cannot_be_read_grants_nothing_and_the_stamp_says_so(consent: object) -> None:
    stamp = event(context={"consent": consent}).stamp
    assert (stamp.present, stamp.readable, stamp.purposes) == (True, False, {})
    assert event(context={"consent": {"categoryPreferences": {}}}).stamp.readable


def test_rudders_ids_become_the_stamp_and_a_denial_wins() -> None:
    management = {"allowedConsentIds": ["a", "b", 7], "deniedConsentIds": ["b", "c"]}
    expected = {"a": True, "b": False, "c": False}
    assert purposes({"consentManagement": management}) == expected
    assert purposes({"consentManagement": {"provider": "custom"}}) is None


def test_where_two_vendors_disagree_the_denial_holds() -> None:
    context = {
        "consent": {"categoryPreferences": {"a": True, "b": False}},
        "consentManagement": {"allowedConsentIds": ["b", "c"], "deniedConsentIds": ["a"]},
    }
    assert purposes(context) == {"a": False, "b": False, "c": True}


# ------------------------------------------------------------------ odd payloads


def wire_of(raw: bytes, limits: Limits = LIMITS) -> dict[str, Any]:
    return read_wire(raw, limits)


def shape_code(raw: bytes, limits: Limits = LIMITS) -> str:
    with pytest.raises(Rejection) as caught:
        read_wire(raw, limits)
    return caught.value.code


def test_odd_keys_and_big_strings_are_accepted() -> None:
    odd = {"": 1, "a.b": 2, "$x": 3, "__proto__x": 4, "ü": "🙂", "long": "x" * 20_000}
    assert event(properties=dict(odd)).properties == odd


def test_of_duplicate_keys_the_last_wins() -> None:
    assert wire_of(b'{"a":1,"a":2}') == {"a": 2}


def test_the_limits_of_one_event_are_exact() -> None:
    limits = Limits(event_bytes_max=100, json_depth_max=3, event_keys_max=4)
    assert wire_of(b'{"a":"' + b"x" * 92 + b'"}', limits)
    assert shape_code(b'{"a":"' + b"x" * 93 + b'"}', limits) == "event_too_large"
    assert wire_of(b'{"a":[[1]]}', limits)
    assert shape_code(b'{"a":[[[]]]}', limits) == "event_too_deep"
    assert wire_of(b'{"a":1,"b":{"c":1,"d":1}}', limits)
    assert shape_code(b'{"a":1,"b":{"c":1,"d":1,"e":2}}', limits) == "too_many_keys"


@pytest.mark.parametrize("raw", [b"null", b"1", b'"x"', b"[]", b"{"])
def test_an_event_is_a_json_object(raw: bytes) -> None:
    assert shape_code(raw) == "invalid_event"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    *("type", "event", "userId", "anonymousId", "previousId", "groupId", "messageId", "name"),
    *("category", "timestamp", "originalTimestamp", "sentAt", "traits", "properties", "context"),
    *("integrations", "channel", "writeKey", "receivedAt"),
)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), ANY | st.sampled_from(["track", "alias", "group"])),
    st.booleans(),
)
def test_any_object_becomes_an_event_or_a_rejection(wire: dict[str, Any], shared: bool) -> None:
    of = scope(context={"a": {"b": 1}}, address="1.1.1.1") if shared else scope()
    with suppress(Rejection):
        found = normalise(dict(wire), of)
        assert decode_event(encode_event(found)).message_id == found.message_id
        assert found.user_id or found.anonymous_id
