"""`kill -9` of the real daemon under load, at random moments, again and again.

Senders retry what was not acknowledged, with the same messageIds; receivers in processes of their
own remember what came, in order. In some cycles a destination is down, so that deliveries wait
for a retry when the kill comes; some kills hit the daemon while it starts. After the last restart
everything is drained, and then the invariants of ARCHITECTURE.md are exact numbers:

1  every acknowledged event is in the log, once
2  and counted once, in the profiles and in the books
3  each person's events were first delivered in log order
4  folding the log anew from offset 0 gives the same bytes
6  each person is one profile
9  every delivery has ended, and the conservation law holds

`CDP_KILL_CYCLES` is how often (20), `CDP_KILL_SEED` replays the choices of a run.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tests.crash import aftermath
from tests.crash.daemon import WRITE_KEY, Daemon, Settings
from tests.crash.receiver import Receiver
from tests.crash.traffic import ANONYMOUS_STEPS, Traffic, person_and_step

CYCLES = int(os.environ.get("CDP_KILL_CYCLES", "20"))
SEED = int(os.environ.get("CDP_KILL_SEED", "0")) or secrets.randbits(32)
PEOPLE = 48
SENDERS = 6
OUTAGE_EVERY = 4
DRAIN_TIMEOUT_S = 120.0

_PICKY = """
[destinations.picky]
type = "webhook"
purposes = ["analytics"]
events = ["identify"]

[destinations.picky.settings]
url = "{url}"
secrets = ["env:CDP_WEBHOOK_SECRET"]
allow_http = true
allow_private = true
"""


@dataclass
class Aftermath:
    """What is left after the last restart: everything that the checks look at."""

    daemon: Daemon
    acknowledged: set[str]
    resent: int
    refused: list[str]
    status: dict[str, Any]
    profiles: dict[int, dict[str, Any]]
    same_profile: dict[int, bool]
    delivered: dict[str, list[dict[str, Any]]]  # by destination, in the order of arrival


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """Runs the cycles once; every test of this file checks what is left."""
    directory = tmp_path_factory.mktemp("kill9")
    print(f"CDP_KILL_SEED={SEED} CDP_KILL_CYCLES={CYCLES}")
    with Receiver(directory / "hook.bin") as hook, Receiver(directory / "picky.bin") as picky:
        daemon = Daemon(directory / "daemon", _settings(hook, picky))
        with daemon:
            traffic = Traffic(daemon.port, WRITE_KEY, people=PEOPLE, senders=SENDERS, seed=SEED)
            _cycles(daemon, traffic, hook, Random(SEED))
            return _settle(daemon, traffic, hook, picky)


def _settings(hook: Receiver, picky: Receiver) -> Settings:
    return Settings(
        webhook_url=hook.url,
        limits={"backoff_s_min": 0.05, "backoff_s_max": 0.5, "pending_max": 2_000},
        tables=_PICKY.format(url=picky.url),
    )


def _cycles(daemon: Daemon, traffic: Traffic, hook: Receiver, rng: Random) -> None:
    traffic.start()
    for cycle in range(CYCLES):
        hook.answer(503 if cycle % OUTAGE_EVERY == OUTAGE_EVERY - 1 else 200)
        while_starting = rng.random() < 0.2
        daemon.start(wait=not while_starting)
        time.sleep(rng.uniform(0.0, 0.9))
        daemon.kill()
    hook.answer(200)


def _settle(daemon: Daemon, traffic: Traffic, hook: Receiver, picky: Receiver) -> Aftermath:
    daemon.start()
    traffic.finish()
    daemon.wait_until(lambda: _is_drained(daemon.status()), "to drain", DRAIN_TIMEOUT_S)
    people = [person for person in traffic.people if person.steps > ANONYMOUS_STEPS]
    by_user = {p.number: daemon.ask(f"/v1/profiles/user_id:{p.user_id}") for p in people}
    by_device = {p.number: daemon.ask(f"/v1/profiles/anonymous_id:{p.device}") for p in people}
    status = daemon.status()
    assert daemon.stop() == 0, daemon.tail()
    return Aftermath(
        daemon=daemon,
        acknowledged=traffic.acknowledged,
        resent=traffic.resent,
        refused=traffic.refused,
        status=status,
        profiles=by_user,
        same_profile={
            number: profile["profile_id"] == by_device[number]["profile_id"]
            for number, profile in by_user.items()
        },
        delivered={"hook": _deliveries(hook), "picky": _deliveries(picky)},
    )


def _is_drained(status: dict[str, Any]) -> bool:
    lags = [one["lag"] for one in status["folds"].values()]
    owed = [one["lag"] + one["pending"] for one in status["destinations"].values()]
    return sum(lags) + sum(owed) == 0


def _deliveries(receiver: Receiver) -> list[dict[str, Any]]:
    return [one for request in receiver.received() for one in json.loads(request.body)["batch"]]


def steps_by_person(message_ids: Any) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for message_id in message_ids:
        person, step = person_and_step(message_id)
        found[person].append(step)
    return found


def first_deliveries(deliveries: list[dict[str, Any]]) -> list[str]:
    """messageIds in the order in which each came first."""
    events = (one for one in deliveries if one["kind"] == "event")
    return list(dict.fromkeys(one["event"]["messageId"] for one in events))


@pytest.mark.slow
def test_the_load_was_worth_the_name(after: Aftermath) -> None:
    assert after.refused == []
    assert len(after.acknowledged) > CYCLES * 20, (
        "too little was sent for the kills to hit anything"
    )
    assert after.resent > 0


@pytest.mark.slow
def test_every_acknowledged_event_is_in_the_log_once(after: Aftermath) -> None:
    with aftermath.stored(after.daemon) as data:
        logged = Counter(event.message_id for event in aftermath.events(data))
    assert [one for one, count in logged.items() if count > 1] == []
    assert after.acknowledged - set(logged) == set()
    assert set(logged) - after.acknowledged == set(), "senders retry until they are answered"


@pytest.mark.slow
def test_a_persons_events_are_logged_in_the_order_of_their_requests(after: Aftermath) -> None:
    with aftermath.stored(after.daemon) as data:
        logged = steps_by_person(event.message_id for event in aftermath.events(data))
    assert all(steps == list(range(len(steps))) for steps in logged.values())


@pytest.mark.slow
def test_sources_count_every_event_once(after: Aftermath) -> None:
    counts = after.status["sources"]["shop"]
    assert counts["accepted"] == len(after.acknowledged)
    assert counts["rejected"] == 0
    assert counts["duplicate"] >= after.resent


@pytest.mark.slow
def test_each_person_is_one_profile_with_every_event_counted_once(after: Aftermath) -> None:
    steps = steps_by_person(after.acknowledged)
    counted = {n: sum(one["event_counts"].values()) for n, one in after.profiles.items()}
    assert counted == {n: len(steps[n]) for n in after.profiles}
    assert all(after.same_profile.values())
    assert len({one["profile_id"] for one in after.profiles.values()}) == len(after.profiles)


@pytest.mark.slow
def test_fragments_hold_as_many_events_as_the_log(after: Aftermath) -> None:
    with aftermath.stored(after.daemon) as data:
        held = sum(sum(one.event_counts.values()) for one in aftermath.fragments(data))
        timeline = sum(1 for _ in data.items("timeline"))
    assert held == timeline == len(after.acknowledged)


@pytest.mark.slow
def test_the_conservation_law_is_exact(after: Aftermath) -> None:
    with aftermath.stored(after.daemon) as data:
        activations = len(aftermath.records(data, "activations"))
    for name, one in after.status["destinations"].items():
        ended = one["delivered"] + sum(one["filtered"].values()) + one["dead"]
        assert one["offered"] == ended + one["pending"] == activations, name
        assert (one["pending"], one["dead"]) == (0, 0), name


@pytest.mark.slow
def test_each_destination_got_what_it_was_owed_and_nothing_else(after: Aftermath) -> None:
    hook, picky = (after.status["destinations"][name] for name in ("hook", "picky"))
    identifies = {one for one in after.acknowledged if person_and_step(one)[1] == ANONYMOUS_STEPS}
    assert set(first_deliveries(after.delivered["hook"])) == after.acknowledged
    assert set(first_deliveries(after.delivered["picky"])) == identifies
    assert hook["delivered"] == len({one["deliveryId"] for one in after.delivered["hook"]})
    assert picky["delivered"] == len({one["deliveryId"] for one in after.delivered["picky"]})
    assert hook["filtered"] == {}
    assert picky["filtered"]["type"] == len(after.acknowledged) - len(identifies)


@pytest.mark.slow
def test_a_delivery_keeps_its_id_over_attempts_and_crashes(after: Aftermath) -> None:
    for deliveries in after.delivered.values():
        ids: dict[str, set[str]] = defaultdict(set)
        for one in deliveries:
            if one["kind"] == "event":
                ids[one["event"]["messageId"]].add(one["deliveryId"])
        assert all(len(found) == 1 for found in ids.values())
        assert len(set().union(*ids.values())) == len(ids)


@pytest.mark.slow
def test_a_persons_events_are_first_delivered_in_log_order(after: Aftermath) -> None:
    for deliveries in after.delivered.values():
        for steps in steps_by_person(first_deliveries(deliveries)).values():
            assert steps == sorted(steps)


@pytest.mark.slow
def test_the_log_folded_anew_gives_the_same_bytes(after: Aftermath) -> None:
    with aftermath.stored(after.daemon) as data:
        assert aftermath.rebuilt(data) == aftermath.kept(data)
