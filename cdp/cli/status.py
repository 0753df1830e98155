"""`cdp status`: how fast, how far behind, and whether the books balance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from cdp.cli.control import ControlPlane, open_control
from cdp.cli.shell import EXIT_FAILED, EXIT_OK, Arguments, Shell, plain_table
from cdp.delivery.gate import REASONS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

NAME: Final = "status"
SUMMARY: Final = "rates, lags, and what each destination is owed"
EXAMPLES: Final = """\
examples:
  cdp status
  cdp status --watch        until Ctrl-C
  cdp status --json

Of each destination: offered = delivered + filtered + pending + dead, exactly. The exit code is 1
where the books of a destination do not balance.
"""

_COUNTS: Final = ("offered", "delivered", "filtered", "pending", "dead")
_SOURCE_COUNTS: Final = ("accepted", "duplicate", "rejected")
_WATCH_S: Final = 1.0
_GOOD_STATES: Final = ("running", "ready")

Json = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="as the API gives it")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Shows the status once, or until it is told to stop."""
    async with open_control(shell) as control:
        if arguments.watch:
            await _watch(control, shell)
            return EXIT_OK
        status = await control.get("/v1/status")
    if arguments.json:
        shell.json(status)
    else:
        shell.out.print(page(status, {}))
    return EXIT_OK if all(balanced(one) for one in destinations_of(status)) else EXIT_FAILED


async def _watch(control: ControlPlane, shell: Shell) -> None:
    before: dict[str, int] = {}
    before_s = 0.0
    with Live(console=shell.out, auto_refresh=False, screen=False) as live:
        while True:
            status = await control.get("/v1/status")
            now, now_s = totals(status), trio.current_time()
            live.update(page(status, rates(before, now, now_s - before_s)), refresh=True)
            before, before_s = now, now_s
            await trio.sleep(_WATCH_S)


def page(status: Json, per_s: dict[str, float]) -> RenderableType:
    """The status as tables. `per_s` are rates by `source:NAME` and `destination:NAME`."""
    return Group(
        _headline(status),
        Text(),
        _sources_table(status, per_s),
        Text(),
        _destinations_table(status, per_s),
        *_remarks(status),
    )


def sources_of(status: Json) -> list[Json]:
    """The sources, each with its name."""
    return _named(status.get("sources"))


def destinations_of(status: Json) -> list[Json]:
    """The destinations, each with its name."""
    return _named(status.get("destinations"))


def _named(value: Any) -> list[Json]:
    if isinstance(value, dict):
        return [{"name": name, **one} for name, one in value.items()]
    return list(value or [])


def counts_of(destination: Json) -> dict[str, int]:
    """What was offered and what became of it, from the log and from replays together."""
    found = dict.fromkeys(_COUNTS, 0)
    for counts in (destination, destination.get("replay") or {}):
        for name in _COUNTS:
            value = counts.get(name, 0)
            found[name] += sum(value.values()) if isinstance(value, dict) else int(value)
    return found


def balanced(destination: Json) -> bool:
    """Whether the conservation law holds."""
    counts = counts_of(destination)
    return counts["offered"] == sum(counts[name] for name in _COUNTS[1:])


def totals(status: Json) -> dict[str, int]:
    """The numbers whose change a second is a rate."""
    found = {f"source:{one['name']}": int(one.get("accepted", 0)) for one in sources_of(status)}
    for one in destinations_of(status):
        found[f"destination:{one['name']}"] = counts_of(one)["delivered"]
    return found


def rates(before: dict[str, int], now: dict[str, int], seconds: float) -> dict[str, float]:
    """The change a second of each number that was there before."""
    if seconds <= 0:
        return {}
    return {name: (now[name] - before[name]) / seconds for name in now if name in before}


def _headline(status: Json) -> Text:
    """Everything that is not about one source or destination, in a few lines."""
    text = Text()
    for label, value in _facts(status):
        text.append(f"{label.replace('_', ' '):<18}", "dim")
        text.append(f"{value}\n")
    text.rstrip()
    return text


def _facts(status: Json) -> Iterator[tuple[str, str]]:
    for name, value in status.items():
        if name in ("sources", "destinations") or value in (None, {}):
            continue
        if isinstance(value, dict) and any(isinstance(one, dict) for one in value.values()):
            for inner, one in value.items():
                yield f"{inner} {name.removesuffix('s')}", _numbers(one)
        elif isinstance(value, dict):
            yield name, _numbers(value)
        else:
            yield name, _size(value) if name.endswith("_bytes") else _number(value)


def _numbers(value: Json) -> str:
    """Named numbers on one line: `28 head, 6.7 KiB`."""
    return ", ".join(
        _size(one) if name == "bytes" else f"{_number(one)} {name.replace('_', ' ')}"
        for name, one in value.items()
    )


def _size(count: Any) -> str:
    """A number of bytes as people say it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "nothing"
    return "none" if value is None else str(value)


def _sources_table(status: Json, per_s: dict[str, float]) -> RenderableType:
    rate = ("events/s",) if per_s else ()
    table = plain_table("source", *_SOURCE_COUNTS, *rate, right=(*_SOURCE_COUNTS, *rate))
    for one in sources_of(status):
        row = [_number(one.get(name, 0)) for name in _SOURCE_COUNTS]
        if per_s:
            row.append(_number(per_s.get(f"source:{one['name']}", 0.0)))
        table.add_row(one["name"], *row)
    return table


def _destinations_table(status: Json, per_s: dict[str, float]) -> RenderableType:
    numbers = (*_COUNTS, "lag", *(("events/s",) if per_s else ()))
    table = plain_table("destination", "state", *numbers, "books", right=numbers)
    for one in destinations_of(status):
        state = str(one.get("state", ""))
        row = [_number(count) for count in counts_of(one).values()] + [_number(one.get("lag", 0))]
        if per_s:
            row.append(_number(per_s.get(f"destination:{one['name']}", 0.0)))
        books = Text("balance", "green") if balanced(one) else Text("DO NOT BALANCE", "bold red")
        style = "green" if state in _GOOD_STATES else "yellow"
        table.add_row(one["name"], Text(state.replace("_", " "), style), *row, books)
    return table


def _remarks(status: Json) -> list[RenderableType]:
    """Why deliveries were filtered, and what last went wrong."""
    found: list[RenderableType] = []
    for one in destinations_of(status):
        reasons = one.get("filtered")
        if isinstance(reasons, dict) and reasons:
            for reason, count in sorted(reasons.items()):
                text = f"{one['name']} filtered {count:,}: {reason}"
                found.append(
                    Text(f"{text}, {REASONS[reason]}" if reason in REASONS else text, "dim")
                )
        if one.get("last_error"):
            found.append(Text(f"{one['name']} last error: {one['last_error']}", "dim"))
    return [Text(), *found] if found else []
