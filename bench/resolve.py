"""Deterministic resolution alone: in Rust (`cargo run --example`), and through the binding.

Estimate. An observation has 1 to 3 identifiers: normalising 60 ns each, a keyed hash 40 ns each, a
map look-up that misses the cache 100 ns each, union and bookkeeping 100 ns: about 500 ns, so
2,000,000/s on one core in Rust. Through the binding each observation is read from Python objects
and its result made into some: 600 ns more, about 900,000/s.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Options, Report
from cdp._matcher import KIND_CO_OCCUR, KIND_IDENTIFY, Resolver
from cdp.app import rules_json
from cdp.config import Identity
from cdp.domain.identifier import NAMESPACE_CODE

if TYPE_CHECKING:
    from collections.abc import Iterable

if TYPE_CHECKING:
    from cdp._matcher import Observation

ROOT = Path(__file__).resolve().parents[1]
PEOPLE = 200_000
ROUNDS = 5  # every person comes back so often, as most events are of people who are known
BENCH_KEY = b"0123456789abcdef" * 2
_STEP = 1_024
_USER, _EMAIL, _ANONYMOUS = (NAMESPACE_CODE[n] for n in ("user_id", "email", "anonymous_id"))


def run(options: Options) -> Report:
    """Observations a second, new people and known people apart."""
    report = Report()
    people = options.scaled(PEOPLE, 1_000)
    _in_rust(report, people)
    resolver = new_resolver()
    first = _rate(resolver, people, rounds=1)
    known = _rate(resolver, people, rounds=ROUNDS)
    report.add("through the binding, new people (cpu)", first, "1/s")
    report.add("through the binding, known people (cpu)", known, "1/s", goal=1_000_000)
    statistics = resolver.statistics()
    per_node = statistics["memory_bytes"] / statistics["nodes"]
    report.add("memory of an identifier", per_node, "B", goal=150, more=False)
    return report


def new_resolver() -> Resolver:
    """A resolver with the default rules."""
    return Resolver(BENCH_KEY, rules_json(Identity()))


def observations_of_people(people: Iterable[int]) -> list[Observation]:
    """Three observations a person: a page without a name, an identify, an order."""
    made: list[Observation] = []
    for person in people:
        time_us = 1_760_000_000_000_000 + person * 1_000_000
        device = f"{person:08x}-5d0e-4b51-9f0c-{person * 7919 % 2**48:012x}"
        user, email = f"customer-{person}", f"customer{person}@shop.example"
        named = [(_USER, user), (_ANONYMOUS, device), (_EMAIL, email)]
        made.append((time_us, KIND_CO_OCCUR, 0, [(_ANONYMOUS, device)]))
        made.append((time_us + 1, KIND_IDENTIFY, 0, named))
        made.append((time_us + 2, KIND_CO_OCCUR, 0, [(_USER, user)]))
    return made


def _rate(resolver: Resolver, people: int, rounds: int) -> float:
    spent_s, resolved = 0.0, 0
    for _ in range(rounds):
        for start in range(0, people, _STEP):
            batch = observations_of_people(range(start, min(people, start + _STEP)))
            began_s = time.thread_time()
            resolver.resolve(batch)
            spent_s += time.thread_time() - began_s
            resolved += len(batch)
    return resolved / spent_s


def _in_rust(report: Report, people: int) -> None:
    """The example of the crate prints one JSON object of figures."""
    if shutil.which("cargo") is None:
        report.notes.append("no cargo here: the Rust figures are left out")
        return
    command = ["cargo", "run", "--release", "--quiet", "-p", "matcher_core"]
    command += ["--example", "resolve_rate", "--", str(people), str(ROUNDS)]
    done = subprocess.run(
        command, cwd=ROOT, input=rules_json(Identity()), capture_output=True, text=True, check=False
    )
    found = re.search(r"\{.*\}", done.stdout)
    if done.returncode != 0 or found is None:
        report.notes.append(f"the Rust example did not run: {done.stderr[-400:]}")
        return
    figures = json.loads(found[0])
    report.add("in Rust, new people", figures["new_per_s"], "1/s")
    report.add("in Rust, known people", figures["known_per_s"], "1/s", goal=1_000_000)
