"""Fragments, and the profile as a fold over them.

What events say about a person is stored under the leaf identifier that each event names: a
fragment. A profile is the fold over the fragments of its members, so a merge is a link, an
un-merge its removal, and neither rewrites anything. Every operation here is commutative and
idempotent per event (the fold applies each event once), so arrival order never shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class TraitValue(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A trait with what decides a conflict: the later event wins, ties go to the greater id."""

    value: Any
    event_time_us: int
    message_id: str
    source: str = ""

    def beats(self, other: TraitValue) -> bool:
        return (self.event_time_us, self.message_id) > (other.event_time_us, other.message_id)


class Fragment(msgspec.Struct, array_like=True):
    """What events that named one identifier said. Mutable: the fold that owns it updates it.

    A trait whose value is None was removed by its sender; it is kept, so that an older value that
    arrives later does not bring it back. `groups` maps a group id to its latest event time.
    """

    traits: dict[str, TraitValue] = {}
    first_seen_us: int = 0
    last_seen_us: int = 0
    event_counts: dict[str, int] = {}
    sources: dict[str, int] = {}
    groups: dict[str, int] = {}
    first_message: tuple[int, str, str] | None = None  # event time, message id, source
    last_message: tuple[int, str, str] | None = None


class ProfileView(msgspec.Struct):
    """A profile at one moment: the fold over its members' fragments."""

    traits: dict[str, TraitValue]
    first_seen_us: int
    last_seen_us: int
    event_counts: dict[str, int]
    sources: dict[str, int]
    groups: dict[str, int]
    first_message: tuple[int, str, str] | None
    last_message: tuple[int, str, str] | None


def fold(fragments: Iterable[Fragment]) -> ProfileView:
    """The profile that these fragments make, in whatever order they come."""
    view = ProfileView({}, 0, 0, {}, {}, {}, None, None)
    for fragment in fragments:
        _merge_traits(view.traits, fragment.traits)
        _add_counts(view.event_counts, fragment.event_counts)
        _add_counts(view.sources, fragment.sources)
        for group, seen_us in fragment.groups.items():
            view.groups[group] = max(seen_us, view.groups.get(group, 0))
        _widen(view, fragment)
    return view


def _merge_traits(into: dict[str, TraitValue], traits: dict[str, TraitValue]) -> None:
    for name, trait in traits.items():
        held = into.get(name)
        if held is None or trait.beats(held):
            into[name] = trait


def _add_counts(into: dict[str, int], counts: dict[str, int]) -> None:
    for name, count in counts.items():
        into[name] = into.get(name, 0) + count


def _widen(view: ProfileView, fragment: Fragment) -> None:
    if fragment.first_message is None or fragment.last_message is None:
        return
    if view.first_message is None or fragment.first_message < view.first_message:
        view.first_message = fragment.first_message
        view.first_seen_us = fragment.first_seen_us
    if view.last_message is None or fragment.last_message > view.last_message:
        view.last_message = fragment.last_message
        view.last_seen_us = fragment.last_seen_us
