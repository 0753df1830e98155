"""What is held about one person, as one document: the right of access, and that of portability.

The document (schema `cdp.person`, see `docs/consent.md`) holds the identifiers, the traits with
where each came from and which purposes its event was given for, every event that is still in the
log, what was said about consent with its proofs, who received something, and what was asked.
It is written in steps of a few events, so that a person with a hundred thousand of them costs
neither memory nor anybody else's turn.

The document is also a way out: `reimport_events` reads it back into events for `/v1/import`, and
a platform that takes them makes an equal profile of them.

What the stores hold comes through `Holdings`, which the control plane makes from the subsystems
above this one. How a document looks is a `Form`'s matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec
import trio

from cdp.clock import isoformat, to_datetime
from cdp.domain.event import wire_form
from cdp.storage.exports import NODES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdp.clock import Clock
    from cdp.domain.event import ConsentStamp, Event
    from cdp.domain.identifier import Identifier
    from cdp.domain.profile import ProfileView, TraitValue
    from cdp.storage.exports import ExportFiles, ExportWriter

Json = dict[str, Any]

SCHEMA: Final = "cdp.person"
VERSION: Final = 1
EVENTS_A_STEP: Final = 64  # read, written and forgotten before the next


class HeldIdentifier(msgspec.Struct, frozen=True):
    """Something that the person is known by. `first_us`: None where nobody can say since when."""

    identifier: Identifier
    shared: bool
    first_us: int | None
    first_source: str | None


class HeldPerson(msgspec.Struct, frozen=True):
    """Who somebody is, as identity tells it now."""

    profile_id: bytes
    members: Sequence[bytes]
    state: str
    identifiers: Sequence[HeldIdentifier]
    view: ProfileView


class HeldFate(msgspec.Struct, frozen=True):
    """One thing that became of an event at a destination."""

    destination: str
    kind: str  # event, merged ...: what was told about it
    state: str
    reason: str
    at_us: int
    attempts: int
    replay: bool = False


class HeldEvent(msgspec.Struct, frozen=True):
    """An event of the person. `event` is None where its body is past its retention.

    `rule` says how an event of a shared device came to this person; empty for the person's own.
    """

    time_us: int
    type: str
    event: Event | None
    rule: str = ""
    fates: Sequence[HeldFate] = ()


class Step(NamedTuple):
    """Some events, oldest first, and where to go on; None at the end."""

    events: Sequence[HeldEvent]
    next: Any | None


class Holdings(Protocol):
    """What the stores hold about people. Lists are plain JSON values."""

    def person(self, profile_id: bytes) -> HeldPerson | None:
        """Who it is; None where nothing is held."""
        ...

    async def events(self, person: HeldPerson, after: Any | None, limit: int) -> Step:
        """The events after a place, oldest first, with what became of each."""
        ...

    def standing(self, person: HeldPerson) -> Json:
        """Where the person stands now, by purpose."""
        ...

    def consent(self, person: HeldPerson) -> list[Json]:
        """Every consent record, oldest first, with its proof."""
        ...

    def recipients(self, person: HeldPerson) -> list[Json]:
        """Every destination that ever got something of the person, and since when."""
        ...

    def requests(self, person: HeldPerson) -> list[Json]:
        """What was asked in the person's name, and how far it is."""
        ...

    def audiences(self, person: HeldPerson) -> list[Json]:
        """Which audiences the person is in."""
        ...


class Form(Protocol):
    """How a document is written."""

    name: str  # the end of the file's name

    def head(self, head: Json) -> bytes:
        """Everything but the events."""
        ...

    def events(self, events: Sequence[Json]) -> bytes:
        """Some events. Called once a step, in order."""
        ...

    def tail(self, tail: Json) -> bytes:
        """What is known only once the events were read."""
        ...


class JsonForm:
    """The document for machines: one JSON object, one event a line."""

    name = "json"

    def __init__(self) -> None:
        self._written = 0
        self._encode = msgspec.json.Encoder().encode

    def head(self, head: Json) -> bytes:
        """The object, left open at its last member."""
        return self._encode(head)[:-1] + b',"events":['

    def events(self, events: Sequence[Json]) -> bytes:
        """Members of the list."""
        lines = [self._encode(event) for event in events]
        if not lines:
            return b""
        before = b",\n" if self._written else b"\n"
        self._written += len(lines)
        return before + b",\n".join(lines)

    def tail(self, tail: Json) -> bytes:
        """Closes the list and the object."""
        return b"\n]," + self._encode(tail)[1:] + b"\n"


class AccessExport:
    """Makes the documents of a person, each form into a file of its own, in one pass."""

    def __init__(self, holdings: Holdings, files: ExportFiles, clock: Clock) -> None:
        self._holdings = holdings
        self._files = files
        self._clock = clock

    async def make(
        self, profile_id: bytes, request_id: str, forms: Sequence[Form], *, chance: str
    ) -> int | None:
        """Writes the files and returns how many events are in them; None for nobody.

        Raises:
            OSError: a file cannot be written. Nothing of it is left.
        """
        person = self._holdings.person(profile_id)
        if person is None:
            return None
        made_us = self._clock.now_us()
        head = await self._head(person, request_id, made_us)
        index, *writers = (
            self._files.writer(profile_id, request_id, name, made_us=made_us, chance=chance)
            for name in (NODES, *(form.name for form in forms))
        )
        whole = False
        try:
            await index.open()
            await index.write(b"".join(person.members))
            await index.finish()
            count = await self._write(person, head, forms, writers)
            whole = True
        finally:
            if not whole:
                for writer in (*writers, index):
                    writer.discard()
        return count

    async def _write(
        self,
        person: HeldPerson,
        head: Json,
        forms: Sequence[Form],
        writers: Sequence[ExportWriter],
    ) -> int:
        for form, writer in zip(forms, writers, strict=True):
            await writer.open()
            await writer.write(form.head(head))
        count = await self._write_events(person, forms, writers)
        for writer in writers:
            await writer.finish()
        return count

    async def _head(self, person: HeldPerson, request_id: str, made_us: int) -> Json:
        stamps = await self._stamps(person)
        holdings = self._holdings
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "made_at": isoformat(made_us),
            "request_id": request_id,
            **summary(person, stamps),
            "consent": {"now": holdings.standing(person), "records": holdings.consent(person)},
            "recipients": holdings.recipients(person),
            "requests": holdings.requests(person),
            "audiences": holdings.audiences(person),
        }

    async def _stamps(self, person: HeldPerson) -> dict[str, ConsentStamp]:
        """The stamps of the events that traits came from, as far as those are still in the log."""
        wanted = {trait.message_id for trait in person.view.traits.values()}
        found: dict[str, ConsentStamp] = {}
        after: Any | None = None
        while len(found) < len(wanted):
            step = await self._holdings.events(person, after, EVENTS_A_STEP)
            for held in step.events:
                if held.event is not None and held.event.message_id in wanted:
                    found[held.event.message_id] = held.event.stamp
            if step.next is None:
                break
            after = step.next
            await trio.lowlevel.checkpoint()
        return found

    async def _write_events(
        self, person: HeldPerson, forms: Sequence[Form], writers: Sequence[ExportWriter]
    ) -> int:
        count = expired = 0
        after: Any | None = None
        while True:
            step = await self._holdings.events(person, after, EVENTS_A_STEP)
            count += len(step.events)
            expired += sum(held.event is None for held in step.events)
            shown = [event_form(held) for held in step.events]
            for form, writer in zip(forms, writers, strict=True):
                await writer.write(form.events(shown))
            await trio.lowlevel.checkpoint()
            if step.next is None:
                break
            after = step.next
        tail = {"events_total": count, "events_expired": expired, "complete": expired == 0}
        for form, writer in zip(forms, writers, strict=True):
            await writer.write(form.tail(tail))
        return count


def summary(person: HeldPerson, stamps: Mapping[str, ConsentStamp]) -> Json:
    """Who the person is: identifiers, traits, groups, counts."""
    view = person.view
    return {
        "profile_id": person.profile_id.hex(),
        "state": person.state,
        "first_seen_at": exact_time(view.first_seen_us) if view.first_message else None,
        "last_seen_at": exact_time(view.last_seen_us) if view.last_message else None,
        "identifiers": [_identifier(one) for one in person.identifiers],
        "traits": {name: _trait(trait, stamps) for name, trait in sorted(view.traits.items())},
        "groups": [
            {"group_id": group, "last_seen_at": exact_time(seen_us)}
            for group, seen_us in sorted(view.groups.items())
        ],
        "event_counts": dict(sorted(view.event_counts.items())),
        "sources": dict(sorted(view.sources.items())),
    }


def _identifier(held: HeldIdentifier) -> Json:
    return {
        "namespace": held.identifier.namespace,
        "value": held.identifier.value,
        "first_seen_at": None if held.first_us is None else exact_time(held.first_us),
        "first_source": held.first_source,
        "shared_with_others": held.shared,
    }


def _trait(trait: TraitValue, stamps: Mapping[str, ConsentStamp]) -> Json:
    """`given_for` is None where the event that said it is past its retention."""
    stamp = stamps.get(trait.message_id)
    return {
        "value": trait.value,
        "removed": trait.value is None,
        "updated_at": exact_time(trait.event_time_us),
        "source": trait.source,
        "message_id": trait.message_id,
        "given_for": None if stamp is None else stamp_form(stamp),
    }


def event_form(held: HeldEvent) -> Json:
    """One event with what was known of consent when it came, and what became of it."""
    form: Json = {"expired": held.event is None}
    if held.event is None:
        form |= {"event": {"type": held.type, "timestamp": exact_time(held.time_us)}}
    else:
        form |= {
            "source": held.event.source,
            "event": exact_wire_form(held.event),
            "consent": stamp_form(held.event.stamp),
        }
    if held.rule:
        form["shared_device"] = {"attributed_by": held.rule}
    form["sent_to"] = [_fate(fate) for fate in held.fates]
    return form


def exact_wire_form(event: Event) -> Json:
    """The event as its sender would write it, every field and every digit of its time kept."""
    return {**event.extra, **wire_form(event), "timestamp": exact_time(event.event_time_us)}


def stamp_form(stamp: ConsentStamp) -> Json:
    """What was known about consent when an event came: the purposes that it was given for."""
    return {
        "stated": stamp.present,
        "readable": stamp.readable,
        "granted": sorted(name for name, granted in stamp.purposes.items() if granted),
        "denied": sorted(name for name, granted in stamp.purposes.items() if not granted),
        "global_privacy_control": stamp.gpc,
        "jurisdiction": stamp.jurisdiction or None,
        "regime": stamp.regime or None,
        "policy": stamp.policy or None,
        "signals": dict(stamp.signals),
    }


def _fate(fate: HeldFate) -> Json:
    return {
        "destination": fate.destination,
        "told": fate.kind,
        "state": fate.state,
        "reason": fate.reason or None,
        "at": isoformat(fate.at_us),
        "attempts": fate.attempts,
        "replay": fate.replay,
    }


def exact_time(time_us: int) -> str:
    """RFC 3339 with microseconds: what is read back is the same time."""
    return to_datetime(time_us).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
