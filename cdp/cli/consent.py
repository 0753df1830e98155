"""`cdp consent`: what a person agreed to, and what they say now, with proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from cdp.cli.control import ControlPlane, open_control, person_named
from cdp.cli.shell import EXIT_OK, Arguments, Shell, plain_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from rich.table import Table

    _Run = Callable[[ControlPlane, Arguments, Shell], Awaitable[int]]

Json = dict[str, Any]

NAME: Final = "consent"
SUMMARY: Final = "what a person agreed to; grant, withdraw, object, with proof"
EXAMPLES: Final = """\
examples:
  cdp consent show email:ada@example.com               where each purpose stands, and since when
  cdp consent history email:ada@example.com            everything that was said, with its proof
  cdp consent withdraw user_id:42 marketing analytics  holds from now on, for attempts in hand too
  cdp consent grant user_id:42 marketing --policy shop --method "signed form"
  cdp consent object user_id:42 statistics             to legitimate interest

What is recorded here counts as a server's word: no public write key can grant it again.
"""

PATH: Final = "/v1/consent"
_STYLES: Final = {"granted": "green", "denied": "red", "expired": "yellow", "superseded": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _action(actions, "show", _show, "where each purpose stands now")
    _action(actions, "history", _history, "everything that was said, oldest first")
    for name, run, summary in (
        ("grant", _grant, "the person has agreed"),
        ("withdraw", _withdraw, "the person has refused or withdrawn"),
        ("object", _object, "the person has objected to legitimate interest"),
    ):
        action = _action(actions, name, run, summary)
        action.add_argument("purposes", nargs="+", metavar="PURPOSE", help="what for")
        action.add_argument("--at", metavar="TIME", help="when they said so (default: now)")
        action.add_argument("--until", metavar="TIME", help="when a grant ends by itself")
        action.add_argument("--jurisdiction", metavar="CODE", help="where they are: DE, US-CA …")
        action.add_argument("--policy", metavar="ID", help="the policy text that they were shown")
        action.add_argument("--policy-version", metavar="VERSION", help="default: today's")
        action.add_argument("--method", metavar="HOW", help="a call, a letter, a signed form …")
        action.add_argument("--by", metavar="NAME", help="who records it (default: $USER)")


def _action(actions: Any, name: str, run: _Run, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary)
    parser.add_argument("who", help="namespace:value, a profile id, or a bare value")
    parser.add_argument("--json", action="store_true", help="as the API gives it")
    parser.set_defaults(verb=main, run=run)
    return parser


async def main(arguments: Arguments, shell: Shell) -> int:
    """Runs one action against the daemon."""
    async with open_control(shell) as control:
        code: int = await arguments.run(control, arguments, shell)
        return code


async def _show(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    told = await control.get(PATH, identifier=_identifier(arguments))
    if arguments.json:
        shell.json(told)
        return EXIT_OK
    standing = told["standing"]
    for name, words in (
        ("suppressed", "suppressed: nothing is stored or sent"),
        ("restricted", "processing is restricted"),
        ("global_privacy_control", "Global Privacy Control is set: nothing is sold or shared"),
    ):
        if standing[name]:
            shell.out.print(Text(words, "yellow"))
    if standing["purposes"]:
        shell.out.print(_purposes_table(standing["purposes"]))
    else:
        shell.line("nothing was ever said about any purpose")
    return EXIT_OK


def _purposes_table(purposes: dict[str, Json]) -> Table:
    table = plain_table("purpose", "stands", "since", "how", "said by", "policy", "record")
    for name, one in purposes.items():
        state = Text(one["state"], _STYLES.get(one["state"], ""))
        table.add_row(
            Text(name),
            state,
            one["at"],
            one["how"] or "",
            one["said_by"],
            Text(one["policy"] or ""),
            str(one["record"]),
        )
    return table


async def _history(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    told = await control.get(f"{PATH}/history", identifier=_identifier(arguments))
    if arguments.json:
        shell.json(told)
        return EXIT_OK
    if not told["data"]:
        shell.line("nothing was ever said about any purpose")
        return EXIT_OK
    table = plain_table(
        "record", "received", "what", "how", "said by", "source", "policy", "method"
    )
    for one in told["data"]:
        proof = one["proof"] or {}
        table.add_row(
            str(one["record"]),
            one["received_at"],
            Text(_what(one)),
            one["how"],
            one["said_by"],
            Text(one["source"]),
            Text(one["policy"] or ""),
            Text(str(proof.get("method", ""))),
        )
    shell.out.print(table)
    return EXIT_OK


def _what(record: Json) -> str:
    if record["action"] != "said":
        return str(record["action"])
    if record["how"] == "gpc" and not record["purposes"]:
        return "Global Privacy Control"
    no = "objected to" if record["objection"] else "no to"
    words = []
    for label, granted in (("yes to", True), (no, False)):
        names = [name for name, said in record["purposes"].items() if said is granted]
        if names:
            words.append(f"{label} {', '.join(names)}")
    return "; ".join(words)


async def _grant(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    return await _record(control, arguments, shell, granted=True)


async def _withdraw(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    return await _record(control, arguments, shell, granted=False)


async def _object(control: ControlPlane, arguments: Arguments, shell: Shell) -> int:
    return await _record(control, arguments, shell, granted=False, objection=True)


async def _record(
    control: ControlPlane,
    arguments: Arguments,
    shell: Shell,
    *,
    granted: bool,
    objection: bool = False,
) -> int:
    namespace, value = person_named(arguments.who)
    proof = {
        "policy": arguments.policy,
        "policy_version": arguments.policy_version,
        "method": arguments.method,
    }
    order = {
        "identifiers": {namespace: value},
        "purposes": dict.fromkeys(arguments.purposes, granted),
        "kind": "console",
        "by": arguments.by or shell.environ("USER") or "operator",
        "at": arguments.at,
        "expires_at": arguments.until,
        "jurisdiction": arguments.jurisdiction,
        "proof": {name: text for name, text in proof.items() if text is not None},
    }
    if objection:
        order["objection"] = True
    told = await control.post(PATH, {k: v for k, v in order.items() if v is not None})
    if arguments.json:
        shell.json(told)
    else:
        shell.line(f"recorded; see: cdp consent history {arguments.who}")
    return EXIT_OK


def _identifier(arguments: Arguments) -> str:
    return ":".join(person_named(arguments.who))
