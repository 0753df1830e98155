"""Plays a story through an unmodified Python SDK, in a process of its own, as an application would.

Reads one JSON object from standard input: sdk, host, write_key, tag, story, gzip, options (more
keyword arguments of the SDK's client). Prints one: how many calls were made, and the SDK's errors.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MODULES = {"segment": "segment.analytics.client", "rudder": "rudderstack.analytics.client"}


def purchase(client: Any, tag: str) -> int:
    """Browses without a name on one device, signs up, buys; one call is made twice."""
    device, person = f"{tag}-device", f"{tag}-person"
    client.page(anonymous_id=device, name="Home", properties={"step": 0})
    client.page(anonymous_id=device, category="Shop", name="Coffee", properties={"step": 1})
    client.track(anonymous_id=device, event="Product Viewed", properties={"step": 2, "sku": "C-1"})
    client.track(anonymous_id=device, event="Product Added", properties={"step": 3, "sku": "C-1"})
    time.sleep(0.05)  # nobody signs up in the millisecond of their first visit
    traits = {"email": f"{tag}@shop.example", "name": "Zoë Grün ☕", "address": {"city": "Köln"}}
    client.identify(person, traits, anonymous_id=device)
    order = {"step": 5, "revenue": 14.99, "currency": "EUR", "coupon": None}
    for _ in range(2):
        client.track(person, "Order Completed", order, message_id=f"{tag}-order")
    client.screen(person, "Account", "Orders", {"step": 6})
    client.group(person, f"{tag}-company", {"name": "Initech", "employees": 329})
    past = datetime(2024, 1, 1, 12, tzinfo=UTC)
    client.track(
        anonymous_id=device, event="Newsletter Opened", properties={"step": 8}, timestamp=past
    )
    return 10


def odd(client: Any, tag: str) -> int:
    """What applications really put into properties."""
    deep: dict[str, Any] = {"leaf": True}
    for _ in range(60):
        deep = {"inner": deep}
    payloads: list[dict[str, Any]] = [
        {"nul": "a\x00b"},
        {"large": 2**63 + 1, "small": -(2**70), "huge": 1e308, "tiny": 5e-324, "zero": -0.0},
        {"nan": float("nan"), "infinity": float("inf")},
        deep,
        {"surrogate": "\ud800"},
        {"k\x00ey": 1, "": "empty name", "a.b": 1, "$x": 2},
        {"long": "x" * 20_000},
    ]
    for number, properties in enumerate(payloads):
        client.track(f"{tag}-person", "Odd", properties, message_id=f"{tag}-odd-{number}")
    return len(payloads)


def many(client: Any, tag: str) -> int:
    """More than one request's worth, in order."""
    for number in range(250):
        client.track(f"{tag}-person", "Counted", {"step": number}, message_id=f"{tag}-{number}")
    return 250


STORIES: dict[str, Callable[[Any, str], int]] = {"purchase": purchase, "odd": odd, "many": many}


def main() -> None:
    logging.disable(logging.CRITICAL)  # the SDKs print tracebacks of refusals that we expect
    order = json.load(sys.stdin)
    errors: list[str] = []
    client = importlib.import_module(MODULES[order["sdk"]]).Client(
        order["write_key"],
        host=order["host"],
        gzip=order["gzip"],
        on_error=lambda error, items: errors.append(f"{type(error).__name__}: {error}"),
        **order["options"],
    )
    calls = STORIES[order["story"]](client, order["tag"])
    client.flush()
    client.join()
    print(json.dumps({"calls": calls, "errors": errors}))


if __name__ == "__main__":
    main()
