"""Every scenario still runs, at 1 % of its size. Nothing here asserts a speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import SCENARIOS
from bench.events import batches, singles, templates
from bench.load import is_complete, quantile_of
from bench.report import Figure, estimate_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_runs_at_one_per_cent(scenario: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", scenario, "--json", "--scale", "0.01", "--seconds", "0.5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    (result,) = json.loads(done.stdout)
    figures = {one["name"]: one["value"] for one in result["figures"]}
    assert figures
    assert any(value > 0 for value in figures.values())
    for name in ("refused", "lost"):
        assert figures.get(name, 0) == 0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_states_its_estimate(scenario: str) -> None:
    assert "Estimate" in estimate_of(scenario)


def body_of(request: bytes) -> Any:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return json.loads(body)


def test_requests_are_whole_and_their_message_ids_rise_by_one() -> None:
    pool = templates(30, 7)
    single = singles(pool, first=5)
    assert [int(body_of(next(single))["messageId"], 16) for _ in range(40)] == list(range(5, 45))
    batch = batches(pool, 8, first=100)
    numbers = [
        int(event["messageId"], 16) for _ in range(3) for event in body_of(next(batch))["batch"]
    ]
    assert numbers == list(range(100, 124))


def test_events_are_as_large_as_real_ones() -> None:
    sizes = [len(one.before) + 16 + len(one.after) for one in templates(500, 100)]
    assert 550 < sum(sizes) / len(sizes) < 850


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", False),
    ],
)
def test_an_answer_counts_once_it_is_complete(answer: bytes, complete: bool) -> None:
    assert is_complete(answer) is complete


def test_quantiles_are_values_that_were_measured() -> None:
    assert [quantile_of([4, 1, 3, 2], q) for q in (0.0, 0.5, 0.99)] == [1, 3, 4]
    assert quantile_of([], 0.5) == 0


def test_a_goal_may_be_a_floor_or_a_ceiling() -> None:
    assert Figure("rate", 10, "1/s", goal=10).reached is True
    assert Figure("time", 11, "s", goal=10, more=False).reached is False
    assert Figure("size", 11, "B").reached is None
