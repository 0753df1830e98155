"""What SDKs do when the way to the daemon fails: they send again, and every event counts once."""

from __future__ import annotations

import threading

import pytest

from tests.sdk.flaky_proxy import Fault, FlakyProxy
from tests.sdk.world import SDKS, World

pytestmark = pytest.mark.slow

FAULTS: dict[str, list[Fault]] = {
    "unavailable, then back": [503, 503],
    "too many requests": [429],
    "a server error": [500],
    "the connection breaks before the daemon sees it": ["reset", "reset"],
    "the daemon took it, the answer is lost": ["lost answer"],
    "a lost answer, then a refusal": ["lost answer", 503],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("sdk", SDKS)
def test_what_is_sent_again_counts_once(
    world: World, sdk: str, faults: list[Fault], request: pytest.FixtureRequest
) -> None:
    tag = f"retry-{list(FAULTS.values()).index(faults)}-{sdk}"
    before = world.counts()
    with FlakyProxy(world.daemon.port, faults) as proxy:
        played = world.play(sdk, "purchase", tag, host=proxy.url)
    assert played["errors"] == []
    assert proxy.seen[: len(faults)] == faults
    assert len(proxy.seen) > len(faults)
    world.drain()
    lost = faults.count("lost answer")
    after = world.counts()
    assert after["accepted"] - before["accepted"] == 9
    assert after["duplicate"] - before["duplicate"] == 1 + 10 * lost
    assert sum(world.profile(tag)["event_counts"].values()) == 9
    assert len(world.delivered(tag)) == 9


@pytest.mark.parametrize("sdk", SDKS[:2])
def test_an_answer_after_the_senders_patience_does_not_count_twice(world: World, sdk: str) -> None:
    tag = f"late-{sdk}"
    before = world.counts()
    with FlakyProxy(world.daemon.port, ["late answer"], late_s=2.0) as proxy:
        played = world.play(sdk, "purchase", tag, host=proxy.url, timeout=1)
    assert played["errors"] == []
    assert len(proxy.seen) >= 2
    world.drain()
    assert world.counts()["accepted"] - before["accepted"] == 9
    assert sum(world.profile(tag)["event_counts"].values()) == 9


@pytest.mark.parametrize("sdk", SDKS)
def test_a_daemon_that_restarts_loses_nothing_that_an_sdk_still_holds(
    world: World, sdk: str
) -> None:
    """The daemon is down when the application begins, and back a second later."""
    tag = f"restart-{sdk}"
    with FlakyProxy(world.daemon.port, []) as proxy:
        world.daemon.kill()
        revival = threading.Timer(1.0, world.daemon.start)
        revival.start()
        played = world.play(sdk, "many", tag, host=proxy.url)
        revival.join()
    assert "down" in proxy.seen
    assert played["errors"] == []
    world.drain()
    assert world.profile(tag)["event_counts"] == {"track": 250}
    assert len(world.delivered(tag)) >= 250
