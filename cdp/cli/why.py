"""`cdp why`: the causal chain of an event, or of a person, from stored evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rich.text import Text
from rich.tree import Tree

from cdp.cli.control import names_a_profile, open_control, profile_address
from cdp.cli.profile import value_text
from cdp.cli.shell import EXIT_OK, Arguments, Shell
from cdp.delivery.gate import REASONS

if TYPE_CHECKING:
    import argparse

NAME: Final = "why"
SUMMARY: Final = "why is it so: an event's way, or what made a person one"
EXAMPLES: Final = """\
examples:
  cdp why 0f6c1c9e-…                            an event, by its messageId, from its sender to
                                                each destination
  cdp why email:ada@example.com                 why all these identifiers are one person
  cdp why email:ada@example.com --not user_id:7 why these two are not one person
  cdp why 4f1e… --profile                       a profile id, where it could be a messageId too
"""

_STYLES: Final = {"delivered": "green", "filtered": "yellow", "dead": "red", "pending": "cyan"}
_ITEMS_MAX: Final = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of this verb."""
    parser.add_argument("what", help="a messageId, or namespace:value of a person")
    parser.add_argument("--not", dest="other", metavar="WHO", help="why are these two not one?")
    parser.add_argument("--event", action="store_true", help="it is a messageId, whatever its look")
    parser.add_argument("--profile", action="store_true", help="it is a person, whatever its look")
    parser.add_argument("--json", action="store_true", help="as the API gives it")
    parser.set_defaults(verb=main)


async def main(arguments: Arguments, shell: Shell) -> int:
    """Asks why, and shows the answer as a tree."""
    person = arguments.profile or arguments.other or names_a_profile(arguments.what)
    async with open_control(shell) as control:
        if person and not arguments.event:
            path = f"/v1/why/profile/{profile_address(arguments.what)}"
            if arguments.other:
                path += f"/not/{profile_address(arguments.other)}"
            answer = await control.get(path)
            tree = person_tree(answer)
        else:
            answer = await control.get(f"/v1/why/event/{quote(arguments.what, safe='')}")
            tree = event_tree(arguments.what, answer)
    if arguments.json:
        shell.json(answer)
    else:
        shell.out.print(tree)
    return EXIT_OK


def event_tree(message_id: str, answer: dict[str, Any]) -> Tree:
    """The chain of an event, from the sender to the destinations."""
    tree = Tree(Text(f"event {message_id}", "bold"))
    deliveries = None
    for part in answer["chain"]:
        style = _STYLES.get(str(part.get("state", "")), "")
        text = Text(part["sentence"], style)
        if part["stage"] == "delivery":
            deliveries = deliveries or tree.add("destinations")
            branch = deliveries.add(text)
            if part.get("reason") in REASONS:
                branch.add(Text(REASONS[part["reason"]], "dim"))
        else:
            tree.add(Text(f"{part['stage']}: ", "dim") + text)
    return tree


def person_tree(answer: dict[str, Any]) -> Tree:
    """What made a person one, or keeps two apart."""
    head = f"profile {answer['profile_id']}" if "profile_id" in answer else "these two"
    tree = Tree(Text(head, "bold"))
    for name, value in answer.items():
        if name in ("profile_id",):
            continue
        if name == "evidence" and isinstance(value, dict):
            for inner, part in value.items():
                _grow(tree, inner, part)
        else:
            _grow(tree, name, value)
    return tree


def _grow(tree: Tree, name: str, value: Any) -> None:
    """Adds a named part of an answer: lists as branches, the rest on one line."""
    label = name.replace("_", " ")
    if isinstance(value, list):
        if not value:
            return
        branch = tree.add(f"{label} ({len(value)})")
        for item in value[:_ITEMS_MAX]:
            branch.add(Text(_item(item)))
        if len(value) > _ITEMS_MAX:
            branch.add(f"and {len(value) - _ITEMS_MAX} more: --json shows all")
    else:
        tree.add(Text(f"{label}: ", "dim") + Text(_item(value)))


def _item(item: Any) -> str:
    """One piece of evidence on one line: its sentence where it has one."""
    if not isinstance(item, dict):
        return value_text(item)
    if "sentence" in item:
        return str(item["sentence"])
    if item.keys() <= {"node", "namespace", "value"} and "value" in item:
        return f"{item['namespace']} {item['value']}"
    return ", ".join(
        f"{name.replace('_', ' ')} {_item(value)}"
        for name, value in item.items()
        if value not in (None, "", [], {})
    )
