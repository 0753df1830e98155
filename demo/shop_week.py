"""Plays a small shop's week through the real Segment SDK, and asks the daemon about it.

    python demo/shop_week.py [--once] [--directory DIR]

Two destinations: a CRM in a process of its own, which is down from Thursday to Friday, and files.
At the end the daemon's books are checked against the story, five commands are shown with their
answers, and everything stays up until Ctrl-C where a person is there to look.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from segment.analytics.client import Client

from demo.stage import Stage, wait_until
from demo.story import DAYS, Call, Expected, expected, week

OUTAGE = ("thu", "fri")
KEYS = {"website": "wk_website", "backend": "wk_backend"}

console = Console(highlight=False)


def main() -> int:
    """Plays, checks, shows, and stays."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="end after the checks")
    parser.add_argument("--directory", default="demo-data", help="where to (default: demo-data)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    calls = week()
    with Stage(Path(arguments.directory).resolve()) as stage:
        begin(stage)
        play(stage, calls)
        settle(stage)
        problems = check(stage, expected(calls))
        show(stage)
        if problems:
            for problem in problems:
                console.print(f"[bold red]wrong:[/] {problem}")
            return 1
        console.print("[green]Every number is what the story makes it.[/]")
        if not arguments.once and sys.stdin.isatty():
            stay(stage)
        code = stage.stop_daemon()
        return 1 if code else 0


def begin(stage: Stage) -> None:
    """Sets up as `cdp init` and `cdp run` do."""
    url = f"http://127.0.0.1:{stage.crm_port}/crm"
    crm = f'settings = {{ url = "{url}", allow_http = true, allow_private = true }}'
    stage.set_up(crm, 'settings = { directory = "archive", rotate_age_s = 1 }')
    stage.start_crm()
    stage.start_daemon()
    console.print(f"[bold]The daemon runs[/]  events: {stage.gateway}  control: {stage.control}")


def play(stage: Stage, calls: list[Call]) -> None:
    """Sends the week, day by day, through one SDK client a source."""
    logging.getLogger("segment").setLevel(logging.CRITICAL)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=len(DAYS) - 1)
    failures: list[str] = []
    clients = {
        source: Client(
            key,
            host=stage.gateway,
            on_error=lambda error, _: failures.append(str(error)),
            upload_interval=0.05,  # a demo has no time for the half second of the default
        )
        for source, key in KEYS.items()
    }
    for day in DAYS:
        _outage(stage, day)
        sent = [call for call in calls if call.day == day]
        for call in sent:
            client = clients[call.source]
            getattr(client, call.method)(**call.sdk_arguments(monday))
            client.flush()  # in the order of the story, whichever source it comes from
        rest(stage)
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(c.method for c in sent).items())
        down = "  [yellow](the CRM is down)[/]" if day in OUTAGE else ""
        console.print(f"  {day}  {len(sent):>2} events: {kinds}{down}")
    for client in clients.values():
        client.join()
    if failures:
        raise SystemExit(f"the SDK could not send: {failures[0]}")


def _outage(stage: Stage, day: str) -> None:
    if day == OUTAGE[0]:
        stage.stop_crm()
    if day == DAYS[DAYS.index(OUTAGE[-1]) + 1]:
        waiting = books(stage)["crm"]
        owed = waiting["lag"] + waiting["pending"]
        console.print(f"  the CRM comes back; it is owed {owed} deliveries")
        stage.start_crm()


def books(stage: Stage) -> dict[str, Any]:
    """The destinations' part of the status."""
    destinations: dict[str, Any] = stage.ask("status")["destinations"]
    return destinations


def settle(stage: Stage) -> None:
    """Waits until everything is resolved and nothing is owed."""
    wait_until(lambda: _owed(stage) == 0, "everything to be delivered", stage.tail)


def rest(stage: Stage) -> None:
    """The night: what can be delivered is, before the next day's withdrawals count for it."""
    wait_until(lambda: _owed(stage, but="crm") == 0, "the archive to have the day", stage.tail)


def _owed(stage: Stage, but: str = "") -> int:
    """What the folds and the destinations still have to do."""
    status = stage.ask("status")
    destinations = [one for name, one in status["destinations"].items() if name != but]
    folds = sum(one["lag"] for one in status["folds"].values())
    return int(folds + sum(one["lag"] + one["pending"] for one in destinations))


def check(stage: Stage, want: Expected) -> list[str]:
    """What of the daemon's answers is not what the story makes it."""
    status = stage.ask("status")
    sources = status["sources"].values()
    found: dict[str, tuple[Any, Any]] = {
        name: (sum(one[name] for one in sources), getattr(want, name))
        for name in ("accepted", "duplicate", "rejected")
    }
    told = {
        "crm": ("marketing", list(stage.crm_deliveries().values())),
        "archive": ("analytics", stage.archived()),
    }
    for name, (purpose, kinds) in told.items():
        destination = status["destinations"][name]
        found[f"{name} events received"] = (kinds.count("event"), want.delivered[purpose])
        found[f"{name} delivered"] = (destination["delivered"], len(kinds))
        found[f"{name} books balance"] = (destination["conserved"], True)
        found[f"{name} dead letters"] = (destination["dead"], 0)
    found |= _check_people(stage)
    return [
        f"{what} is {is_}, not {should}" for what, (is_, should) in found.items() if is_ != should
    ]


def _check_people(stage: Stage) -> dict[str, tuple[Any, Any]]:
    ada, ben, cleo, dora = (
        stage.ask("profile", f"user_id:cust-{name}") for name in ("ada", "ben", "cleo", "dora")
    )
    devices = stage.ask("profile", "email:ada@example.com", "identifiers")["data"]
    tablet = stage.ask("profile", "anonymous_id:counter-tablet")
    calls = [call for call in week() if not call.again and not call.refused]
    of_ada = [
        call
        for call in calls
        if call.arguments.get("user_id") == "cust-ada"
        or call.arguments.get("anonymous_id") in ("ada-phone", "ada-laptop")
    ]
    people = {one["profile_id"] for one in (ada, ben, cleo, dora)}
    return {
        "the number of people": (len(people), 4),
        "Ada's events": (sum(ada["event_counts"].values()), len(of_ada)),
        "Ada's devices": (
            {one["id"] for one in devices if one["type"] == "anonymous_id"},
            {"ada-phone", "ada-laptop"},
        ),
        "Ada's plan": (ada["traits"].get("plan"), "club"),
        "Dora's newsletter": (dora["traits"].get("newsletter"), True),
        "the tablet is shared": (tablet["shared"], True),
    }


def show(stage: Stage) -> None:
    """Five questions, the command that answers each, and its answer."""
    questions = (
        ("Who is this person?", ("profile", "email:ada@example.com")),
        ("Why are her phone and her laptop one person?", ("why", "anonymous_id:ada-phone")),
        ("Why was Dora's order of Thursday not sent to the CRM?", ("why", "shop-thu-1645")),
        ("What is each destination owed, and what did it get?", ("status",)),
        ("Which events were rejected, and why?", ("events", "rejected", "list")),
    )
    for number, (question, command) in enumerate(questions, 1):
        console.rule(f"[bold]{number}. {question}", align="left")
        typed = shlex.join(
            [
                _short(Path(sys.executable).with_name("cdp")),
                "--config",
                _short(stage.config),
                *command,
            ]
        )
        console.print(f"$ {typed}\n", style="cyan", soft_wrap=True)
        console.print(stage.cdp(*command), markup=False, soft_wrap=True)
    console.rule()


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def stay(stage: Stage) -> None:
    """Keeps everything up while a person tries things."""
    console.print(
        f"\nEverything stays up until Ctrl-C. Events: {stage.gateway}  control: {stage.control}\n"
        "The commands above work as they stand, from this directory; --help says more."
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("\nstopping")


if __name__ == "__main__":
    sys.exit(main())
