"""Seeded worlds: nothing acknowledged is lost, counted twice, reordered or sent without consent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.simulation.run import report
from tests.simulation.world import run_world

HERE: Final = Path(__file__).parent
WORLDS: Final = int(os.environ.get("CDP_SIMULATION_WORLDS", "300"))
WORLDS_A_TEST: Final = 20


def corpus() -> list[int]:
    """Every seed that ever found something, by the line that says what."""
    lines = (HERE / "corpus.txt").read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", corpus())
def test_a_seed_that_once_found_a_bug_stays_clean(seed):
    world = run_world(seed)
    assert not world.offences, report(world)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, WORLDS, WORLDS_A_TEST))
def test_no_world_breaks_a_promise_and_a_seed_has_one_history(first):
    for seed in range(first, min(first + WORLDS_A_TEST, WORLDS)):
        world = run_world(seed)
        assert not world.offences, report(world)
        assert world.acknowledged, "a world without events shows nothing"
        if seed % 20 == 0:
            assert run_world(seed).digest() == world.digest(), f"seed {seed} has two histories"


@pytest.mark.slow
def test_a_history_does_not_depend_on_the_process(tmp_path):
    command = [sys.executable, str(HERE / "run.py"), "--seed", "11"]
    histories = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
        )
        histories |= {line for line in done.stdout.splitlines() if line.startswith("history")}
    assert len(histories) == 1


def test_the_worlds_differ_in_kind():
    from tests.simulation.swarm import draw

    drawn = [draw(seed) for seed in range(WORLDS)]
    for fault in ("sync_broken", "crash_every_s", "crash_at_write", "crash_at_sync", "disk_full"):
        with_it = sum(bool(getattr(options, fault)) for options in drawn)
        assert 0.2 * len(drawn) < with_it < 0.8 * len(drawn), fault
