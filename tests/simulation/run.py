"""Simulated worlds from the command line.

python tests/simulation/run.py --seed 7             one world, with what happened last
python tests/simulation/run.py --seeds 300          many, and how fast
python tests/simulation/run.py --planted            which seed finds each planted bug first
python tests/simulation/run.py --seed 7 --bug NAME  a world with a planted bug
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.simulation.planted import BUGS, WORLDS
from tests.simulation.world import run_world

if TYPE_CHECKING:
    from tests.simulation.world import World

SEEDS_PER_BUG: Final = 60
_EVENTS_SHOWN: Final = 50


def report(world: World, *, shown: int = _EVENTS_SHOWN) -> str:
    """What a person needs to look into a world that failed."""
    lines = [f"    {event}" for event in world.history[-shown:]]
    offences = [f"  {one.at_s:10.3f} s  {one.what}\n      {one.details}" for one in world.offences]
    return "\n".join(
        (
            f"seed {world.options.seed} broke {len(world.offences)} promises:",
            *offences[:20],
            f"  options: {world.options}",
            f"  the last {len(lines)} of {len(world.history)} events:",
            *lines,
            f"  again: make simulate SEED={world.options.seed}",
        )
    )


def first_seed(bug: str, seeds: int = SEEDS_PER_BUG) -> tuple[int, str] | None:
    """The first seed that finds a planted bug, and by what; None where none of them does."""
    for seed in range(seeds):
        with BUGS[bug]():
            try:
                world = run_world(seed, **WORLDS.get(bug, {}))
            except Exception as error:
                return seed, f"{type(error).__name__}"
        if world.offences:
            return seed, world.offences[0].what
    return None


def main() -> int:
    """Runs what was asked for; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--bug", choices=sorted(BUGS))
    parser.add_argument("--planted", action="store_true")
    parser.add_argument("--history", action="store_true")
    arguments = parser.parse_args()
    if arguments.planted:
        return _planted()
    first = arguments.seed or 0
    began_s, failed, starts, events, virtual_s = time.process_time(), 0, 0, 0, 0.0
    for seed in range(first, first + arguments.seeds):
        with BUGS[arguments.bug]() if arguments.bug else nullcontext():
            world = run_world(seed)
        starts += world.process
        events += len(world.acknowledged)
        virtual_s += world.history[-1][0]
        if world.offences:
            failed += 1
            print(report(world))
        elif arguments.seed is not None and arguments.seeds == 1:
            print(f"seed {seed}: {len(world.history)} events, {world.process} starts")
            print(f"history {world.digest()}")
        if arguments.history:
            print(*world.history, sep="\n")
    took_s = time.process_time() - began_s
    print(
        f"{arguments.seeds} worlds, {failed} failed, {arguments.seeds / took_s:.1f} a CPU second; "
        f"{virtual_s / 3600:.0f} hours, {starts} starts, {events} events acknowledged"
    )
    return 1 if failed else 0


def _planted() -> int:
    missed = 0
    for bug in BUGS:
        found = first_seed(bug)
        missed += found is None
        print(f"{bug:34} {'never' if found is None else f'{found[0]:5}  {found[1]}'}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
