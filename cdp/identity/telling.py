"""What a step of the fold tells the change log, so that a reader can keep who is whose from it.

A reader that starts with nothing and takes every change knows the profile of each node: an
`INTRODUCED` gives a new one its profile, a merge or rename moves all of one profile, a split names
every node that is in the other one now. What an event caused stands before the `RESOLVED` change
of that event, so that the profile that an event is about is always known.

A shared identifier is nobody's and is not introduced. Neither is the reading of an alias that no
event has used moved by a split: nothing is stored under it, and an event that uses it tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.domain import change
from cdp.domain.change import INTRODUCED, MERGED, RENAMED, RESOLVED, SPLIT, Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp._matcher import Resolution, Resolver
    from cdp.storage.log import Entry

# Of an event: its leaf, the profile that it is about, and who was signed in on a shared device.
Decided = tuple[bytes, bytes, bytes]

CHANGE_KINDS: Final = {"merged": MERGED, "split": SPLIT, "renamed": RENAMED}

_encode = change.encode


def changes_of(
    entries: Sequence[Entry],
    resolution: Resolution,
    decided: Sequence[Decided],
    resolver: Resolver,
) -> list[bytes]:
    """The records of the change log: for each event what it caused, then what it is about."""
    introduced = _introduced(resolution, resolver)
    caused: dict[int, list[bytes]] = {}
    for index, kind, profile_id, other in resolution.changes:
        made = Change(
            CHANGE_KINDS[kind],
            entries[index].offset,
            profile_id,
            b"",
            other,
            nodes=_parted(other, index, introduced, resolver) if kind == "split" else (),
        )
        caused.setdefault(index, []).append(_encode(made))
    for index, node, profile_id in introduced:
        made = Change(INTRODUCED, entries[index].offset, profile_id, node)
        caused.setdefault(index, []).append(_encode(made))
    records: list[bytes] = []
    for index, (entry, (leaf, profile_id, person)) in enumerate(zip(entries, decided, strict=True)):
        if index in caused:
            records += caused[index]
        resolved = Change(RESOLVED, entry.offset, profile_id, leaf, person=person)
        records.append(_encode(resolved))
    return records


def changes_by_erasure(
    resolution: Resolution, cause_offset: int, resolver: Resolver
) -> list[bytes]:
    """The records of the change log about others when somebody was erased."""
    return [
        _encode(
            Change(
                CHANGE_KINDS[kind],
                cause_offset,
                profile_id,
                b"",
                other,
                by_erasure=True,
                nodes=tuple(resolver.members(other)) if kind == "split" else (),
            )
        )
        for _, kind, profile_id, other in resolution.changes
    ]


def _introduced(resolution: Resolution, resolver: Resolver) -> list[tuple[int, bytes, bytes]]:
    """The nodes that are new: the place of the event that named each, and its profile then.

    The fold lets a part end with an event that names somebody new beside its leaf.
    """
    if not resolution.new_identifiers:
        return []
    events = resolution.events
    first: dict[bytes, int] = {}
    for index, resolved in enumerate(events):
        first.setdefault(resolved[0], index)
    last = len(events) - 1
    found: list[tuple[int, bytes, bytes]] = []
    for node, _, _, leaf in resolution.new_identifiers:
        if node == leaf:
            index = first[leaf]
            _, profile_id, _, shared, _ = events[index]
        else:
            index = last if events[last][0] == leaf else first[leaf]
            profile_id, shared = resolver.profile_of(node) or b"", resolver.is_shared(node)
        if profile_id and not shared:
            found.append((index, node, profile_id))
    return found


def _parted(
    profile_id: bytes,
    index: int,
    introduced: Sequence[tuple[int, bytes, bytes]],
    resolver: Resolver,
) -> tuple[bytes, ...]:
    """Who is in the profile that an event parted, without those who came later in its part."""
    later = {node for when, node, _ in introduced if when > index}
    return tuple(node for node in resolver.members(profile_id) if node not in later)
