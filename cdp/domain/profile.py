"""Fragments, and the profile as a fold over them.

What events say about a person is stored under the leaf identifier that each event names: a
fragment. A profile is the fold over the fragments of its members, so a merge is a link, an
un-merge its removal, and neither rewrites anything. Every operation here is commutative and
idempotent per event (the fold applies each event once), so arrival order never shows.

A trait remembers under which consent it was collected: the stamp of the event that set it. Who
uses traits uses only those whose stamp allows it (`allowed_traits`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from cdp.domain.event import ConsentStamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Of a trait that was stored before traits remembered it: nobody can read it any more, so whoever
# asks for consent is refused.
UNKNOWN_STAMP: Final = ConsentStamp(readable=False)
NO_STAMP: Final = -1


class TraitValue(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A trait with what decides a conflict: the later event wins, ties go to the greater id."""

    value: Any
    event_time_us: int
    message_id: str
    source: str = ""
    stamp_at: int = NO_STAMP  # its place in the stamps of the fragment

    def beats(self, other: TraitValue) -> bool:
        return (self.event_time_us, self.message_id) > (other.event_time_us, other.message_id)


class Trait(TraitValue, frozen=True):
    """A trait of a profile, with the consent under which it was collected."""

    stamp: ConsentStamp = UNKNOWN_STAMP


class Fragment(msgspec.Struct, array_like=True):
    """What events that named one identifier said. Mutable: the fold that owns it updates it.

    A trait whose value is None was removed by its sender; it is kept, so that an older value that
    arrives later does not bring it back. `groups` maps a group id to its latest event time.
    `stamps` are those of the traits, each once, so they are never more than these; sorted, so that
    a fragment is a function of its events.
    """

    traits: dict[str, TraitValue] = {}
    first_seen_us: int = 0
    last_seen_us: int = 0
    event_counts: dict[str, int] = {}
    sources: dict[str, int] = {}
    groups: dict[str, int] = {}
    first_message: tuple[int, str, str] | None = None  # event time, message id, source
    last_message: tuple[int, str, str] | None = None
    stamps: list[ConsentStamp] = []

    def stamp_of(self, trait: TraitValue) -> ConsentStamp:
        """The consent under which one of its traits was collected."""
        place = trait.stamp_at
        return self.stamps[place] if 0 <= place < len(self.stamps) else UNKNOWN_STAMP


class ProfileView(msgspec.Struct):
    """A profile at one moment: the fold over its members' fragments."""

    traits: dict[str, Trait]
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
        _merge_traits(view.traits, fragment)
        _add_counts(view.event_counts, fragment.event_counts)
        _add_counts(view.sources, fragment.sources)
        for group, seen_us in fragment.groups.items():
            view.groups[group] = max(seen_us, view.groups.get(group, 0))
        _widen(view, fragment)
    return view


def allowed_traits(view: ProfileView, allow: Callable[[ConsentStamp], bool]) -> dict[str, Any]:
    """The values of traits whose consent allows a use; removed ones are left out.

    `allow` is asked once a stamp. Every read that leaves the platform goes through here.
    """
    answers: dict[int, bool] = {}  # by identity: traits of one fragment have their stamps in common
    found: dict[str, Any] = {}
    for name, trait in view.traits.items():
        if trait.value is None:
            continue
        stamp = trait.stamp
        allowed = answers.get(id(stamp))
        if allowed is None:
            allowed = answers[id(stamp)] = allow(stamp)
        if allowed:
            found[name] = trait.value
    return found


def _merge_traits(into: dict[str, Trait], fragment: Fragment) -> None:
    for name, trait in fragment.traits.items():
        held = into.get(name)
        if held is None or trait.beats(held):
            into[name] = Trait(
                trait.value,
                trait.event_time_us,
                trait.message_id,
                trait.source,
                NO_STAMP,  # a place in the fragment says nothing outside of it
                fragment.stamp_of(trait),
            )


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
