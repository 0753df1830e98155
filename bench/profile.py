"""`python -m bench.profile SCENARIO [--seconds 5]`: what the daemon's loop does with its time.

Runs a scenario with the daemon under a sampling profiler and prints three tables: functions by
their own time, functions with all that they called, and single lines. Figures that the scenario
measured are shown too; they are a few per cent lower than without the profiler.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.report import Options, parser, print_result, run_scenario

SHOWN = 28
TABLES = {
    "inside": "time in the function itself, calls into C included",
    "beneath": "time in the function and all that it called",
    "lines": "time in single lines",
}


def main() -> int:
    """Profiles one scenario that runs a daemon."""
    arguments = parser(("ingest_single", "ingest_batch", "end_to_end")).parse_args()
    name = (arguments.scenario or ["ingest_single"])[0]
    with TemporaryDirectory(prefix="cdp-profile-") as scratch:
        target = Path(scratch) / "samples.json"
        os.environ["CDP_BENCH_PROFILE"] = str(target)
        result = run_scenario(name, Options(arguments.scale, arguments.seconds))
        print_result(result, {})
        if not target.exists():
            print("the daemon left no samples; does this scenario run one?", file=sys.stderr)
            return 1
        print_samples(json.loads(target.read_text()))
    return 0


def print_samples(found: dict[str, Any]) -> None:
    """The three tables."""
    total = found["samples"] or 1
    for key, title in TABLES.items():
        print(f"{title} ({total} samples)")
        for where, count in found[key][:SHOWN]:
            print(f"  {count / total:6.1%}  {where}")
        print()


if __name__ == "__main__":
    sys.exit(main())
