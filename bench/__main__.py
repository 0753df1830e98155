"""`python -m bench [scenario …] [--json] [--scale 0.01] [--seconds 10]`."""

from __future__ import annotations

import json
import sys

from bench.report import (
    Options,
    estimate_of,
    parser,
    print_inner,
    print_result,
    read_baseline,
    run_in_process,
    run_scenario,
)

SCENARIOS = (
    "ingest_single",
    "ingest_batch",
    "resolve",
    "seal",
    "consent",
    "identity_fold",
    "delivery_fold",
    "end_to_end",
    "recovery",
    "memory",
    "withdrawal",
    "proof",
    "erasure",
)


def main() -> int:
    """Runs what was asked for; 1 if a scenario could not run. A missed goal is no error."""
    arguments = parser(SCENARIOS).parse_args()
    names = arguments.scenario or list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        print(f"unknown scenario {unknown[0]}; there are: {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    options = Options(arguments.scale, arguments.seconds)
    if arguments.inner:
        print_inner(run_in_process(names[0], options))
        return 0
    results = []
    for name in names:
        if not arguments.json:
            print(f"{name}\n\n{estimate_of(name)}\n", flush=True)
        results.append(run_scenario(name, options))
        if not arguments.json:
            print_result(results[-1], read_baseline())
    if arguments.json:
        print(json.dumps(results, indent=2))
    return 1 if any("failed" in result for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
