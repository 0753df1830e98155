"""Why: where an event went and for what reason, from its arrival to each destination.

Answers are JSON values with sentences for people beside the facts. They are built from what is
stored (events, the change log, outcomes), never from a log file. Why identifiers are one person
is in `cdp.identity.evidence`.

The decision about an event is found in the change log itself. Its records stand in the order of
the events that caused them, so a binary search over blocks finds an event's changes, without an
index that every event would have to pay for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from cdp.clock import isoformat
from cdp.domain.change import MERGED, RENAMED, RESOLVED, SPLIT, Change, decode_change
from cdp.domain.event import decode_event
from cdp.domain.identifier import NAMESPACES, format_profile_id
from cdp.identity.evidence import evidence, why_not, why_one
from cdp.identity.facts import decode_facts
from cdp.identity.identifiers import observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cdp.domain.event import ConsentStamp, Event
    from cdp.identity.profiles import Profile, Profiles
    from cdp.storage.log import Log

Json = dict[str, Any]

CHANGES_READ: Final = 64  # at a time

CHANGE_NAMES: Final = {
    RESOLVED: "resolved",
    MERGED: "merged",
    SPLIT: "split",
    RENAMED: "renamed",
}


class Became(Protocol):
    """One thing that became of an event at a destination, as delivery tells it."""

    @property
    def destination(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def at_us(self) -> int: ...
    @property
    def attempts(self) -> int: ...
    @property
    def replay(self) -> bool: ...


class Why:
    """Answers why. `became` tells what became of the event at an offset, at each destination."""

    def __init__(
        self,
        events: Log,
        changes: Log,
        profiles: Profiles,
        became: Callable[[int], Sequence[Became]],
    ) -> None:
        self._events = events
        self._changes = changes
        self._profiles = profiles
        self._became = became

    def event(self, offset: int) -> Json:
        """The causal chain of one event: received, identified, decided, told to whom."""
        record = self._events.get(offset)
        if record:
            parts = self._received(record)
        elif record is None:
            parts = [_part("received", "its body is past its retention; its traces remain")]
        else:
            parts = [_part("received", "whom it is about was erased; nobody can read its body")]
        caused = caused_by(self._changes, offset)
        parts += [self._decided(change) for change in caused]
        if not caused and record != b"":
            parts.append(_part("resolved", _undecided(self._changes, offset)))
        parts += [_told(became) for became in self._became(offset)]
        return {"offset": offset, "chain": parts, "sentences": [part["sentence"] for part in parts]}

    def profile(self, profile: Profile) -> Json:
        """Why these identifiers are one person, and what else was seen but not believed."""
        return why_one(self._profiles, profile)

    def evidence(self, profile: Profile) -> Json:
        """The resolver's evidence about a profile, with the identifiers behind its nodes."""
        return evidence(self._profiles, profile)

    def two(self, a: bytes, b: bytes) -> Json:
        """Why two nodes are not one profile."""
        return why_not(self._profiles, a, b)

    def _received(self, record: bytes) -> list[Json]:
        event = decode_event(record)
        text = (
            f"received {isoformat(event.received_at_us)} from source {event.source} as "
            f"{_title(event)}, of {isoformat(event.event_time_us)}"
        )
        received = _part("received", text, message_id=event.message_id, source=event.source)
        return [received, _consented(event.stamp), self._named(record)]

    def _named(self, record: bytes) -> Json:
        """The identifiers on the event, and which of them can identify anybody."""
        named = observation(decode_facts(record))[3]
        normalise = self._profiles.resolver.normalise
        identifiers = [
            {
                "namespace": NAMESPACES[code],
                "value": value,
                "normalised": normalise(code, value),
            }
            for code, value in named
        ]
        usable = [
            f"{one['namespace']} {one['normalised']}" for one in identifiers if one["normalised"]
        ]
        refused = [
            f"{one['namespace']} {one['value']}" for one in identifiers if not one["normalised"]
        ]
        text = f"named {', '.join(usable)}" if usable else "named nobody who can be identified"
        if refused:
            text += f"; not usable as an identifier: {', '.join(refused)}"
        return _part("named", text, identifiers=identifiers)

    def _decided(self, change: Change) -> Json:
        facts: Json = {"change": CHANGE_NAMES[change.kind]}
        if change.profile_id:
            facts["profile_id"] = format_profile_id(change.profile_id)
        if change.other_profile_id:
            facts["other_profile_id"] = format_profile_id(change.other_profile_id)
        if change.kind != RESOLVED:
            return _part("changed", _changed(change), **facts)
        if not change.profile_id:
            return _part("resolved", self._nobody(change), **facts)
        now = self._profiles.resolver.profile_of(change.profile_id) or change.profile_id
        text = f"is about profile {facts['profile_id']}"
        if named := self._profiles.values([change.leaf]).get(change.leaf):
            text += f", by {named.namespace} {named.value}"
        if self._profiles.resolver.is_shared(change.leaf):
            text += ", who was signed in on that shared device"
        if now != change.profile_id:
            facts["profile_id_now"] = format_profile_id(now)
            text += f"; that profile is part of {facts['profile_id_now']} now"
        return _part("resolved", text, **facts)

    def _nobody(self, change: Change) -> str:
        if not change.leaf:
            return "is about nobody: none of its identifiers is usable"
        return "is about nobody: the device is shared, and nobody is known to have been signed in"


def caused_by(changes: Log, cause_offset: int) -> list[Change]:
    """The changes that an event caused, in order; empty before it is resolved or once truncated."""
    offset = _first_at_or_after(changes, cause_offset)
    found: list[Change] = []
    while entries := changes.read(offset, CHANGES_READ):
        for entry in entries:
            change = decode_change(entry.record)
            if change.cause_offset != cause_offset:
                return found
            if not change.by_erasure and change.kind in CHANGE_NAMES:
                found.append(change)
        offset = entries[-1].offset + 1
    return found


def _first_at_or_after(changes: Log, cause_offset: int) -> int:
    """The offset of the first change whose cause is this event or a later one."""
    low, high = changes.start, changes.head
    while low < high:
        middle = (low + high) // 2
        entries = changes.read(middle, 1)
        if entries and decode_change(entries[0].record).cause_offset < cause_offset:
            low = entries[0].offset + 1
        else:
            high = middle
    return low


def _undecided(changes: Log, offset: int) -> str:
    first = next(iter(changes.read(changes.start, 1)), None)
    if first is not None and decode_change(first.record).cause_offset > offset:
        return "the decision about it is past its retention"
    return "waits to be resolved"


def _consented(stamp: ConsentStamp) -> Json:
    if not stamp.present:
        return _part("consent", "carried no consent; the configured defaults decide", present=False)
    granted = sorted(name for name, given in stamp.purposes.items() if given)
    denied = sorted(name for name, given in stamp.purposes.items() if not given)
    text = f"carried consent: granted {_list(granted)}; denied {_list(denied)}"
    return _part("consent", text, present=True, granted=granted, denied=denied)


def _changed(change: Change) -> str:
    one, other = format_profile_id(change.profile_id), format_profile_id(change.other_profile_id)
    return {
        MERGED: f"joined profile {other} into {one}",
        SPLIT: f"parted profile {other} from {one}",
        RENAMED: f"gave profile {other} its earlier founder's id, {one}",
    }[change.kind]


def _told(became: Became) -> Json:
    when = isoformat(became.at_us)
    what = "" if became.kind == "event" else f"the {became.kind} change was "
    text = {
        "delivered": f"delivered {when}",
        "filtered": f"filtered {when}",
        "dead": f"given up {when}",
        "redriven": f"redriven {when}",
        "pending": f"pending, next attempt {when}",
    }.get(became.state, f"{became.state} {when}")
    text = f"{became.destination}: {what}{text}"
    text += f", because {became.reason}" if became.reason else ""
    text += f", attempt {became.attempts}" if became.attempts > 1 else ""
    text += " (replay)" if became.replay else ""
    return _part(
        "delivery",
        text,
        destination=became.destination,
        kind=became.kind,
        state=became.state,
        reason=became.reason,
        at=when,
        attempts=became.attempts,
        replay=became.replay,
    )


def _part(stage: str, sentence: str, **facts: Any) -> Json:
    return {"stage": stage, "sentence": sentence, **facts}


def _title(event: Event) -> str:
    name = event.event or event.name
    return f"{event.type} '{name}'" if name else event.type


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
