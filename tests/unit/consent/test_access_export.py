import json

import msgspec
import pytest
import trio
import trio.testing

from cdp.consent.access import EVENTS_A_STEP, JsonForm
from cdp.consent.portability import UnknownDocument, reimport_events
from cdp.delivery.outcomes import DEAD, DELIVERED, OutcomeRows
from cdp.delivery.owed import Owed
from tests.unit.consent.access_world import NOW_US, REQUEST, Subject, ada, imported, stamp
from tests.unit.identity.world import World, event, in_order


@pytest.fixture
def subject(tmp_path):
    return Subject(tmp_path, ada())


async def test_the_document_says_what_it_is_and_for_which_request(subject):
    document, _, count = await subject.export()
    assert (document["schema"], document["version"]) == ("cdp.person", 1)
    assert document["request_id"] == REQUEST
    assert document["profile_id"] == subject.profile().profile_id.hex()
    assert (document["events_total"], document["events_expired"], count) == (8, 0, 8)
    assert document["complete"] is True


async def test_identifiers_come_with_when_and_where_each_was_first_named(subject):
    document, _, _ = await subject.export()
    found = {(one["namespace"], one["value"]): one for one in document["identifiers"]}
    assert set(found) >= {
        ("user_id", "ada"),
        ("anonymous_id", "browser-1"),
        ("anonymous_id", "phone-1"),
        ("email", "ada@example.test"),
        ("user_id", "old-ada"),
    }
    browser = found["anonymous_id", "browser-1"]
    assert browser["first_source"] == "web"
    assert not browser["shared_with_others"]


async def test_a_trait_carries_its_source_time_and_the_purposes_of_its_event(subject):
    document, _, _ = await subject.export()
    plan = document["traits"]["plan"]
    assert (plan["value"], plan["source"], plan["message_id"]) == ("pro", "web", "m2")
    assert plan["given_for"]["granted"] == ["analytics"]
    assert plan["given_for"]["denied"] == ["ads"]
    age = document["traits"]["age"]
    assert (age["source"], age["given_for"]["stated"]) == ("app", False)
    assert document["traits"]["old"]["removed"] is True


async def test_events_stand_in_order_of_time_in_the_form_of_the_wire(subject):
    document, _, _ = await subject.export()
    events = [one["event"] for one in document["events"]]
    assert [one["messageId"] for one in events] == [f"m{n}" for n in range(8)]
    assert events[1]["properties"] == {"price": 9.99, "tags": ["a", None]}
    assert events[7]["timestamp"].endswith(".000123Z")
    assert events[7]["channel"] == "server"
    assert document["events"][0]["consent"]["denied"] == ["ads"]


async def test_each_event_says_where_it_went_and_what_became_of_it(subject):
    batch = subject.world.store.batch()
    rows = OutcomeRows("crm")
    rows.add(Owed(0, 0, 2, b"p" * 16, b""), DELIVERED, "", 1)
    rows.add(Owed(1, 0, 3, b"p" * 16, b""), DEAD, "answered 400", 4)
    rows.write(batch, 1, NOW_US)
    subject.world.store.write(batch)
    document, page, _ = await subject.export()
    sent = [one["sent_to"] for one in document["events"]]
    assert sent[2] == [
        {
            "destination": "crm",
            "told": "event",
            "state": "delivered",
            "reason": None,
            "at": sent[2][0]["at"],
            "attempts": 1,
            "replay": False,
        }
    ]
    assert (sent[3][0]["state"], sent[3][0]["reason"]) == ("dead", "answered 400")
    assert sent[4] == []
    assert "crm: dead" in page


async def test_consent_recipients_and_requests_are_in_it_as_their_keepers_give_them(tmp_path):
    planted = {
        "standing": {"ads": {"state": "denied"}},
        "consent": [{"purpose": "ads", "proof": {"policy": "privacy", "text_sha256": "ab"}}],
        "recipients": [{"destination": "crm", "since": "2026-01-01"}],
        "requests": [{"id": REQUEST, "kind": "access"}],
    }
    document, page, _ = await Subject(tmp_path, ada(), **planted).export()
    assert document["consent"] == {"now": planted["standing"], "records": planted["consent"]}
    assert document["recipients"] == planted["recipients"]
    assert document["requests"] == planted["requests"]
    assert "text_sha256" in page


def told(view):
    """What a profile says. Consent is no part of an import: it is stamped as it comes in."""
    said = {name: msgspec.structs.astuple(trait)[:4] for name, trait in view.traits.items()}
    return in_order(view) | {"traits": sorted(said.items())}


async def test_an_import_into_an_empty_world_makes_an_equal_profile(subject):
    document, _, _ = await subject.export()
    events = imported(reimport_events(document))
    fresh = World().feed(events)
    before, after = subject.profile(), fresh.profiles.find("user_id", "ada")
    assert told(after.view) == told(before.view)
    assert after.state == before.state
    assert fresh.people().keys() == subject.world.people().keys()


async def test_the_document_of_the_import_says_the_same_again(subject, tmp_path):
    document, _, _ = await subject.export()
    fresh = World().feed(imported(reimport_events(document)))
    again, _, _ = await Subject(tmp_path / "again", [], fresh).export()
    same = ("profile_id", "identifiers", "groups", "event_counts", "sources", "first_seen_at")
    assert [again[name] for name in same] == [document[name] for name in same]
    for name, trait in document["traits"].items():
        assert again["traits"][name]["value"] == trait["value"]
    assert len(again["events"]) == len(document["events"])


async def test_traits_whose_events_are_gone_come_back_with_their_time_and_source(subject):
    document, _, _ = await subject.export()
    document["events"] = [
        one | {"expired": one["event"]["messageId"] in ("m2", "m5")} for one in document["events"]
    ]
    fresh = World().feed(imported(reimport_events(document)))
    after = fresh.profiles.find("user_id", "ada").view
    assert told(after)["traits"] == told(subject.profile().view)["traits"]
    assert fresh.profiles.find("email", "ada@example.test").view.traits == after.traits


async def test_the_events_of_a_shared_device_are_marked_and_not_imported(tmp_path):
    device = {"anonymous_id": "tablet"}
    events = [
        event(0, "identify", user_id="ada", **device, traits={"email": "ada@example.test"}),
        event(1, "identify", user_id="bob", **device, traits={"email": "bob@example.test"}),
        event(2, "identify", user_id="cid", **device),
        event(3, "identify", user_id="dan", **device),
        event(4, "identify", user_id="ada", **device),
        event(5, **device),
    ]
    subject = Subject(tmp_path, events)
    assert subject.world.profiles.find("anonymous_id", "tablet").shared
    document, _, _ = await subject.export()
    own = [one["event"]["messageId"] for one in document["events"] if "shared_device" not in one]
    shared = [one["event"]["messageId"] for one in document["events"] if "shared_device" in one]
    assert (own, shared) == (["m0", "m4"], ["m5"])
    sent = [one.event["messageId"] for one in reimport_events(document)]
    assert sent == ["m0", "m4"]
    fresh = World().feed(imported(reimport_events(document)))
    after = fresh.profiles.find("user_id", "ada").view
    assert in_order(after) == in_order(subject.profile().view)


async def test_a_shared_device_has_no_document_for_it_holds_several_people(tmp_path):
    device = {"anonymous_id": "tablet"}
    people = [event(n, "identify", user_id=f"u{n}", **device) for n in range(4)]
    subject = Subject(tmp_path, people)
    tablet = subject.profile("anonymous_id", "tablet")
    assert tablet.shared
    made = await subject.access.make(tablet.profile_id, REQUEST, [JsonForm()], chance="0" * 32)
    assert made is None
    assert subject.files.all() == []


@pytest.mark.parametrize("change", [{"schema": "other"}, {"version": 2}, {"version": "1"}])
async def test_a_document_of_another_schema_or_version_is_not_read(subject, change):
    document, _, _ = await subject.export()
    with pytest.raises(UnknownDocument, match=r"cdp\.person, version 1"):
        reimport_events(document | change)


async def test_an_event_of_which_only_the_time_is_left_is_told_as_expired(subject):
    document, page, _ = await subject.export()
    assert "past its retention" not in page
    subject.world.history._events.get = lambda offset: None
    subject.clock.time_us += 1
    document, page, _ = await subject.export()
    assert document["events"][0]["expired"] is True
    assert document["events"][0]["event"].keys() == {"type", "timestamp"}
    assert (document["events_expired"], document["complete"]) == (8, False)
    assert document["traits"]["plan"]["given_for"] is None
    assert "past its retention" in page


async def test_nobody_has_no_document(subject):
    made = await subject.access.make(b"\xaa" * 16, REQUEST, [JsonForm()], chance="0" * 32)
    assert made is None
    assert subject.files.all() == []


async def test_a_long_history_is_written_in_steps_between_which_others_have_their_turn(tmp_path):
    count = 3 * EVENTS_A_STEP + 1
    subject = Subject(tmp_path, [event(n, user_id="ada") for n in range(count)])
    largest = 0
    turns = 0
    read = subject.holdings.events

    async def counted(person, after, limit):
        nonlocal largest
        step = await read(person, after, limit)
        largest = max(largest, len(step.events))
        return step

    subject.holdings.events = counted

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        document, page, made = await subject.export()
        nursery.cancel_scope.cancel()
    assert (made, len(document["events"]), largest) == (count, count, EVENTS_A_STEP)
    assert page.count("Viewed") == count
    assert turns >= count // EVENTS_A_STEP


async def test_what_breaks_half_way_leaves_no_file_behind(subject, tmp_path):
    subject.holdings.consent = lambda person: [{"not json": object()}]
    with pytest.raises(TypeError):
        await subject.export()
    assert list((tmp_path / "exports").iterdir()) == []


async def test_a_file_that_cannot_be_finished_leaves_none_of_the_others(subject, tmp_path):
    class Broken(JsonForm):
        name = "html"

        def tail(self, tail):
            raise RuntimeError("no room")

    profile_id = subject.profile().profile_id
    with pytest.raises(RuntimeError):
        await subject.access.make(profile_id, REQUEST, [JsonForm(), Broken()], chance="0" * 32)
    assert list((tmp_path / "exports").iterdir()) == []


async def test_the_document_is_found_by_every_identifier_that_it_is_about(subject):
    await subject.export()
    for node in subject.profile().members:
        assert len(await subject.files.of_people([node])) == 3


async def test_a_cancelled_export_leaves_no_file_behind(subject, tmp_path):
    async def stuck(person, after, limit):
        await trio.sleep_forever()

    async def no_stamps(person):
        return {}

    subject.access._stamps = no_stamps
    subject.holdings.events = stuck
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.export)
        await trio.testing.wait_all_tasks_blocked()
        assert len(list((tmp_path / "exports").iterdir())) == 3
        nursery.cancel_scope.cancel()
    assert list((tmp_path / "exports").iterdir()) == []


async def test_everything_planted_about_a_person_is_found_in_both_documents(tmp_path):
    """Each place that may hold something of a person gets a mark of its own."""
    marks = iter(f"canary{n:03d}x" for n in range(100))
    planted = []

    def mark():
        planted.append(next(marks))
        return planted[-1]

    events = [
        event(0, "identify", user_id=f"ada-{mark()}", traits={f"trait {mark()}": mark()}),
        event(1, user_id=events_user(planted), event=mark(), properties={mark(): [{"x": mark()}]}),
        event(2, user_id=events_user(planted), context={"page": {"url": f"/?q={mark()}"}}),
        event(3, "group", user_id=events_user(planted), group_id=mark(), traits={"a": mark()}),
        event(4, "page", user_id=events_user(planted), name=mark(), category=mark()),
        event(5, user_id=events_user(planted), source=mark(), integrations={mark(): True}),
        event(6, "alias", user_id=events_user(planted), previous_id=mark()),
        event(7, user_id=events_user(planted), anonymous_id=mark(), extra={mark(): mark()}),
        event(8, user_id=events_user(planted), stamp=stamp(granted=[mark()])),
    ]
    records = {
        "standing": {mark(): {"state": "denied"}},
        "consent": [{"proof": {"signal": mark()}}],
        "recipients": [{"destination": mark()}],
        "requests": [{"identifiers": {"email": mark()}}],
    }
    subject = Subject(tmp_path, events, **records)
    document, page, _ = await subject.export(("user_id", events_user(planted)))
    assert len(planted) == 22
    assert [one for one in planted if one not in json.dumps(document)] == []
    assert [one for one in planted if one not in page] == []


def events_user(planted):
    return f"ada-{planted[0]}"
