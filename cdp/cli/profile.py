"""`cdp profile`: who a person is, on one page, or one part of it in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from rich.panel import Panel
from rich.text import Text

from cdp.cli.control import ControlPlane, open_control, profile_address
from cdp.cli.shell import EXIT_OK, Arguments, Shell, plain_table

if TYPE_CHECKING:
    import argparse

    from rich.table import Table

NAME: Final = "profile"
SUMMARY: Final = "who a person is: traits, identifiers, events"
EXAMPLES: Final = """\
examples:
  cdp profile email:ada@example.com
  cdp profile user_id:42 events --limit 50
  cdp profile 42 identifiers                   a bare value is read by its look
  cdp profile email:ada@example.com --as-of 2026-03-01
  cdp profile id:5bb0… --json                  any profile id ever issued
"""

VIEWS: Final = ("card", "traits", "identifiers", "events", "links", "metadata")
_CARD_EVENTS: Final = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("who", help="namespace:value, a profile id, or a bare value")
    parser.add_argument(
        "view", nargs="?", choices=VIEWS, default="card", help="what to show (default: card)"
    )
    parser.add_argument("--as-of", metavar="TIME", help="as it was at this time (RFC 3339)")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="at most (default: 20)")
    parser.add_argument("--json", action="store_true", help="as the API gives it")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Asks for the profile and shows the view."""
    path = f"/v1/profiles/{profile_address(arguments.who)}"
    async with open_control(shell) as control:
        if arguments.view != "card":
            answer = await control.get(
                f"{path}/{arguments.view}", limit=arguments.limit, as_of=arguments.as_of
            )
            shell.json(answer) if arguments.json else _SHOW[arguments.view](answer, shell)
            return EXIT_OK
        summary = await control.get(path, as_of=arguments.as_of)
        if arguments.json:
            shell.json(summary)
        else:
            await _card(control, path, summary, arguments.as_of, shell)
    return EXIT_OK


async def _card(
    control: ControlPlane, path: str, summary: dict[str, Any], as_of: str | None, shell: Shell
) -> None:
    identifiers = await control.get(f"{path}/identifiers", limit=100, as_of=as_of)
    events = await control.get(f"{path}/events", limit=_CARD_EVENTS, as_of=as_of)
    shell.out.print(_headline(summary, as_of))
    shell.out.print(Panel(_traits_table(summary["traits"]), title="traits", title_align="left"))
    shell.out.print(
        Panel(_identifiers_table(identifiers["data"]), title="known as", title_align="left")
    )
    title = f"latest events (of {sum(summary['event_counts'].values())})"
    shell.out.print(Panel(_events_table(events["data"]), title=title, title_align="left"))


def _headline(summary: dict[str, Any], as_of: str | None) -> Text:
    metadata = summary["metadata"]
    text = Text()
    text.append(f"profile {summary['profile_id']}", "bold")
    text.append(f"  {summary['state']}")
    if summary.get("shared"):
        text.append("  this identifier is shared by several people, and is nobody's", "yellow")
    text.append(f"\nfirst seen {metadata['created_at']}, last seen {metadata['updated_at']}")
    if as_of:
        text.append(f", as of {as_of}")
    counts = ", ".join(f"{count} {kind}" for kind, count in summary["event_counts"].items())
    text.append(f"\n{counts or 'no events'}; sources: {', '.join(summary['sources']) or 'none'}")
    groups = ", ".join(group["group_id"] for group in summary.get("groups", []))
    if groups:
        text.append(f"; groups: {groups}")
    return text


def _traits_table(traits: dict[str, Any]) -> Table:
    table = plain_table("trait", "value")
    for name, value in traits.items():
        table.add_row(Text(name), Text(value_text(value)))
    return table


def _identifiers_table(identifiers: list[dict[str, Any]]) -> Table:
    table = plain_table("namespace", "value", "since", "from", "")
    for one in identifiers:
        table.add_row(
            Text(str(one["type"])),
            Text(str(one["id"])),
            one.get("created_at") or "",
            Text(str(one.get("source_id") or "")),
            Text("shared", "yellow") if one.get("shared") else "",
        )
    return table


def _events_table(events: list[dict[str, Any]]) -> Table:
    table = plain_table("time", "event", "by", "messageId")
    for event in events:
        table.add_row(
            event["timestamp"],
            Text(event_title(event)),
            Text(", ".join(f"{one['type']}:{one['id']}" for one in event["external_ids"])),
            Text("past its retention" if event.get("expired") else str(event.get("message_id"))),
        )
    return table


def event_title(event: dict[str, Any]) -> str:
    """An event in a few words: its type and what it was called."""
    name = event.get("event") or event.get("name")
    return f"{event['type']} {name}" if name else str(event["type"])


def value_text(value: Any) -> str:
    """A trait's value on one line: texts as they are, the rest as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _show_traits(answer: dict[str, Any], shell: Shell) -> None:
    shell.out.print(_traits_table(answer["traits"]))
    _hint_more(answer, shell)


def _show_identifiers(answer: dict[str, Any], shell: Shell) -> None:
    shell.out.print(_identifiers_table(answer["data"]))
    _hint_more(answer, shell)


def _show_events(answer: dict[str, Any], shell: Shell) -> None:
    shell.out.print(_events_table(answer["data"]))
    _hint_more(answer, shell)


def _show_links(answer: dict[str, Any], shell: Shell) -> None:
    table = plain_table("collection", "group", "last seen")
    for link in answer["data"]:
        for one in link["external_ids"]:
            table.add_row(
                str(link["to_collection"]), Text(str(one["id"])), link.get("last_seen_at", "")
            )
    shell.out.print(table)
    _hint_more(answer, shell)


def _show_metadata(answer: dict[str, Any], shell: Shell) -> None:
    table = plain_table("field", "value")
    for name, value in answer["metadata"].items():
        table.add_row(name, Text("" if value is None else str(value)))
    shell.out.print(table)


def _hint_more(answer: dict[str, Any], shell: Shell) -> None:
    if answer.get("cursor", {}).get("has_more"):
        shell.hint("there is more: say --limit")


_SHOW: Final = {
    "traits": _show_traits,
    "identifiers": _show_identifiers,
    "events": _show_events,
    "links": _show_links,
    "metadata": _show_metadata,
}
