"""The invariants of ARCHITECTURE.md as questions to a world: while it runs, and at its end.

What the daemon says about itself is compared with what the world knows: which messages were
answered, what each carried, what every service saw. The numbers are those of the invariants.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from cdp.consent.requests import ENDED
from cdp.delivery.backlog import reader_of
from cdp.delivery.ledger import read_books
from cdp.delivery.outcomes import explain_event
from cdp.delivery.owed import end_of, prefix_of
from cdp.domain.event import Event, decode_event
from cdp.ingestion.accounts import read_counts
from cdp.ingestion.rejected import list_rejected
from cdp.storage.log import Cursors, Log
from cdp.storage.verify import verify
from tests.simulation import refold, rights
from tests.simulation.reading import log_of, vault_of

if TYPE_CHECKING:
    from cdp.storage.log import Entry
    from tests.simulation.outlets import Sighting
    from tests.simulation.senders import Answer
    from tests.simulation.story import Message
    from tests.simulation.swarm import OutletOptions
    from tests.simulation.world import World

CONSENT_REASONS = frozenset(
    {"denied", "not_in_stamp", "withdrawn", "no_grant", "granted_later", "suppressed", "erased"}
)


def entries_of(world: World, family: str) -> list[Entry]:
    """Every record of a log, as it is on the disk now."""
    log = log_of(world, family)
    return log.read(log.start, log.head + 1)


def events_of(world: World) -> dict[int, Event]:
    """The stored events by their offsets, but for those of erased people."""
    entries = entries_of(world, "events")
    return {offset: decode_event(record) for offset, record in entries if record}


# -- while it runs --------------------------------------------------------------------------------


def check_answer(world: World, messages: list[Message], answer: Answer) -> None:
    """A 200 accounts for every event of its request: accepted, duplicate or rejected."""
    body = answer.body
    rejected = [row["index"] for row in body.get("rejected", [])]
    bad = [index for index, message in enumerate(messages) if not message.good]
    world.check(rejected == bad, "I9 the answer rejects other events than the bad ones", body, bad)
    counted = body["accepted"] + body["duplicates"] + len(rejected)
    world.check(counted == len(messages), "I9 the answer does not account for every event", body)


def check_attempt(world: World, outlet: OutletOptions, sighting: Sighting) -> None:
    """I8, I9: consent holds at this moment; one id a delivery; nothing again that was taken."""
    message = world.messages.get(sighting.message_id or "")
    if message is None:
        world.check(
            sighting.message_id is None, "an event that nobody sent was delivered", sighting
        )
        return
    rights.check_not_erased(world, outlet, message, sighting)
    why = rights.forbidden(world, outlet, message, sighting)
    world.check(why is None, "I8 an attempt without consent", outlet.name, sighting, why)
    known = world.delivery_ids.setdefault((outlet.name, sighting.message_id), sighting.delivery_id)
    world.check(known == sighting.delivery_id, "I9 one delivery under two ids", known, sighting)
    place = (outlet.name, sighting.delivery_id)
    if outlet.name not in world.replayed:
        again = world.taken_in.get(place) == sighting.process
        world.check(not again, "I9 delivered again after the service had taken it", sighting)


def check_kept(world: World) -> None:
    """I1: what was answered 200 is there after a crash, and not only because it is sent again.

    And the store would be opened: no block of a log is missing or changed.
    """
    damaged = verify(world.store)
    world.check(not damaged, "I1 the store would be refused as damaged", damaged)
    stored = {event.message_id for event in events_of(world).values()}
    stored |= rights.excused(world)
    lost = [message_id for message_id in world.acknowledged if message_id not in stored]
    world.check(not lost, "I1 an acknowledged event is lost", lost)
    told = {s.message_id for outlet in world.outlets.values() for s in outlet.sightings if s.effect}
    unheard = sorted(one for one in told if one is not None and one not in stored)
    world.check(not unheard, "I3 an event was delivered before it was on disk", unheard)


def check_books(world: World, when: str) -> None:
    """I9: the conservation law, and the counters against what they count."""
    store, cursors = world.store, Cursors(world.store)
    activations = [offset for offset, _ in entries_of(world, "activations")]
    for name in world.outlets:
        books = read_books(store, name)
        law = books.live.holds() and books.replay.holds()
        world.check(law, f"I9 the conservation law is broken {when}", name, books)
        start, end = prefix_of(name), end_of(name)
        waiting = len(store.scan("pending", start, end))
        counted = books.live.pending + books.replay.pending
        world.check(waiting == counted, f"I9 pending is miscounted {when}", name, waiting, books)
        buried = len(store.scan("dead", start, end))
        counted = books.live.dead + books.replay.dead
        world.check(
            buried == counted, f"I9 dead letters are miscounted {when}", name, buried, books
        )
        cursor = cursors.get(reader_of(name))
        passed = sum(offset < cursor for offset in activations)
        world.check(
            passed == books.live.offered,
            f"I9 offered is not what the cursor passed {when}",
            name,
            passed,
            cursor,
            books,
        )
    world.record("books", when, len(activations))


# -- whether it has come to rest ------------------------------------------------------------------


def what_is_open(world: World) -> dict[str, Any]:
    """How far every reader is behind, and what waits."""
    store, cursors = world.store, Cursors(world.store)
    heads = {name: Log(store, name).head for name in ("events", "changes", "activations")}
    found: dict[str, Any] = {"identity": heads["events"] - cursors.get("identity")}
    found["segmentation"] = heads["changes"] - cursors.get("segmentation")
    for name in world.outlets:
        found[name] = heads["activations"] - cursors.get(reader_of(name))
        found[f"pending {name}"] = len(store.scan("pending", prefix_of(name), end_of(name)))
        replaying = store.get("meta", b"replay:" + name.encode()) is not None
        found[f"replay {name}"] = int(replaying)
    requests = [msgspec.msgpack.decode(row) for _, row in store.scan("requests")]
    found["requests"] = sum(one["state"] not in ENDED for one in requests)
    found["erasures"] = len(world.asked_to_erase - world.erased.keys())
    return {what: count for what, count in found.items() if count}


def is_quiet(world: World) -> bool:
    """Whether nothing is owed any more."""
    return not what_is_open(world)


# -- at the end -----------------------------------------------------------------------------------


def check_end(world: World) -> None:
    """Everything that must hold once the world has come to rest."""
    events = events_of(world)
    offsets = {event.message_id: offset for offset, event in events.items()}
    check_books(world, "at the end")
    _check_stored(world, events)
    _check_source_counts(world, events)
    for name in world.outlets:
        ends = _check_ends(world, name, events)
        _check_order(world, name, offsets, ends)
    rights.check_ledger(world)
    rights.check_erased(world)
    if not world.asked_to_erase:  # a shared device remembers that it was, after one has gone
        refold.check_identity(world, entries_of(world, "events"), events)
    world.record("end", tuple(offsets), len(world.offences))


def _check_stored(world: World, events: dict[int, Event]) -> None:
    times = Counter(event.message_id for event in events.values())
    excused = rights.excused(world)
    for message_id, answered_s in world.acknowledged.items():
        kept = message_id in times or message_id in excused
        world.check(kept, "I1 an acknowledged event is lost", message_id, answered_s)
    twice = [message_id for message_id, count in times.items() if count > 1]
    world.check(not twice, "I2 an event is stored twice", twice)
    for event in events.values():
        message = world.messages.get(event.message_id)
        known = message is not None and message.good
        world.check(known, "an event that nobody sent is stored", event.message_id)
        if known:
            _check_content(world, event, message.body)


def _check_content(world: World, event: Event, body: dict[str, Any]) -> None:
    same = (
        event.type == body["type"]
        and event.user_id == body.get("userId")
        and event.anonymous_id == body.get("anonymousId")
        and event.previous_id == body.get("previousId")
        and event.properties == body.get("properties", {})
        and event.traits == body.get("traits", {})
    )
    world.check(same, "an event is stored otherwise than it was sent", event.message_id)


def _check_source_counts(world: World, events: dict[int, Event]) -> None:
    stored = Counter(event.source for event in events.values())
    vault = vault_of(world)
    rows = [row.event for row in list_rejected(world.store, limit=10**6, vault=vault)]
    kept = Counter(row.source for row in rows)
    for source in ("source0", "source1"):
        counts = read_counts(world.store, source)
        right = (counts.accepted, counts.rejected) == (stored[source], kept[source])
        if world.asked_to_erase:  # what was erased was counted, and cannot be read any more
            right = counts.accepted >= stored[source] and counts.rejected >= kept[source]
        world.check(right, "I9 the counts of a source are off", source, counts, stored, kept)
    ids = {row.message_id for row in rows} | {event.message_id for event in events.values()}
    ids |= {one for one in world.turned_down if world.asked_to_erase}
    gone = [message_id for message_id in world.turned_down if message_id not in ids]
    world.check(not gone, "a rejected event is neither kept nor repaired", gone)


def _check_ends(world: World, name: str, events: dict[int, Event]) -> dict[str, str]:
    """I9: each delivery ended once, truthfully. Returns how, by message id."""
    outlet = world.outlets[name]
    effects = {s.message_id for s in outlet.sightings if s.effect}
    ends: dict[str, str] = {}
    for offset, event in events.items():
        told = [
            one
            for one in explain_event(world.store, offset)
            if one.destination == name and one.kind == "event" and not one.replay
        ]
        states = Counter(one.state for one in told)
        ended = states["delivered"] + states["filtered"] + states["dead"] - states["redriven"]
        world.check(
            ended == 1, "I9 a delivery did not end exactly once", name, event.message_id, told
        )
        if told and ended == 1:
            last = told[-1]
            ends[event.message_id] = "dead" if states["dead"] else last.state
            _check_end_is_true(world, name, event.message_id, last, effects)
    return ends


def _check_end_is_true(
    world: World, name: str, message_id: str, last: Any, effects: set[str | None]
) -> None:
    outlet, message = world.outlets[name], world.messages[message_id]
    where = (name, message_id, last)
    if last.state == "delivered":
        world.check(message_id in effects, "I9 counted as delivered, and never arrived", *where)
    elif last.state == "filtered":
        world.check(last.reason in CONSENT_REASONS, "I9 filtered for no reason", *where)
        configured = [dict(world.options.consent_before), dict(world.options.consent_after)]
        refused = rights.justified(world, outlet.options, message, configured)
        world.check(refused, "I9 filtered though consent held", *where)
    elif last.state == "dead":
        spent = last.attempts >= world.options.attempts_max
        world.check(spent or outlet.poisonous(message_id), "I9 given up too early", *where)


def _check_order(world: World, name: str, offsets: dict[str, int], ends: dict[str, str]) -> None:
    """I3: the first time that each delivery of a profile took effect, in log order."""
    latest: dict[str, tuple[int, str]] = defaultdict(lambda: (-1, ""))
    seen: set[str] = set()
    for sighting in world.outlets[name].sightings:
        message_id = sighting.message_id
        if not sighting.effect or message_id is None or message_id in seen:
            continue
        seen.add(message_id)
        # What died and was redriven, or passes the gate only in a replay, comes late by design.
        if ends.get(message_id) != "delivered" or sighting.profile_id is None:
            continue
        outlet = world.outlets[name].options
        if rights.ever_denied(world, outlet, world.messages[message_id]):
            continue
        offset = offsets.get(message_id, -1)
        before, other = latest[sighting.profile_id]
        world.check(
            offset > before,
            "I3 a profile's deliveries are out of order",
            name,
            sighting,
            offset,
            before,
            other,
        )
        latest[sighting.profile_id] = max((before, other), (offset, message_id))
