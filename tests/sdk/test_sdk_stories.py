"""Unmodified SDKs drive the real daemon: from anonymous browsing to one profile, in order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.world import SDKS, World

pytestmark = pytest.mark.slow

PURCHASE = [
    ("page", "Home"),
    ("page", "Coffee"),
    ("track", "Product Viewed"),
    ("track", "Product Added"),
    ("identify", None),
    ("track", "Order Completed"),
    ("screen", "Orders"),
    ("group", None),
    ("track", "Newsletter Opened"),
]


def what(event: dict[str, Any]) -> tuple[str, str | None]:
    return event["type"], event.get("event") or event.get("name")


@pytest.mark.parametrize("sdk", SDKS)
def test_browsing_then_signing_up_then_buying_becomes_one_profile(world: World, sdk: str) -> None:
    tag = f"purchase-{sdk}"
    before = world.counts()
    played = world.play(sdk, "purchase", tag)
    assert (played["calls"], played["errors"]) == (10, [])
    world.drain()

    counts = world.counts()
    assert counts["accepted"] - before["accepted"] == 9
    assert counts["duplicate"] - before["duplicate"] == 1, "one call was made twice"
    assert counts["rejected"] == before["rejected"]

    profile = world.profile(tag)
    by_device = world.daemon.ask(f"/v1/profiles/anonymous_id:{tag}-device")
    by_email = world.daemon.ask(f"/v1/profiles/email:{tag}@shop.example")
    assert profile["profile_id"] == by_device["profile_id"] == by_email["profile_id"]
    assert profile["state"] == "identified"
    assert sum(profile["event_counts"].values()) == 9
    assert profile["traits"]["name"] == "Zoë Grün ☕"
    assert profile["traits"]["address"] == {"city": "Köln"}


@pytest.mark.parametrize("sdk", SDKS)
def test_the_history_holds_every_event_of_both_lives(world: World, sdk: str) -> None:
    tag = f"history-{sdk}"
    world.play(sdk, "purchase", tag)
    world.drain()
    history = world.profile(tag, "/events?limit=100")["data"]
    assert sorted(map(str, map(what, history))) == sorted(map(str, PURCHASE))
    oldest = min(history, key=lambda event: event["timestamp"])
    assert oldest["event"] == "Newsletter Opened"
    assert oldest["timestamp"].startswith("2024-01-01T12:00:00"), "the sender's own time stands"


@pytest.mark.parametrize("sdk", SDKS)
def test_the_history_is_delivered_in_order_under_one_profile(world: World, sdk: str) -> None:
    tag = f"order-{sdk}"
    world.play(sdk, "purchase", tag)
    world.drain()
    deliveries = world.delivered(tag)
    assert [what(one["event"]) for one in deliveries] == PURCHASE
    assert {one["profileId"] for one in deliveries} == {world.profile(tag)["profile_id"]}
    assert len({one["deliveryId"] for one in deliveries}) == len(PURCHASE)


@pytest.mark.parametrize("sdk", SDKS)
def test_odd_payloads_are_accepted_or_rejected_with_a_reason(world: World, sdk: str) -> None:
    tag = f"odd-{sdk}"
    before = world.counts()
    played = world.play(sdk, "odd", tag)
    assert played["errors"] == [], "what the daemon cannot take must not come back for ever"
    world.drain()
    after = world.counts()
    taken, refused = (after[name] - before[name] for name in ("accepted", "rejected"))
    assert taken + refused == played["calls"]
    assert len(world.delivered(tag)) == taken
    rejected = world.daemon.ask("/v1/events/rejected?limit=100")
    reasons = [
        (one["code"], one["message"])
        for one in rejected["data"]
        if str(one["message_id"]).startswith(f"{tag}-odd-")
    ]
    assert len(reasons) == refused
    assert all(code and message for code, message in reasons)


@pytest.mark.parametrize("sdk", SDKS)
def test_odd_payloads_lose_only_what_no_tool_can_store(world: World, sdk: str) -> None:
    tag = f"odder-{sdk}"
    world.play(sdk, "odd", tag)
    world.drain()
    by_number = {
        one["event"]["messageId"].rpartition("-")[2]: one["event"].get("properties", {})
        for one in world.delivered(tag)
    }
    assert "\x00" not in str(by_number)
    assert by_number["1"]["huge"] == 1e308
    assert by_number["2"].get("nan") is None
    assert len(by_number["6"]["long"]) == 20_000


@pytest.mark.parametrize("sdk", SDKS)
def test_several_requests_of_one_sender_all_arrive(world: World, sdk: str) -> None:
    tag = f"many-{sdk}"
    assert world.play(sdk, "many", tag) == {"calls": 250, "errors": []}
    world.drain()
    assert world.profile(tag)["event_counts"] == {"track": 250}
    steps = [one["event"]["properties"]["step"] for one in world.delivered(tag)]
    assert sorted(steps) == list(range(250))
    if sdk != "segment-node":  # which keeps several requests in flight at once
        assert steps == list(range(250))


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("sdk", SDKS[:2])
def test_a_body_may_be_compressed_or_not(world: World, sdk: str, gzip: bool) -> None:
    tag = f"gzip-{gzip}-{sdk}"
    assert world.play(sdk, "purchase", tag, gzip=gzip)["errors"] == []
    world.drain()
    assert sum(world.profile(tag)["event_counts"].values()) == 9


@pytest.mark.parametrize("sdk", SDKS)
def test_a_story_told_twice_counts_once_where_it_names_its_messages(world: World, sdk: str) -> None:
    tag = f"twice-{sdk}"
    before = world.counts()
    for _ in range(2):
        world.play(sdk, "many", tag)
    world.drain()
    after = world.counts()
    assert after["accepted"] - before["accepted"] == 250
    assert after["duplicate"] - before["duplicate"] == 250
    assert world.profile(tag)["event_counts"] == {"track": 250}
    assert len(world.delivered(tag)) == 250


@pytest.mark.parametrize("sdk", SDKS)
def test_an_unknown_write_key_is_refused_once_and_for_all(world: World, sdk: str) -> None:
    before = world.counts()
    played = world.play(sdk, "purchase", f"key-{sdk}", write_key="no-such-key")
    assert played["errors"], "the application is told"
    assert world.counts() == before
