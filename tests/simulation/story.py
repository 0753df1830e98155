"""What happens to the people of a world: the events that their devices will send.

Everything is drawn before the world starts, so that no fault changes what was meant to be sent. A
person browses anonymously on some devices, signs up, buys, signs out, comes back; some devices are
shared, some user ids are aliases of older ones. Traits contradict each other, events are late, some
carry consent and some are not events at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.swarm import Options

from cdp.clock import SECOND_US, isoformat
from tests.simulation.swarm import PURPOSES

EPOCH_US: Final = 1_760_000_000 * SECOND_US  # where the wall clock of every world starts

_LATE_S: Final = 90 * 86_400.0


@dataclass
class Message:
    """One thing that a sender sends until it is answered."""

    at_s: float  # when it happened, in the world's time
    sender: int
    body: Any  # the event as JSON; not even an object where it is bad
    message_id: str | None  # None where it is bad beyond having one
    good: bool
    person: int | None = None  # whose it is

    @property
    def stamp(self) -> dict[str, bool] | None:
        """The consent that it carries; None where it carries none."""
        consent = self.body.get("context", {}).get("consent")
        return None if consent is None else consent["categoryPreferences"]


@dataclass
class _Person:
    number: int
    user_id: str
    email: str
    devices: list[str]
    signs_up_s: float
    signed_in: bool = False
    previous_id: str | None = None


class Story:
    """The messages of one world, in the order in which they happen."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._rng = Random(f"story {options.seed}")
        self._count = 0
        self.messages = sorted(self._tell(), key=lambda message: message.at_s)

    def _tell(self) -> Iterator[Message]:
        options, rng = self._options, self._rng
        shared = [f"tablet-{n}" for n in range(options.devices_shared)]
        people = [self._person(n, shared) for n in range(options.people)]
        times = sorted(rng.uniform(0, options.duration_s) for _ in range(options.events))
        for at_s in times:
            if rng.random() < options.bad_event:
                yield self._bad(at_s)
            else:
                person = rng.choice(people)
                yield self._message(at_s, self._body(person, at_s), person)

    def _person(self, number: int, shared: list[str]) -> _Person:
        options = self._options
        devices = [f"device-{number}-{n}" for n in range(options.devices_each)] + shared
        return _Person(
            number=number,
            user_id=f"user-{number}",
            email=f"person{number}@shop.example",
            devices=devices,
            signs_up_s=self._rng.uniform(0, options.duration_s),
        )

    def _body(self, person: _Person, at_s: float) -> dict[str, Any]:
        options, rng = self._options, self._rng
        device = rng.choice(person.devices)
        if at_s >= person.signs_up_s and (not person.signed_in or rng.random() < 0.15):
            person.signed_in = True
            return self._identify(person, device)
        if person.signed_in and rng.random() < options.alias_part:
            return {
                "type": "alias",
                "previousId": rng.choice((device, f"old-{person.user_id}")),
                "userId": person.user_id,
            }
        if rng.random() < 0.1:
            person.signed_in = False
        if not person.signed_in:
            page = rng.choice(("home", "shoes", "basket"))
            return {"type": "page", "name": page, "anonymousId": device}
        return self._signed_in(person, device)

    def _identify(self, person: _Person, device: str) -> dict[str, Any]:
        rng = self._rng
        traits: dict[str, Any] = {"email": person.email}
        if rng.random() < self._options.traits_conflict:
            traits["plan"] = rng.choice(("free", "pro", "team", None))
            traits["visits"] = rng.randrange(100)
        body = {"type": "identify", "userId": person.user_id, "traits": traits}
        if rng.random() < 0.9:
            body["anonymousId"] = device
        return body

    def _signed_in(self, person: _Person, device: str) -> dict[str, Any]:
        rng = self._rng
        body: dict[str, Any] = {"userId": person.user_id}
        if rng.random() < 0.7:
            body["anonymousId"] = device
        if rng.random() < 0.1:
            return {**body, "type": "group", "groupId": "acme", "traits": {"seats": 3}}
        amount = rng.randrange(1, 500)
        return {**body, "type": "track", "event": "Purchase", "properties": {"amount": amount}}

    def _message(self, at_s: float, body: dict[str, Any], person: _Person) -> Message:
        options, rng = self._options, self._rng
        message_id = self._new_id()
        body["messageId"] = message_id
        late_s = rng.uniform(0, _LATE_S) if rng.random() < options.late_part else 0.0
        happened_us = EPOCH_US + round((at_s - late_s) * SECOND_US)
        # Ties are made on purpose: the message id must decide them.
        body["timestamp"] = isoformat(happened_us - happened_us % (rng.choice((1, 60)) * SECOND_US))
        if rng.random() < options.stamp_part:
            body["context"] = {"consent": {"categoryPreferences": self._stamp()}}
        sender = rng.randrange(options.senders)
        return Message(at_s, sender, body, message_id, good=True, person=person.number)

    def _stamp(self) -> dict[str, bool]:
        rng = self._rng
        named = [purpose for purpose in PURPOSES if rng.random() < 0.9]
        return {purpose: rng.random() < self._options.grant_part for purpose in named}

    def _bad(self, at_s: float) -> Message:
        rng = self._rng
        message_id = self._new_id()
        body: Any = rng.choice(
            (
                {"type": "track", "userId": "user-0"},
                {"type": "page", "name": "home"},
                {"type": "dance", "userId": "user-0"},
                {"type": "alias", "userId": "user-0"},
                {"type": "group", "userId": "user-0"},
                7,
            )
        )
        if body == 7:
            return Message(at_s, rng.randrange(self._options.senders), body, None, good=False)
        body["messageId"] = message_id
        return Message(at_s, rng.randrange(self._options.senders), body, message_id, good=False)

    def _new_id(self) -> str:
        self._count += 1
        return f"message-{self._rng.getrandbits(32):08x}-{self._count}"
