"""What the log writer does about people: keys, suppression, statements, and what it takes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from cdp.clock import DAY_US
from cdp.domain.subjects import nobody_on, rejected_on
from cdp.errors import StoreFull
from cdp.ingestion.rejected import count_rejected, get_rejected, list_rejected, resubmit
from tests.unit.ingestion.consent_door import (
    IDENTITY_KEY,
    PAGE,
    ConsentDoor,
    key_of,
    open_consent_door,
)
from tests.unit.ingestion.front_door import NOW_US, track

BAD = {"type": "track", "userId": "u9", "messageId": "bad", "properties": {"secret": "canary-1"}}


def preferring(number: int | str, user: str = "u1", **purposes: bool) -> dict[str, Any]:
    consent = {"categoryPreferences": purposes}
    return track(number, userId=user, context={"consent": consent})


async def destroy(door: ConsentDoor, subject: bytes) -> None:
    async def at_once(function: Any, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    await door.vault.destroy(door.vault.slots_of(subject), at_once)
    door.log.forget_cached()


# ------------------------------------------------------------------ keys


async def test_an_event_is_sealed_under_the_first_identifier_it_names() -> None:
    async with open_consent_door() as door:
        await door.send(
            track(1, anonymousId="a1"), track(2, userId=None, anonymousId="a2"), track(3)
        )
        assert [event.message_id for event in door.events()] == ["m1", "m2", "m3"]
        await destroy(door, door.user("u1"))
        assert [event.message_id for event in door.events()] == ["m2"]
        await destroy(door, door.device("a2"))
        assert door.events() == []


async def test_an_event_that_names_nobody_is_sealed_under_its_day() -> None:
    async with open_consent_door() as door:
        await door.send(track(1, userId="null"), track(2))
        door.clock.time_us += DAY_US
        await door.send(track(3, userId="null"))
        await destroy(door, nobody_on(NOW_US, IDENTITY_KEY))
        assert [event.message_id for event in door.events()] == ["m2", "m3"]


async def test_nothing_of_a_body_is_on_disk_in_clear() -> None:
    async with open_consent_door() as door:
        await door.send(track(1, properties={"secret": "canary-1"}), BAD)
        for family in ("events", "rejected", "consent", "standing", "subjects", "seen"):
            for key, value in door.store.scan(family):
                assert b"canary-1" not in key + value, family


# ------------------------------------------------------------------ suppression


@pytest.mark.parametrize(
    "wire",
    [
        {"userId": "gone"},
        {"anonymousId": "gone-device"},
        {"type": "identify", "traits": {"email": "Gone@Example.com"}},
        {"type": "alias", "previousId": "gone"},
        {"context": {"traits": {"email": "gone@example.com"}}},
        {"context": {"externalIds": [{"id": "gone", "type": "user_id", "collection": "users"}]}},
    ],
)
async def test_an_event_that_names_a_suppressed_person_in_any_way_is_not_stored(
    wire: dict[str, Any],
) -> None:
    async with open_consent_door() as door:
        for node in (door.user("gone"), door.device("gone-device"), door.mail("gone@example.com")):
            door.suppression.nodes.add(node)
        reply = await door.send(track(1, **wire), track(2))
        assert reply.status == 200
        assert reply.json == {"success": True, "accepted": 2, "duplicates": 0, "rejected": []}
        assert [event.message_id for event in door.events()] == ["m2"]
        counts = door.counts()
        assert (counts.accepted, counts.suppressed, counts.sent) == (1, 1, 2)
        assert len(door.store.scan("seen")) == 1
        series = 'cdp_ingestion_events_total{outcome="suppressed",source="web"} 1'
        assert series in door.metrics.exposition()


async def test_a_suppressed_person_states_nothing() -> None:
    async with open_consent_door() as door:
        door.suppression.nodes.add(door.user("u1"))
        await door.send(preferring(1, email=False), Sec_GPC="1")
        reply = await door.post("/v1/consent", {"userId": "u1", "purposes": {"email": False}})
        assert reply.status == 200
        assert door.ledger.head == 1
        assert door.store.scan("consent") == []


async def test_a_rejected_event_of_a_suppressed_person_is_not_kept() -> None:
    async with open_consent_door() as door:
        door.suppression.nodes.add(door.user("u9"))
        reply = await door.send(BAD, {**BAD, "userId": "u8", "messageId": "bad2"})
        assert len(reply.json["rejected"]) == 2
        [row] = list_rejected(door.store, vault=door.vault)
        assert row.event.message_id == "bad2"
        counts = door.counts()
        assert (counts.rejected, counts.suppressed, counts.sent) == (1, 1, 2)


# ------------------------------------------------------------------ rejected events


async def test_rejected_events_are_sealed_under_their_day_and_read_as_before() -> None:
    async with open_consent_door() as door:
        await door.send(BAD)
        [row] = list_rejected(door.store, vault=door.vault)
        assert row.event.message_id == "bad"
        assert get_rejected(door.store, row.id, door.vault) == row.event
        await destroy(door, rejected_on(NOW_US))
        assert list_rejected(door.store, vault=door.vault) == []
        assert get_rejected(door.store, row.id, door.vault) is None


async def again(door: ConsentDoor, row_id: str, wire: dict[str, Any]) -> Any:
    return await resubmit(
        store=door.store,
        intake=door.intake,
        limits=door.limits,
        new_id=lambda: "new",
        row_id=row_id,
        body=json.dumps(wire).encode(),
        stamper=door.new_stamper(),
    )


async def test_a_repaired_event_is_stamped_as_it_came_and_states_what_it_stated() -> None:
    async with open_consent_door() as door:
        context = {"consent": {"categoryPreferences": {"stats": False}}}
        await door.send({**BAD, "context": context}, Sec_GPC="1")
        assert door.ledger.head == 1  # nothing was accepted, so nothing was stated
        [row] = list_rejected(door.store, vault=door.vault)
        result = await again(door, row.id, {**BAD, "event": "Bought", "context": context})
        assert (result.duplicate, result.suppressed) == (False, False)
        [event] = door.events()
        assert event.stamp.gpc
        assert event.stamp.jurisdiction == "US-CA"
        assert door.state(door.user("u9"), "ads") == "denied"
        assert door.state(door.user("u9"), "stats") == "denied"


async def test_a_repaired_event_of_a_suppressed_person_is_not_stored_and_its_row_goes() -> None:
    async with open_consent_door() as door:
        await door.send(BAD)
        [row] = list_rejected(door.store, vault=door.vault)
        door.suppression.nodes.add(door.user("u9"))
        result = await again(door, row.id, {**BAD, "event": "Bought"})
        assert result.suppressed
        assert door.events() == []
        assert count_rejected(door.store) == 0
        counts = door.counts()
        assert (counts.rejected, counts.suppressed, counts.sent) == (0, 1, 1)


# ------------------------------------------------------------------ statements


async def test_what_an_accepted_event_says_is_recorded_once() -> None:
    async with open_consent_door() as door:
        await door.send(preferring(1, email=False), preferring(2, email=False))
        assert door.state(door.user("u1"), "email") == "denied"
        assert door.ledger.head == 2
        await door.send(preferring(1, email=False))  # the same message again
        await door.send(preferring(3, email=False))
        assert door.ledger.head == 2


async def test_a_duplicate_states_nothing_new() -> None:
    async with open_consent_door() as door:
        await door.send(track(1))
        await door.send(preferring(1, email=False))
        assert door.ledger.head == 1


async def test_a_public_key_denies_and_does_not_grant() -> None:
    async with open_consent_door() as door:
        await door.send(preferring(1, email=True, stats=False))
        assert door.state(door.user("u1"), "email") is None
        assert door.state(door.user("u1"), "stats") == "denied"


async def test_a_page_that_may_ask_grants_and_no_other_page_does() -> None:
    async with open_consent_door() as door:
        shop = key_of("shop")
        await door.send(preferring(1, email=True), **shop)
        assert door.state(door.user("u1"), "email") is None
        reply = await door.send(preferring(2, email=True), Origin="https://evil.example", **shop)
        assert reply.status == 403
        await door.send(preferring(3, email=True), Origin=PAGE, **shop)
        assert door.state(door.user("u1"), "email") == "granted"


async def test_no_public_key_turns_a_servers_denial_into_a_grant() -> None:
    async with open_consent_door() as door:
        await door.send(preferring(1, email=False), **key_of("api"))
        door.clock.time_us += DAY_US
        await door.send(preferring(2, email=True), Origin=PAGE, **key_of("shop"))
        await door.post(
            "/v1/consent",
            {"userId": "u1", "purposes": {"email": True}},
            Origin=PAGE,
            **key_of("shop"),
        )
        assert door.state(door.user("u1"), "email") == "denied"


async def test_the_stamp_has_the_head_of_the_ledger_at_receipt() -> None:
    async with open_consent_door() as door:
        await door.send(preferring(1, email=False))
        await door.send(track(2))
        first, second = door.events()
        assert (first.stamp.head, second.stamp.head) == (1, 2)


async def test_a_batch_that_was_not_written_leaves_nothing_in_memory() -> None:
    async with open_consent_door() as door:
        await door.send(track(1))
        failing = door.store.write
        calls: list[object] = []

        def full(batch: Any) -> None:
            calls.append(batch)
            if len(calls) == 1:
                raise StoreFull("no space left")
            failing(batch)

        door.store.write = full  # type: ignore[method-assign]
        reply = await door.send(preferring(2, "u2", email=False))
        assert reply.status == 503
        assert door.ledger.head == 1
        assert door.state(door.user("u2"), "email") is None
        await door.send(preferring(2, "u2", email=False))
        assert door.ledger.head == 2
        assert [event.message_id for event in door.events()] == ["m1", "m2"]
        assert door.vault.slots_of(door.user("u2"))
        door.lines.clear()  # the disk that was full


async def test_a_restriction_is_known_when_the_answer_is_there() -> None:
    async with open_consent_door() as door:
        restricted: list[bytes] = []
        door.ledger.on_restriction.append(lambda nodes: restricted.extend(nodes))
        await door.send(track(1))
        assert restricted == []
        await door.send(preferring(2, email=False))
        assert restricted == [door.user("u1")]
