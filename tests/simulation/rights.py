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
from tests.simulation.daemon import IDENTITY_KEY, IDENTITY_RULES

if TYPE_CHECKING:
    from cdp.consent.records import Record
    from tests.simulation.story import Message
    from tests.simulation.swarm import OutletOptions
    from tests.simulation.world import World

NAMER: Final = Namer(IDENTITY_KEY, IDENTITY_RULES)


def records_of(world: World) -> list[Record]:
    """The ledger, oldest first."""
    return [decode_record(row) for _, row in world.store.scan("consent")]


def nodes_of(message: Message) -> list[bytes]:
    """The identifiers that an event names itself."""
    body = message.body
    named = (("user_id", body.get("userId")), ("anonymous_id", body.get("anonymousId")))
    nodes = (NAMER.node(NAMESPACE_CODE[name], value) for name, value in named if value)
    return [node for node in nodes if node is not None]


def forbidden(
    world: World, outlet: OutletOptions, message: Message, defaults: dict[str, bool]
) -> str | None:
    """Why an attempt now would certainly be wrong; None where it may be right."""
    records = records_of(world)
    for purpose in outlet.purposes:
        why = _forbidden(records, purpose, message, defaults.get(purpose) is True)
        if why is not None:
            return f"{purpose}: {why}"
    return None


def _forbidden(records: list[Record], purpose: str, message: Message, opt_out: bool) -> str | None:
    stamp = message.stamp
    if stamp is not None and stamp.get(purpose) is not True:
        return "the event does not grant it"
    said = [one for one in records if purpose in one.said]
    if not opt_out and not any(one.said[purpose] for one in said):
        return "nobody ever granted it"
    for node in nodes_of(message):
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
    for purpose in outlet.purposes:
        said = [one.said[purpose] for one in records if purpose in one.said]
        opt_in = not all(one.get(purpose) is True for one in defaults)
        silent = message.stamp is None
        refused = (
            not silent and message.stamp is not None and message.stamp.get(purpose) is not True
        )
        if refused or not all(said) or (opt_in and (silent or not said)):
            return True
    return False


def check_ledger(world: World) -> None:
    """Every statement that changed something stands in the ledger, and nothing that nobody made."""
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
