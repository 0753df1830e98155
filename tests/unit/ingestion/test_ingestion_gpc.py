"""Global Privacy Control over whole sequences of requests, against a model of three sets.

Once a browser has sent `Sec-GPC: 1`, what is sold or shared is off for the identifiers that were
named with it and for the person; its absence later says nothing, and a public key cannot undo it.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from cdp.clock import SECOND_US
from cdp.ingestion.requests import Request
from cdp.ingestion.responses import Answer
from tests.unit.ingestion.consent_door import SOURCES, ConsentDoor, open_consent_door

if TYPE_CHECKING:
    from collections.abc import Iterator

SEQUENCES = 10_000
ADS = "ads"  # the purpose that shares; the others do not


class Step:
    """One request of a sequence, drawn by chance."""

    def __init__(self, rng: random.Random, place: int) -> None:
        self.device = f"device-{place}" if rng.random() < 0.8 else None
        self.user = f"user-{place}" if rng.random() < 0.5 or not self.device else None
        self.gpc = rng.choice((None, None, b"1", b"1", b"0", b"", b"1;"))
        self.grants = rng.random() < 0.5
        self.speaks = rng.random() < 0.6
        self.batched = rng.random() < 0.5
        self.source = rng.choice(("web", "web", "shop_elsewhere"))

    @property
    def counts(self) -> bool:
        return self.gpc == b"1"

    def request(self, number: int) -> Request:
        event: dict[str, Any] = {"type": "track", "event": "Seen", "messageId": f"m{number}"}
        event |= {"anonymousId": self.device} if self.device else {}
        event |= {"userId": self.user} if self.user else {}
        if self.speaks:
            preferences = {ADS: self.grants, "email": self.grants}
            event["context"] = {"consent": {"categoryPreferences": preferences}}
        made = Request()
        made.method = b"POST"
        made.target = b"/v1/batch" if self.batched else b"/v1/t"
        made.body = json.dumps({"batch": [event]} if self.batched else event).encode()
        source = SOURCES["shop" if self.source == "shop_elsewhere" else "web"]
        made.headers = {b"x-write-key": source.write_key.encode()}
        if self.gpc is not None:
            made.headers[b"sec-gpc"] = self.gpc
        return made


async def take(door: ConsentDoor, request: Request) -> None:
    endpoints = door.gateway.endpoints
    begun = await endpoints.begin(request, "")
    answer = begun if isinstance(begun, Answer) else await endpoints.finish(begun)
    endpoints.release(begun)
    assert answer.status == 200
    door.clock.time_us += SECOND_US


def sequences() -> Iterator[list[Step]]:
    rng = random.Random(41)
    for place in range(SEQUENCES):
        yield [Step(rng, place) for _ in range(rng.randrange(1, 6))]


@pytest.mark.slow
async def test_what_is_shared_is_off_from_the_first_sec_gpc_on_and_nothing_turns_it_on() -> None:
    async with open_consent_door() as door:
        number, seen, unseen = 0, 0, 0
        for steps in sequences():
            opted_out: set[bytes] = set()
            denied: set[bytes] = set()
            known: dict[bytes, bool] = {}
            together = False
            for step in steps:
                number += 1
                await take(door, step.request(number))
                named = [door.device(step.device)] if step.device else []
                named += [door.user(step.user)] if step.user else []
                known |= dict.fromkeys(named, True)
                together = together or len(named) == 2
                opted_out |= set(named) if step.counts else set()
                denied |= set(named) if step.counts or (step.speaks and not step.grants) else set()
                for node in known:
                    assert door.standing(node).gpc is (node in opted_out)
                    assert door.state(node, ADS) == ("denied" if node in denied else None)
            if together and opted_out:
                person = list(known)
                door.people.groups = [person]
                door.ledger.changed(person)
                for node in person:
                    assert door.standing(node).gpc
                    assert door.state(node, ADS) == "denied"
                door.people.groups = []
                door.ledger.changed(person)
            seen, unseen = seen + bool(opted_out), unseen + (not opted_out)
        assert seen > SEQUENCES / 3
        assert unseen > SEQUENCES / 10


async def test_only_a_later_grant_that_counts_turns_it_on_and_not_for_events_with_sec_gpc() -> None:
    async with open_consent_door() as door:
        await take(door, with_gpc("m1", ads=None))
        assert door.state(door.device("a1"), ADS) == "denied"
        reply = await door.post(
            "/v1/consent",
            {"anonymousId": "a1", "purposes": {ADS: True}},
            auth=None,
            X_Write_Key="wk_api",
        )
        assert reply.status == 200
        assert door.state(door.device("a1"), ADS) == "granted"
        await take(door, with_gpc("m2", ads=True))
        assert door.events()[-1].stamp.gpc
        assert door.events()[-1].stamp.purposes == {ADS: False}  # that event may not go


def with_gpc(message_id: str, ads: bool | None) -> Request:
    event: dict[str, Any] = {"type": "track", "event": "Seen", "messageId": message_id}
    event["anonymousId"] = "a1"
    if ads is not None:
        event["context"] = {"consent": {"categoryPreferences": {ADS: ads}}}
    made = Request()
    made.method, made.target, made.body = b"POST", b"/v1/t", json.dumps(event).encode()
    made.headers = {b"x-write-key": b"wk_test", b"sec-gpc": b"1"}
    return made
