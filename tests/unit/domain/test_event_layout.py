import msgspec

from cdp.domain.change import Activation, Change, decode_activation, decode_change, encode
from cdp.domain.event import ConsentStamp, Event, decode_event, encode_event, wire_form

FULL = Event(
    1,
    "identify",
    "m1",
    "web",
    1_700_000_000_123_456,
    1_700_000_001_000_000,
    sent_at_us=1_700_000_000_500_000,
    user_id="u1",
    traits={"email": "a@b.test", "none": None},
    context={"ip": "::1"},
    stamp=ConsentStamp(True, {"ads": False}),
)


def test_an_event_is_read_back_as_it_was_written():
    assert decode_event(encode_event(FULL)) == FULL


def test_the_fields_of_an_event_stay_where_they_are():
    assert Event.__struct_fields__[:21] == (
        *("schema", "type", "message_id", "source", "event_time_us", "received_at_us"),
        *("sent_at_us", "original_time_us", "user_id", "anonymous_id", "previous_id", "group_id"),
        *("event", "name", "category", "traits", "properties", "context", "integrations"),
        *("stamp", "extra"),
    )


def test_an_event_that_an_older_release_wrote_has_defaults_for_what_came_later():
    assert decode_event(msgspec.msgpack.encode([1, "track", "m", "web", 5, 6])) == Event(
        1, "track", "m", "web", 5, 6
    )


def test_the_wire_form_is_the_tracking_specs():
    assert wire_form(FULL) == {
        "type": "identify",
        "messageId": "m1",
        "timestamp": "2023-11-14T22:13:20.123Z",
        "receivedAt": "2023-11-14T22:13:21.000Z",
        "sentAt": "2023-11-14T22:13:20.500Z",
        "userId": "u1",
        "traits": {"email": "a@b.test", "none": None},
        "context": {"ip": "::1"},
    }


def test_changes_and_activations_are_read_back_as_they_were_written():
    change = Change(1, 7, b"p" * 16, b"l" * 16, b"o" * 16)
    assert decode_change(encode(change)) == change
    activation = Activation(0, 7, b"p" * 16, b"o" * 16, b"l" * 16)
    assert decode_activation(encode(activation)) == activation
    assert decode_activation(encode((0, 7, b"p" * 16, b""))) == Activation(0, 7, b"p" * 16)
