"""`cdp events rejected`: the events that were refused, why, and sending them again when mended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec
from rich.text import Text

from cdp.cli.control import ControlPlane, OrderRefused, open_control, pages
from cdp.cli.shell import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    Arguments,
    CommandFailed,
    Shell,
    plain_table,
)

if TYPE_CHECKING:
    import argparse

NAME: Final = "events"
SUMMARY: Final = "rejected events: list, look, mend and send again"
EXAMPLES: Final = """\
examples:
  cdp events rejected list
  cdp events rejected list --code invalid_timestamp --json
  cdp events rejected show ID                          the event as it came, and what is wrong
  cdp events rejected resend ID --patch fix.json       a JSON merge patch: {"userId": "42"}
  echo '{"userId": "42"}' | cdp events rejected resend ID --patch -
  cdp events rejected resend --all --code no_identity  after what was wrong has been mended here

Nothing that was sent is lost: what cannot be accepted is kept here, with its reason.
"""

PATH: Final = "/v1/events/rejected"
_SEARCHED_MAX: Final = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    rejected = kinds.add_parser("rejected", help="events that were refused")
    actions = rejected.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="what was refused, and why")
    listing.add_argument("--code", help="only with this reason's code")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most (default: 50)")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(verb=show_list)
    one = actions.add_parser("show", help="one of them in full")
    one.add_argument("id")
    one.set_defaults(verb=show_one)
    resend = actions.add_parser("resend", help="send again, as it was or mended")
    resend.add_argument("id", nargs="?", help="which; or say --all")
    resend.add_argument("--all", action="store_true", help="every rejected event, as it was")
    resend.add_argument("--code", help="with --all: only those with this reason's code")
    resend.add_argument(
        "--patch", metavar="FILE", help="a JSON merge patch (RFC 7396), - for stdin"
    )
    resend.add_argument("--event", metavar="FILE", help="the whole event instead, - for stdin")
    resend.set_defaults(verb=resend_rejected)


async def show_list(arguments: Arguments, shell: Shell) -> int:
    """Lists rejected events, newest first."""
    async with open_control(shell) as control:
        found = await _rejected(control, arguments.code, arguments.limit)
    if arguments.json:
        shell.json(found)
        return EXIT_OK
    table = plain_table("id", "received", "source", "code", "what is wrong")
    for one in found:
        table.add_row(
            Text(str(one["id"])),
            str(one.get("received_at", "")),
            Text(str(one.get("source", ""))),
            Text(str(one.get("code", ""))),
            Text(_wrong(one)),
        )
    shell.out.print(table)
    if not found:
        shell.hint("no event was rejected")
    return EXIT_OK


async def show_one(arguments: Arguments, shell: Shell) -> int:
    """Shows one rejected event in full."""
    async with open_control(shell) as control:
        shell.json(await _find(control, arguments.id))
    return EXIT_OK


async def resend_rejected(arguments: Arguments, shell: Shell) -> int:
    """Sends one again, mended or not, or all of them."""
    if bool(arguments.id) == arguments.all:
        raise CommandFailed("say which event: its id, or --all", EXIT_USAGE)
    if arguments.all and (arguments.patch or arguments.event):
        raise CommandFailed("--patch and --event are for one event, not for --all", EXIT_USAGE)
    async with open_control(shell) as control:
        if arguments.all:
            return await _resend_all(control, arguments.code, shell)
        event = await _mended(control, arguments, shell)
        shell.line(await _resubmit(control, arguments.id, event))
    return EXIT_OK


async def _resend_all(control: ControlPlane, code: str | None, shell: Shell) -> int:
    outcomes: Counter[str] = Counter()
    for one in await _rejected(control, code, _SEARCHED_MAX):
        try:
            outcomes[await _resubmit(control, str(one["id"]), None)] += 1
        except OrderRefused as refused:
            outcomes[f"still rejected: {refused}"] += 1
    for outcome, count in outcomes.most_common():
        shell.line(f"{count} {outcome}")
    if not outcomes:
        shell.hint("there was none to send again")
    return EXIT_FAILED if any(outcome.startswith("still") for outcome in outcomes) else EXIT_OK


async def _mended(control: ControlPlane, arguments: Arguments, shell: Shell) -> Any:
    if arguments.event:
        return _read_json(arguments.event, shell)
    if not arguments.patch:
        return None
    patch = _read_json(arguments.patch, shell)
    one = await _find(control, arguments.id)
    try:
        return merge_patch(msgspec.json.decode(one["body"]), patch)
    except msgspec.DecodeError as error:
        raise CommandFailed(
            f"{arguments.id} is not JSON, so it cannot be patched: send the whole event "
            "with --event FILE"
        ) from error


def merge_patch(value: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7396: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), change)
    return merged


async def _rejected(control: ControlPlane, code: str | None, limit: int) -> list[dict[str, Any]]:
    searched = limit if code is None else _SEARCHED_MAX
    found: list[dict[str, Any]] = []
    async for one in pages(control, PATH, limit=searched):
        if code is None or one.get("code") == code:
            found.append(one)
        if len(found) >= limit:
            break
    return found


async def _find(control: ControlPlane, rejected_id: str) -> dict[str, Any]:
    async for one in pages(control, PATH, limit=_SEARCHED_MAX):
        if one["id"] == rejected_id:
            return one
    raise CommandFailed(
        f"no rejected event has the id {rejected_id}; look: cdp events rejected list"
    )


async def _resubmit(control: ControlPlane, rejected_id: str, event: Any) -> str:
    """What became of it: `accepted` or `duplicate`. Raises OrderRefused where it is still wrong."""
    body = {} if event is None else {"event": event}
    answer = await control.post(f"{PATH}/{quote(rejected_id, safe='')}/resubmit", body)
    return str(answer["outcome"])


def _wrong(one: dict[str, Any]) -> str:
    path = one.get("path")
    return f"{path}: {one.get('message', '')}" if path else str(one.get("message", ""))


def _read_json(name: str, shell: Shell) -> Any:
    try:
        content = shell.stdin.read() if name == "-" else Path(name).read_bytes()
        return msgspec.json.decode(content)
    except OSError as error:
        raise CommandFailed(f"cannot read {name}: {error.strerror}", EXIT_USAGE) from error
    except msgspec.DecodeError as error:
        raise CommandFailed(f"{name} is not JSON: {error}", EXIT_USAGE) from error
