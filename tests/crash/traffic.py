"""Senders that never give up: each request is sent, with the same messageIds, until it is answered.

Every person has a story with numbered steps: two anonymous events, an identify that ties device
and person, then events under the user id. A person's next step is sent only after the one before
was acknowledged, so the order in the log is known; across people everything runs concurrently.
Some acknowledged requests are sent once more on purpose: duplicates that must not count.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any

ANONYMOUS_STEPS = 2
STEPS_PER_REQUEST_MAX = 4
PEOPLE_PER_REQUEST_MAX = 6
RESENT_SHARE = 0.15
_TIMEOUT_S = 10.0
_PAUSE_S = 0.05


@dataclass
class Person:
    """Somebody with one device, and how far their story has come."""

    number: int
    steps: int = 0

    @property
    def user_id(self) -> str:
        return f"person-{self.number}"

    @property
    def device(self) -> str:
        return f"device-{self.number}"

    def next_event(self) -> dict[str, Any]:
        """The next step. Its messageId says whose it is, and which one."""
        step = self.steps
        self.steps += 1
        event: dict[str, Any] = {"messageId": message_id(self.number, step), "type": "track"}
        if step <= ANONYMOUS_STEPS:
            event["anonymousId"] = self.device
        if step >= ANONYMOUS_STEPS:
            event["userId"] = self.user_id
        if step == ANONYMOUS_STEPS:
            event |= {"type": "identify", "traits": {"email": f"p{self.number}@example.com"}}
        else:
            event |= {"event": "Step", "properties": {"step": step}}
        return event


def message_id(person: int, step: int) -> str:
    """The messageId of a step."""
    return f"k9-{person}-{step}"


def person_and_step(text: str) -> tuple[int, int]:
    """Whose step a messageId is."""
    _, person, step = text.split("-")
    return int(person), int(step)


@dataclass
class Sender:
    """One connection's worth of people, in a thread of its own."""

    port: int
    write_key: str
    people: list[Person]
    rng: Random
    stopping: threading.Event
    acknowledged: set[str] = field(default_factory=set)
    resent: int = 0
    retries: int = 0
    refused: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Sends until told to stop, and even then until the last request is acknowledged."""
        while not self.stopping.is_set():
            events = self._events()
            self._send(events)
            self.acknowledged.update(event["messageId"] for event in events)
            if self.rng.random() < RESENT_SHARE:
                self._send(events)
                self.resent += len(events)

    def _events(self) -> list[dict[str, Any]]:
        count = self.rng.randint(1, min(PEOPLE_PER_REQUEST_MAX, len(self.people)))
        return [
            person.next_event()
            for person in self.rng.sample(self.people, count)
            for _ in range(self.rng.randint(1, STEPS_PER_REQUEST_MAX))
        ]

    def _send(self, events: list[dict[str, Any]]) -> None:
        body = json.dumps({"batch": events}).encode()
        while not self._try(body):
            self.retries += 1
            time.sleep(_PAUSE_S * self.rng.random())

    def _try(self, body: bytes) -> bool:
        """One attempt. Anything but an answer 200 means: not known, send it again."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        credentials = base64.b64encode(f"{self.write_key}:".encode()).decode()
        try:
            connection.request("POST", "/v1/batch", body, {"Authorization": f"Basic {credentials}"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if answer.status not in (200, 429, 503):
            self.refused.append(f"{answer.status} {text[:200]!r}")
        return answer.status == 200


class Traffic:
    """Several senders at once, for as long as the block lasts."""

    def __init__(self, port: int, write_key: str, *, people: int, senders: int, seed: int) -> None:
        self.people = [Person(number) for number in range(people)]
        self._stopping = threading.Event()
        self.senders = [
            Sender(port, write_key, self.people[n::senders], Random(seed * 97 + n), self._stopping)
            for n in range(senders)
        ]
        self._threads = [threading.Thread(target=one.run, daemon=True) for one in self.senders]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, timeout_s: float = 60.0) -> None:
        """Starts nothing new, and returns when the last request is acknowledged."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout_s)
            assert not thread.is_alive(), "a request was not acknowledged in time"

    @property
    def acknowledged(self) -> set[str]:
        """The messageIds that were answered 200."""
        return set().union(*(one.acknowledged for one in self.senders))

    @property
    def resent(self) -> int:
        return sum(one.resent for one in self.senders)

    @property
    def refused(self) -> list[str]:
        return [text for one in self.senders for text in one.refused]
