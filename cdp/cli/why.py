"""`cdp why`: the causal chain of an event, or of a person, from stored evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from rich.text import Text
from rich.tree import Tree

from cdp.cli.control import names_a_profile, open_control, profile_address
from cdp.cli.shell import EXIT_OK, Arguments, Shell
from cdp.delivery.gate import REASONS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

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

_LINES_MAX: Final = 50
_STYLES: Final = {"delivered": "green", "filtered": "yellow", "dead": "red", "pending": "cyan"}


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
            tree = apart_tree(answer) if arguments.other else person_tree(answer)
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
    """Why identifiers are one person, and what else was seen and not believed."""
    evidence = answer["evidence"]
    tree = Tree(Text(f"profile {answer['profile_id']}, {answer['state']}", "bold"))
    if evidence["shared"]:
        tree.add(Text("the identifier that was asked for is shared: it joins nobody", "yellow"))
    if evidence["crowded"]:
        tree.add(Text("it was seen with too many others to join anybody", "yellow"))
    _branch(tree, "known as", map(_name, answer["identifiers"]))
    _branch(tree, "because", (edge["sentence"] for edge in evidence["accepted"]))
    _branch(tree, "not believed", (edge["sentence"] for edge in evidence["suppressed"]))
    _branch(tree, "seen with, but shared by several", map(_name, evidence["shared_neighbours"]))
    return tree


def apart_tree(answer: dict[str, Any]) -> Tree:
    """Why two identifiers are not one person."""
    tree = Tree(Text(answer["reason"], "bold"))
    _branch(tree, "the nearest they come", (edge["sentence"] for edge in answer["path"]))
    _branch(tree, "shared by several", map(_name, answer["shared"]))
    return tree


def _branch(tree: Tree, title: str, lines: Iterable[str]) -> None:
    shown = list(lines)
    if not shown:
        return
    branch = tree.add(Text(title, "dim"))
    for line in shown[:_LINES_MAX]:
        branch.add(Text(line))
    if len(shown) > _LINES_MAX:
        branch.add(Text(f"and {len(shown) - _LINES_MAX} more; --json shows all", "dim"))


def _name(identifier: dict[str, Any]) -> str:
    """An identifier as people know it; one that is no longer stored by its node."""
    if "namespace" in identifier:
        return f"{identifier['namespace']} {identifier['value']}"
    return f"identifier {identifier['node'][:8]}…"
