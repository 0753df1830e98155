"""What a scenario found, and how it is shown: the estimate first, the measured figure beside it."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.processes import Usage

ROOT = Path(__file__).resolve().parents[1]
_SPEED_STEPS = 3_000_000
BASELINE = Path(__file__).with_name("baseline.json")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `goal` is what it has to reach; `more` whether more is better."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    more: bool = True

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.more else self.value <= self.goal


@dataclass(slots=True)
class Report:
    """Everything that one scenario has to say."""

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, name: str, value: float, unit: str, *, goal: float | None = None, more: bool = True
    ) -> None:
        """Adds a figure."""
        self.figures.append(Figure(name, round(value, 3), unit, goal, more))

    def add_usage(self, before: Usage, after: Usage, *, events: int = 0) -> None:
        """Adds what the daemon used between two readings."""
        cpu_s = after.cpu_s - before.cpu_s
        loop_cpu_s = after.loop_cpu_s - before.loop_cpu_s
        self.add("daemon cpu", cpu_s, "s")
        if events:
            self.add("daemon cpu per event", cpu_s / events * 1e6, "us")
            self.add("event loop cpu per event", loop_cpu_s / events * 1e6, "us")
        self.add("daemon peak rss", after.rss_bytes_peak / 2**20, "MiB")


@dataclass(frozen=True, slots=True)
class Options:
    """How large and how long. `scale` shrinks counts of events and people for a smoke run."""

    scale: float = 1.0
    seconds: float = 10.0

    def scaled(self, count: int, least: int = 1) -> int:
        """A count at this scale."""
        return max(least, int(count * self.scale))


def estimate_of(name: str) -> str:
    """What the scenario's file says before anything is measured."""
    return (importlib.import_module(f"bench.{name}").__doc__ or "").strip()


def run_in_process(name: str, options: Options) -> Report:
    """Runs one scenario here. Only the scenario's own process does this."""
    before = machine_speed()
    report: Report = importlib.import_module(f"bench.{name}").run(options)
    report.add("machine speed", (before + machine_speed()) / 2, "Msteps/s")
    return report


def machine_speed() -> float:
    """Million steps of a Python loop a second: how fast the machine was just then.

    Shared machines differ by a third from minute to minute; figures compare at equal speed.
    """
    began_s, total = time.perf_counter(), 0
    for number in range(_SPEED_STEPS):
        total += number & 7
    return _SPEED_STEPS / (time.perf_counter() - began_s) / 1e6


def run_scenario(name: str, options: Options) -> dict[str, Any]:
    """Runs one scenario in a process of its own; its result as JSON values."""
    command = [sys.executable, "-m", "bench", name, "--inner"]
    command += ["--scale", str(options.scale), "--seconds", str(options.seconds)]
    began_s = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        return {"scenario": name, "failed": f"exit code {done.returncode}, see above"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"scenario": name, "seconds": round(time.monotonic() - began_s, 1), **result}


def print_inner(report: Report) -> None:
    """What the scenario's process says to the one that started it: the last line, as JSON."""
    figures = [{**asdict(one), "reached": one.reached} for one in report.figures]
    print(json.dumps({"figures": figures, "notes": report.notes}))


def print_result(result: dict[str, Any], baseline: dict[str, Any]) -> None:
    """A result as people read it."""
    if "failed" in result:
        print(f"  FAILED: {result['failed']}\n")
        return
    accepted = baseline.get(result["scenario"], {})
    for figure in result["figures"]:
        print("  " + _line(figure, accepted.get(figure["name"])))
    for note in result["notes"]:
        print(f"  note: {note}")
    print(f"  took {result['seconds']} s\n")


def _line(figure: dict[str, Any], accepted: float | None) -> str:
    line = f"{figure['name']:<44} {figure['value']:>14,.2f} {figure['unit']:<10}"
    if figure["goal"] is not None:
        sign, verdict = (
            "≥≤"[not figure["more"]],
            "reached" if figure["reached"] else "NOT REACHED",
        )
        line += f" goal {sign} {figure['goal']:,.0f}: {verdict}"
    if accepted:
        line += f"  ({figure['value'] / accepted - 1:+.0%} against the baseline)"
    return line.rstrip()


def read_baseline() -> dict[str, Any]:
    """The last accepted figures: scenario -> name -> value."""
    return dict(json.loads(BASELINE.read_text())["figures"]) if BASELINE.exists() else {}


def parser(scenarios: tuple[str, ...]) -> argparse.ArgumentParser:
    """The arguments of `python -m bench`."""
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    made.add_argument("scenario", nargs="*", metavar="scenario", help=", ".join(scenarios))
    made.add_argument("--json", action="store_true", help="results as JSON on standard output")
    made.add_argument("--scale", type=float, default=1.0, help="0.01 is a smoke run")
    made.add_argument("--seconds", type=float, default=10.0, help="how long each load lasts")
    made.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    return made
