"""Events and deliveries for tests: complete, plausible, and the same every time."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec

from cdp.clock import isoformat
from cdp.delivery.destination import Delivery, Erasure
from cdp.domain.event import ConsentStamp, Event, wire_form
from cdp.testing.world import START_US

GRANTED: Final = ConsentStamp(present=True, purposes={"marketing": True, "analytics": True})


def make_event(number: int = 0, **fields: Any) -> Event:
    """An event of a purchase; `fields` are those of `Event`."""
    values: dict[str, Any] = {
        "schema": 1,
        "type": "track",
        "message_id": f"message-{number}",
        "source": "shop",
        "event_time_us": START_US + number * 1_000_000,
        "received_at_us": START_US + number * 1_000_000 + 250_000,
        "user_id": f"user-{number % 10}",
        "anonymous_id": f"device-{number % 20}",
        "event": "Order Completed",
        "properties": {"orderId": f"o-{number}", "total": 19.99, "currency": "EUR"},
        "context": {"library": {"name": "test", "version": "1.0.0"}},
        "stamp": GRANTED,
    }
    return Event(**(values | fields))


def make_delivery(
    number: int = 0, *, event: dict[str, Any] | None = None, **fields: Any
) -> Delivery:
    """A delivery of such an event. The same number gives the same delivery id.

    `event` adds to the event, or replaces what is in it.
    """
    values: dict[str, Any] = {
        "delivery_id": blake2b(b"%d" % number, digest_size=16).hexdigest(),
        "kind": "event",
        "profile_id": f"{number % 10 + 1:032x}",
        "event": wire_form(make_event(number)) | (event or {}),
        "attempt": 1,
    }
    return Delivery(**(values | fields))


def make_change(kind: str, number: int = 0) -> Delivery:
    """A delivery of a merge, a split or a rename."""
    return msgspec.structs.replace(
        make_delivery(number, kind=kind, other_profile_id=f"{number + 900:032x}"), event=None
    )


def make_erasure(number: int = 0, **fields: Any) -> Erasure:
    """An erasure of the person of `make_delivery(number)`, by all that their events name."""
    values: dict[str, Any] = {
        "erasure_id": blake2b(b"erasure %d" % number, digest_size=16).hexdigest(),
        "profile_ids": (f"{number % 10 + 1:032x}",),
        "identifiers": (
            ("user_id", f"user-{number % 10}"),
            ("email", f"user-{number % 10}@example.com"),
        ),
        "requested_at": isoformat(START_US),
    }
    return Erasure(**(values | fields))
