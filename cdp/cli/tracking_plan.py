"""`cdp tracking-plan`: checks a plan, and drafts one from what the running daemon receives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cdp.cli.control import open_control
from cdp.cli.shell import EXIT_OK, EXIT_USAGE, CommandFailed
from cdp.config import load

if TYPE_CHECKING:
    import argparse

    from cdp.cli.shell import Arguments, Shell
    from cdp.config import Config
    from cdp.domain.tracking_plan import TrackingPlan

NAME: Final = "tracking-plan"
SUMMARY: Final = "which events and fields may come in, and for what"
EXAMPLES: Final = """\
examples:
  cdp tracking-plan infer > tracking.yaml    a draft from the last 10,000 events; never a value
  cdp tracking-plan check tracking.yaml      is it a plan, and has every field a purpose?
  cdp tracking-plan check                    the one that the configuration names

A plan is enforced where [tracking_plan] names it: what breaks it is quarantined and can be repaired
(cdp events rejected), and with unplanned_fields = "drop" other fields are never stored.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser("check", help="is it a plan that can be enforced?")
    check.add_argument("file", nargs="?", type=Path, help="the plan (default: the configured one)")
    check.set_defaults(verb=run_check)
    infer = actions.add_parser("infer", help="draft a plan from live traffic, as YAML")
    infer.add_argument(
        "--events", type=int, default=10_000, metavar="N", help="so many of the latest events"
    )
    infer.add_argument("--json", action="store_true", help="what was counted, as JSON")
    infer.set_defaults(verb=run_infer)


async def run_check(arguments: Arguments, shell: Shell) -> int:
    """Reads a plan. Every problem is one line, and the exit code is then 2."""
    from cdp.domain.tracking_plan import parse_plan

    file = arguments.file
    config = None
    if file is None or shell.config_path.exists():
        config = load(shell.config_path, shell.environ)
    if file is None and config is not None:
        file = config.tracking_plan.file
    if file is None:
        raise CommandFailed(
            f"{shell.config_path}: tracking_plan.file is not set; name a file", EXIT_USAGE
        )
    plan = parse_plan(_read(file), str(file))
    unknown = _unknown_purposes(plan, config) if config is not None else []
    if unknown:
        raise CommandFailed("\n".join(f"{file}: {one}" for one in unknown), EXIT_USAGE)
    fields = sum(1 for _ in plan.fields())
    shell.line(f"[green]{file} is right[/]: {len(plan.events)} kinds of events, {fields} fields")
    return EXIT_OK


async def run_infer(arguments: Arguments, shell: Shell) -> int:
    """Prints a draft."""
    from cdp.domain.plan_draft import draft

    async with open_control(shell) as control:
        traffic = await control.get("/v1/tracking-plan/sample", events=arguments.events)
    if not traffic["events"]:
        raise CommandFailed("no event has come in yet, so there is nothing to draft from")
    if arguments.json:
        shell.json(traffic)
        return EXIT_OK
    shell.out.print(draft(traffic), end="", markup=False, soft_wrap=True)
    shell.hint("say what each field is for, then: cdp tracking-plan check FILE")
    return EXIT_OK


def _unknown_purposes(plan: TrackingPlan, config: Config) -> list[str]:
    """Purposes that the configuration describes nowhere, where it describes any."""
    known = {*config.consent.purposes, *config.consent.defaults}
    if not known:
        return []
    wrong: dict[str, Any] = {}
    for event, field in plan.fields():
        for purpose in field.purposes:
            if purpose not in known:
                wrong[f"{event}.{field.path}: the purpose {purpose} is not in [consent]"] = None
    return [f"{one}; known are {', '.join(sorted(known))}" for one in wrong]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path}: is not text in utf-8", EXIT_USAGE) from error
