"""What people may be used for, decided from what they said and without the daemon's code.

The records of the consent ledger are taken as what was said and in which order; that they are
those of the events is checked at the end. Where clocks or merges make it arguable what holds now,
an attempt gets the benefit of the doubt, and so does a refusal: what is called an offence is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp._matcher import Namer
from cdp.consent.records import decode_record
from cdp.domain.identifier import NAMESPACE_CODE
from tests.simulation import checkers
from tests.simulation.daemon import IDENTITY_KEY, IDENTITY_RULES
from tests.simulation.reading import vault_of

if TYPE_CHECKING:
    from cdp.consent.records import Record
    from tests.simulation.outlets import Sighting
    from tests.simulation.story import Message
    from tests.simulation.swarm import OutletOptions
    from tests.simulation.world import World

NAMER: Final = Namer(IDENTITY_KEY, IDENTITY_RULES)


def records_of(world: World) -> list[Record]:
    """The ledger, oldest first."""
    return [decode_record(row) for _, row in world.store.scan("consent")]


def nodes_of(message: Message, *, without_shared: bool = False) -> list[bytes]:
    """The identifiers that an event names itself."""
    body = message.body
    device = body.get("anonymousId")
    if without_shared and str(device).startswith("tablet-"):
        device = None
    named = (("user_id", body.get("userId")), ("anonymous_id", device))
    nodes = (NAMER.node(NAMESPACE_CODE[name], value) for name, value in named if value)
    return [node for node in nodes if node is not None]


def forbidden(
    world: World, outlet: OutletOptions, message: Message, sighting: Sighting
) -> str | None:
    """Why an attempt now would certainly be wrong; None where it may be right.

    What was done on a shared device follows the person that it is attributed to, and the device
    only where that is nobody: others have spoken for it, too.
    """
    records = records_of(world)
    is_somebodys = sighting.profile_id is not None
    nodes = nodes_of(message, without_shared=is_somebodys)
    for purpose in outlet.purposes:
        opt_out = world.consent.get(purpose) is True
        why = _forbidden(records, purpose, message.stamp, nodes, opt_out)
        if why is not None:
            return f"{purpose}: {why}"
    return None


def _forbidden(
    records: list[Record],
    purpose: str,
    stamp: dict[str, bool] | None,
    nodes: list[bytes],
    opt_out: bool,
) -> str | None:
    if stamp is not None and stamp.get(purpose) is not True:
        return "the event does not grant it"
    said = [one for one in records if purpose in one.said]
    if not opt_out and not any(one.said[purpose] for one in said):
        return "nobody ever granted it"
    for node in nodes:
        own = [one for one in said if one.node == node]
        if own and _denies_for_certain(own[-1], own, said, purpose):
            return "the person has withdrawn"
    return None


def _denies_for_certain(last: Record, own: list[Record], said: list[Record], purpose: str) -> bool:
    newest = all(last.at_us >= one.at_us for one in own)
    granted_since = any(one.said[purpose] and one.seq > last.seq for one in said)
    return not last.said[purpose] and newest and not granted_since


def justified(
    world: World, outlet: OutletOptions, message: Message, defaults: list[dict[str, bool]]
) -> bool:
    """Whether somebody, or silence, can have been a reason to refuse this delivery."""
    records = records_of(world)
    if message.message_id in excused(world):
        return True
    for purpose in outlet.purposes:
        said = [one.said[purpose] for one in records if purpose in one.said]
        opt_in = not all(one.get(purpose) is True for one in defaults)
        silent = message.stamp is None
        refused = (
            not silent and message.stamp is not None and message.stamp.get(purpose) is not True
        )
        if refused or not all(said) or (opt_in and (silent or not said)):
            return True
        if opt_in and _is_of_a_shared_device(message):
            return True
    return False


def _is_of_a_shared_device(message: Message) -> bool:
    """Whether an event names a device of several people, and nobody.

    It goes to whoever was signed in there. What was granted on the device is nobody's grant, so
    whether that person had agreed by then is not to be told from here.
    """
    names_somebody = message.body.get("userId") is not None
    return not names_somebody and str(message.body.get("anonymousId")).startswith("tablet-")


def ever_denied(world: World, outlet: OutletOptions, message: Message) -> bool:
    """Whether somebody that the event names denied what the destination needs, at any time.

    A refusal is not waited for to be on disk: a power cut may take it back, and by then the
    person may have agreed, so that the event goes after all, behind those that followed it.
    """
    nodes = nodes_of(message)
    return any(
        one.said.get(purpose) is False and one.node in nodes
        for one in records_of(world)
        for purpose in outlet.purposes
    )


def excused(world: World) -> set[str]:
    """Events that may be gone, because somebody asked to be forgotten.

    Those of the person, and those of every device on which the person was ever known: to us it is
    the person's until somebody else signs in there, and it is not told here when that was.
    """
    names = {f"user-{one}" for one in world.asked_to_erase}
    good = {one: message for one, message in world.messages.items() if message.good}
    theirs = {
        one
        for one, message in world.messages.items()
        if message.person in world.asked_to_erase
        or (message.good and message.body.get("userId") in names)
    }
    devices = {good[one].body.get("anonymousId") for one in theirs & good.keys()} - {None}
    return theirs | {
        one for one, message in good.items() if message.body.get("anonymousId") in devices
    }


def check_not_erased(
    world: World, outlet: OutletOptions, message: Message, sighting: Sighting
) -> None:
    """I10: nothing that names an erased person is sent once the erasure was on disk."""
    sealed_s = world.erased.get(-1 if message.person is None else message.person)
    is_named = message.body.get("userId") == f"user-{message.person}"
    late = sealed_s is not None and is_named and sighting.at_s > sealed_s
    world.check(not late, "I10 an erased person was sent", outlet.name, sighting, sealed_s)


def check_erased(world: World) -> None:
    """I10: of an erased person no store of ours holds anything, and every job has ended."""
    erased = {f"user-{person}": person for person in world.erased}
    for name, outlet in world.outlets.items():
        told = {
            world.messages[one.message_id].body.get("userId")
            for one in outlet.sightings
            if one.message_id in world.messages
        }
        untold = [one for one in erased if one in told and one not in outlet.forgotten]
        world.check(not untold, "I10 a destination that knows an erased person", name, untold)
    mails = {f"person{person}@shop.example" for person in world.erased}
    for event in checkers.events_of(world).values():
        gone = event.user_id not in erased and event.previous_id not in erased
        gone = gone and event.traits.get("email") not in mails
        world.check(gone, "I10 an event of an erased person can be read", event.message_id)
    vault = vault_of(world)
    for node, row in world.store.scan("identifiers"):
        value = vault.open_row(row, node)
        known = any(text.encode() in value for text in (*erased, *mails)) if value else False
        world.check(not known, "I10 an identifier of an erased person can be read", node.hex())
    for user_id in erased:
        node = NAMER.node(NAMESPACE_CODE["user_id"], user_id)
        assert node is not None, "user ids are usable"
        for family in ("identifiers", "fragments", "subjects", "standing", "timeline"):
            rows = world.store.scan(family, node, node + b"\xff" * 17)
            world.check(not rows, f"I10 {family} has a row of an erased person", user_id)


def check_ledger(world: World) -> None:
    """Every statement that changed something stands in the ledger, and nothing that nobody made."""
    if world.asked_to_erase:
        return  # records of erased people say nothing of whom they were about
    records = records_of(world)
    sent = {
        (node, purpose, granted)
        for message in world.messages.values()
        for node in nodes_of(message)
        for purpose, granted in (message.stamp or {}).items()
    }
    for record in records:
        for purpose, granted in record.said.items():
            known = (record.node, purpose, granted) in sent
            world.check(known, "a statement that nobody made is in the ledger", record.seq)
    heard = {(one.node, purpose) for one in records for purpose in one.said}
    for message_id in world.acknowledged:
        message = world.messages[message_id]
        missed = [
            (node.hex(), purpose)
            for node in nodes_of(message)
            for purpose in message.stamp or {}
            if (node, purpose) not in heard
        ]
        world.check(not missed, "what an event said about consent was not heard", missed)
