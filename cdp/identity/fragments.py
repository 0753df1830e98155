"""What an event says about the person that it names, folded into the fragment of its leaf. Pure.

Every operation is commutative over events: counts sum, first and last are minimum and maximum,
a trait's latest (event time, message id) wins. A fragment is bounded, and the bound keeps that
property: what was set last stays. The set that stays is "the N latest", and an entry that fell
out comes back only by a later event, which ranks by its own time.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import nsmallest
from typing import TYPE_CHECKING, Final

import msgspec

from cdp.domain.identifier import NODE_BYTES, Node
from cdp.domain.profile import NO_STAMP, Fragment, TraitValue
from cdp.identity.facts import stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cdp.identity.facts import EventFacts

TRAITS_MAX: Final = 1_000  # of one fragment, removed ones included
GROUPS_MAX: Final = 1_000
GROUP_PREFIX: Final = b"group\x00"

_encode = msgspec.msgpack.Encoder().encode
_encode_sorted = msgspec.msgpack.Encoder(order="sorted").encode
_decode = msgspec.msgpack.Decoder(Fragment).decode


def group_node(key: bytes, group_id: str) -> Node:
    """Under which a group's traits are stored: a keyed hash, as for identifiers."""
    digest = blake2b(GROUP_PREFIX + group_id.encode(), digest_size=NODE_BYTES, key=key)
    return Node(digest.digest())


def apply_event(fragment: Fragment, event: EventFacts) -> None:
    """Folds an event into its leaf's fragment; once, which the cursor sees to."""
    kind, source = event.type, event.source
    _see(fragment, (event.event_time_us, event.message_id, source))
    counts = fragment.event_counts
    counts[kind] = counts.get(kind, 0) + 1
    sources = fragment.sources
    sources[source] = sources.get(source, 0) + 1
    if kind == "identify":
        set_traits(fragment, event)
    elif kind == "group" and event.group_id:
        _see_group(fragment.groups, event.group_id, event.event_time_us)


def apply_group(fragment: Fragment, event: EventFacts) -> None:
    """Folds a group event into the fragment of its group: the group's traits, and when."""
    _see(fragment, (event.event_time_us, event.message_id, event.source))
    set_traits(fragment, event)


def _see(fragment: Fragment, moment: tuple[int, str, str]) -> None:
    if fragment.first_message is None or moment < fragment.first_message:
        fragment.first_message = moment
        fragment.first_seen_us = moment[0]
    if fragment.last_message is None or moment > fragment.last_message:
        fragment.last_message = moment
        fragment.last_seen_us = moment[0]


def set_traits(fragment: Fragment, event: EventFacts) -> None:
    """The later value wins; None removes, and is kept so that an older value stays removed."""
    if not event.traits:
        return
    held, stamps = fragment.traits, fragment.stamps
    stamp = stamp_of(event)
    place = next((place for place, known in enumerate(stamps) if known == stamp), len(stamps))
    moved = place == len(stamps)
    if moved:
        stamps.append(stamp)
    for name, value in event.traits.items():
        trait = TraitValue(value, event.event_time_us, event.message_id, event.source, place)
        before = held.get(name)
        if before is None or trait.beats(before):
            held[name] = trait
            moved = moved or (before is not None and before.stamp_at != place)
    if len(held) > TRAITS_MAX:
        _forget_oldest(held, len(held) - TRAITS_MAX)
        moved = True
    if moved:
        _sort_stamps(fragment)


def _sort_stamps(fragment: Fragment) -> None:
    """Keeps the stamps that traits have, in an order that is theirs, and their places right."""
    held, stamps = fragment.traits, fragment.stamps
    used = {trait.stamp_at for trait in held.values()} - {NO_STAMP}
    kept = sorted(used, key=lambda place: _encode_sorted(stamps[place]))
    if kept == list(range(len(stamps))):
        return
    fragment.stamps = [stamps[place] for place in kept]
    places = {before: now for now, before in enumerate(kept)}
    for name, trait in held.items():
        now = places.get(trait.stamp_at, NO_STAMP)
        if now != trait.stamp_at:
            held[name] = TraitValue(
                trait.value, trait.event_time_us, trait.message_id, trait.source, now
            )


def _forget_oldest(held: dict[str, TraitValue], count: int) -> None:
    def age(name: str) -> tuple[int, str, str]:
        return (held[name].event_time_us, held[name].message_id, name)

    for name in nsmallest(count, held, key=age):
        del held[name]


def _see_group(groups: dict[str, int], group_id: str, time_us: int) -> None:
    if time_us >= groups.get(group_id, time_us):
        groups[group_id] = time_us
    if len(groups) > GROUPS_MAX:
        del groups[min(groups, key=lambda name: (groups[name], name))]


class FragmentCache:
    """Decoded fragments of the last batches, and which of them the current batch changed.

    Two generations make a bounded cache that costs one dictionary look-up a hit: when the young
    one is half of `entries_max`, it becomes the old one, and what was only in the old one is
    forgotten. The store has everything that the cache forgets, because `changed` is written with
    every batch.
    """

    def __init__(
        self,
        load: Callable[[list[bytes]], list[bytes | None]],
        *,
        entries_max: int,
    ) -> None:
        assert entries_max >= 2, "the cache needs room for two generations"
        self._load = load
        self._generation_max = entries_max // 2
        self._young: dict[bytes, Fragment] = {}
        self._old: dict[bytes, Fragment] = {}

    def take(self, nodes: Iterable[bytes]) -> dict[bytes, Fragment]:
        """The fragments of these nodes, each named once; new ones where there are none."""
        if len(self._young) >= self._generation_max:
            self._old, self._young = self._young, {}
        young, old = self._young, self._old
        taken: dict[bytes, Fragment] = {}
        missing: list[bytes] = []
        for node in nodes:
            fragment = young.get(node)
            if fragment is None:
                fragment = old.get(node)
                if fragment is None:
                    missing.append(node)
                    continue
                young[node] = fragment
            taken[node] = fragment
        for node, row in zip(missing, self._load(missing), strict=True):
            taken[node] = young[node] = _decode(row) if row is not None else Fragment()
        return taken

    def drop(self, nodes: Iterable[bytes]) -> None:
        """Forgets fragments whose rows are deleted."""
        for node in nodes:
            self._young.pop(node, None)
            self._old.pop(node, None)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)


encode_fragment = _encode
decode_fragment = _decode
