"""Rejected events: kept, listed, repaired, sent again, forgotten."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdp.clock import DAY_US
from cdp.config import Limits
from cdp.ingestion.refusal import Rejection
from cdp.ingestion.rejected import (
    count_rejected,
    expire_rejected,
    get_rejected,
    list_rejected,
    resubmit,
)
from tests.unit.ingestion.front_door import NOW_US, FrontDoor, open_front_door, track

BAD = {"type": "track", "event": "Bought", "messageId": "bad"}


async def again(door: FrontDoor, row_id: str, wire: dict[str, Any] | None = None) -> bool:
    result = await resubmit(
        store=door.store,
        intake=door.intake,
        limits=door.limits,
        new_id=lambda: "new",
        row_id=row_id,
        body=None if wire is None else json.dumps(wire).encode(),
    )
    return result.duplicate


async def test_a_rejected_event_is_kept_as_it_came_with_what_is_wrong() -> None:
    async with open_front_door() as door:
        body = b'{ "type":"track",  "event":"Bought","messageId":"bad" }'
        await door.post("/v1/batch", b'{"batch":[' + body + b"]}")
        [row] = list_rejected(door.store)
        assert row.event.body == body
        assert (row.event.source, row.event.received_at_us) == ("web", NOW_US)
        assert (row.event.code, row.event.path) == ("no_user_anon_id", "userId")
        assert (row.event.message_id, row.event.index) == ("bad", 0)
        assert not row.event.truncated
        assert get_rejected(door.store, row.id) == row.event
        assert get_rejected(door.store, "00" * 12) is None
        assert get_rejected(door.store, "nonsense") is None


async def test_a_repaired_event_is_stored_and_its_row_goes() -> None:
    async with open_front_door() as door:
        await door.send(BAD, None)
        row = list_rejected(door.store)[-1]
        door.clock.time_us += DAY_US
        assert await again(door, row.id, {**BAD, "userId": "u"}) is False
        [event] = door.events()
        assert (event.user_id, event.received_at_us) == ("u", NOW_US)
        assert count_rejected(door.store) == 1
        counts = door.counts()
        assert (counts.accepted, counts.rejected, counts.sent) == (1, 1, 2)
        with pytest.raises(KeyError):
            await again(door, row.id)


async def test_what_is_still_wrong_stays() -> None:
    async with open_front_door() as door:
        await door.send(BAD)
        [row] = list_rejected(door.store)
        with pytest.raises(Rejection) as caught:
            await again(door, row.id)
        assert caught.value.code == "no_user_anon_id"
        assert count_rejected(door.store) == 1


async def test_a_repaired_event_that_came_otherwise_is_a_duplicate() -> None:
    async with open_front_door() as door:
        await door.send(BAD, track("x", messageId="bad"))
        [row] = list_rejected(door.store)
        assert await again(door, row.id, {**BAD, "userId": "u"}) is True
        counts = door.counts()
        assert (counts.accepted, counts.duplicate, counts.rejected) == (1, 1, 0)


async def test_the_path_still_defines_the_type_of_a_repaired_event() -> None:
    async with open_front_door() as door:
        await door.post("/v1/page", {"name": "Home"})
        [row] = list_rejected(door.store)
        await again(door, row.id, {"name": "Home", "userId": "u"})
        assert door.events()[0].type == "page"


async def test_of_a_huge_event_the_beginning_is_kept() -> None:
    async with open_front_door(Limits(event_bytes_max=500)) as door:
        await door.send(track(properties={"pad": "x" * 1_000}))
        [row] = list_rejected(door.store)
        assert row.event.truncated
        assert len(row.event.body) == 500
        with pytest.raises(Rejection):
            await again(door, row.id)
        assert await again(door, row.id, track()) is False


async def test_rows_are_listed_newest_first_and_by_source() -> None:
    async with open_front_door() as door:
        for number in range(5):
            door.clock.time_us += 1
            await door.send({**BAD, "messageId": str(number)})
        await door.send({**BAD, "messageId": "5"}, {**BAD, "messageId": "6"})
        listed = list_rejected(door.store, limit=3)
        assert [row.event.message_id for row in listed] == ["6", "5", "4"]
        more = list_rejected(door.store, limit=10, before=listed[-1].id)
        assert [row.event.message_id for row in more] == ["3", "2", "1", "0"]
        assert len(list_rejected(door.store, source="web")) == 7
        assert list_rejected(door.store, source="other") == []


async def test_rows_of_the_same_microsecond_do_not_replace_each_other() -> None:
    async with open_front_door() as door:
        for _ in range(3):
            await door.send(None, None)
        assert count_rejected(door.store) == len(list_rejected(door.store)) == 6


async def test_there_is_a_limit_to_the_rows_and_the_oldest_make_room() -> None:
    async with open_front_door(Limits(rejected_events_max=3)) as door:
        for number in range(5):
            door.clock.time_us += 1
            await door.send({**BAD, "messageId": str(number)})
        listed = list_rejected(door.store)
        assert [row.event.message_id for row in listed] == ["4", "3", "2"]
        await door.send(*[None] * 9)
        assert count_rejected(door.store) == len(list_rejected(door.store)) == 3
        assert door.counts().rejected == 14


async def test_rows_are_forgotten_by_age_a_bounded_number_a_call() -> None:
    async with open_front_door() as door:
        await door.send(None, None, None)
        door.clock.time_us += DAY_US
        await door.send(None)
        forgotten = []
        for _ in range(3):
            batch = door.store.batch()
            now_us = door.clock.time_us + 1
            forgotten.append(expire_rejected(door.store, batch, now_us, 1.0, rows_max=2))
            door.store.write(batch)
        assert forgotten == [2, 1, 0]
        assert count_rejected(door.store) == len(list_rejected(door.store)) == 1
