"""Realistic events as bytes, cheap enough that making them never limits a figure.

An event is made once as a template with a hole where its `messageId` goes; a fresh event is then
one concatenation. Message ids are the number of the event in 16 hexadecimal digits, so that what a
receiver saw can be matched with when it was sent. Seeded: the same seed makes the same events.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from itertools import count, cycle, islice
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from cdp.domain.event import EVENT_SCHEMA, ConsentStamp, Event

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITE_KEY = "bench-key"
MESSAGE_ID_PATTERN = rb'"messageId":"([0-9a-f]{16})"'
_START_US = 1_760_000_000_000_000
_HOLE = "messageid-of-the-event"
_AUTHORIZATION = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
_PRODUCTS = ("Café crème", "Espresso cups, set of 4", "Grinder", "Filter paper", "Kettle 1.7 l")
_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36"
)


class Template(NamedTuple):
    """An event but for its messageId."""

    kind: str
    before: bytes
    after: bytes


def templates(events: int, people: int, *, seed: int = 1) -> list[Template]:
    """`events` templates about `people` people: mostly tracks and pages, some identifies.

    A person browses under an anonymous id and is signed in for about half of the events.
    """
    rng = Random(seed)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return [_template(_event(rng, rng.randrange(people), now)) for _ in range(events)]


def stored_events(count: int, people: int, *, seed: int = 1) -> list[Event]:
    """Events as ingestion stores them, for benches that begin behind it."""
    rng = Random(seed)
    return [_stored(_event(rng, rng.randrange(people), ""), n) for n in range(count)]


def _stored(event: dict[str, Any], number: int) -> Event:
    at_us = _START_US + number * 1_000
    return Event(
        schema=EVENT_SCHEMA,
        type=event["type"],
        message_id=f"{number:016x}",
        source="shop",
        event_time_us=at_us,
        received_at_us=at_us,
        user_id=event.get("userId"),
        anonymous_id=event["anonymousId"],
        event=event.get("event"),
        name=event.get("name"),
        traits=event.get("traits", {}),
        properties=event.get("properties", {}),
        context=event["context"],
        stamp=ConsentStamp(True, event["context"]["consent"]["categoryPreferences"]),
    )


def _template(event: dict[str, Any]) -> Template:
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    before, after = text.split(_HOLE)
    return Template(event["type"], before.encode(), after.encode())


def _event(rng: Random, person: int, now: str) -> dict[str, Any]:
    kind = rng.choices(("track", "page", "identify"), (70, 25, 5))[0]
    event: dict[str, Any] = {"messageId": _HOLE, "type": kind, "timestamp": now}
    event["anonymousId"] = f"{person:08x}-5d0e-4b51-9f0c-{person * 7919 % 2**48:012x}"
    if kind == "identify" or rng.random() < 0.5:
        event["userId"] = f"customer-{person}"
    event["context"] = _context(rng)
    event.update(_body(rng, kind, person))
    return event


def _context(rng: Random) -> dict[str, Any]:
    return {
        "library": {"name": "analytics.js", "version": "4.13.2"},
        "ip": f"198.51.100.{rng.randrange(256)}",
        "locale": "de-CH",
        "userAgent": _AGENT,
        "page": {"path": "/shop/coffee", "url": "https://shop.example/shop/coffee?ref=news"},
        "consent": {"categoryPreferences": {"analytics": True, "marketing": True}},
    }


def _body(rng: Random, kind: str, person: int) -> dict[str, Any]:
    if kind == "identify":
        return {"traits": {"email": f"customer{person}@shop.example", "plan": "gold", "logins": 5}}
    if kind == "page":
        return {"name": "Coffee", "properties": {"title": "Coffee — the shop", "depth": 3}}
    items = [
        {"sku": f"C-{rng.randrange(1000):04}", "name": rng.choice(_PRODUCTS), "quantity": 1}
        for _ in range(rng.randrange(1, 3))
    ]
    properties = {"revenue": rng.randrange(10_000) / 100, "currency": "EUR", "products": items}
    return {"event": "Order Completed", "properties": properties}


def singles(pool: list[Template], first: int = 0) -> Iterator[bytes]:
    """Requests with one event each, without end."""
    heads = [_head(f"/v1/{one.kind}", len(one.before) + 16 + len(one.after)) for one in pool]
    whole = [(head + one.before, one.after) for head, one in zip(heads, pool, strict=True)]
    for number, (before, after) in zip(count(first), cycle(whole), strict=False):
        yield b"%b%016x%b" % (before, number, after)


def batches(pool: list[Template], events_per_batch: int, first: int = 0) -> Iterator[bytes]:
    """Requests with a batch each, without end. Message ids rise by one an event."""
    halves = cycle([(one.before, one.after) for one in pool])
    numbered = zip(count(first), halves, strict=False)
    while True:
        some = islice(numbered, events_per_batch)
        yield batch_request([b"%b%016x%b" % (before, n, after) for n, (before, after) in some])


def batch_request(events: list[bytes]) -> bytes:
    """One request with these events."""
    body = b'{"batch":[%b],"sentAt":"%b"}' % (b",".join(events), _now())
    return _head("/v1/batch", len(body)) + body


def _now() -> bytes:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _head(path: str, length: int) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {_AUTHORIZATION}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
