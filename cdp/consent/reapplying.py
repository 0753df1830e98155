"""Erases again in a store, or a key file, that was restored from before an erasure.

The erasure ledger tells whom. It runs at every start before anything is let in; mostly there is
nothing to do. What is in the restored store of a person lies under keys that the key file has lost
already, unless that was restored, too; rows, files and memory are cleared as in the first erasure.
A key file that was restored alone has keys that the ledger says are destroyed: they are again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from cdp.consent.erasure_steps import NODES_IN_BATCH
from cdp.consent.requests import RequestUnknown
from cdp.consent.suppression import FOR_GOOD
from cdp.consent.tombstones import applied_seq, note_applied

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.consent.erasure_steps import LocalSteps
    from cdp.consent.tombstones import Tombstone
    from cdp.storage.store import Batch

ACTOR: Final = "start"
HOLDER: Final = b"reapply"
SLOT_NUMBER_BYTES: Final = 8
SCANNED_ROWS: Final = 5_000


async def reapply(steps: LocalSteps) -> int:
    """Applies the erasures that the store, or the key file, does not know of; how many those were.

    Identity must be running, or this waits for it. Safe to repeat after a kill.

    Raises:
        StoreDamaged: the ledger is shorter than what the store has applied.
    """
    house = steps.house
    pending = house.tombstones.pending(applied_seq(house.store))
    revived = await _revived(steps, house.tombstones.lines[: -len(pending) or None])
    for one, slots in revived:
        await steps.destroy(slots)
        with steps.book.change() as batch:
            _note(steps, batch, one, keys=len(slots))
    if not pending and not revived:
        return 0
    for one in pending:  # all of them first: nobody may come in meanwhile
        _suppress(steps, one)
    await house.store.sync()
    await steps.ready()
    for one in pending:
        await _erase_again(steps, one)
    return len(revived) + len(pending)


def _suppress(steps: LocalSteps, one: Tombstone) -> None:
    house, nodes = steps.house, one.node_keys()
    holder = FOR_GOOD if one.suppress else HOLDER
    with steps.book.change() as batch:
        house.suppression.add(batch, nodes, reason="erasure", now_us=one.at_us, holders=[holder])
    house.ledger.suppressed(nodes)


async def _erase_again(steps: LocalSteps, one: Tombstone) -> None:
    house, nodes = steps.house, one.node_keys()
    if one.erase:
        await _shred_and_purge(steps, one)
    with steps.book.change() as batch:
        house.suppression.release(batch, nodes, HOLDER, *_spent(steps, one))
        note_applied(house.store, batch, one.seq)
        _note(steps, batch, one, keys=len(one.slots))
    if not house.suppression.nodes.issuperset(nodes):
        house.ledger.suppressed(nodes)
    await house.store.sync()


def _spent(steps: LocalSteps, one: Tombstone) -> list[bytes]:
    """The holder that will not let go by itself: a request that knows nobody any more."""
    try:
        request = steps.book.get(one.request)
    except RequestUnknown:
        return []
    return [] if steps.book.secret(request) is not None else [request.id]


def _note(steps: LocalSteps, batch: Batch, one: Tombstone, *, keys: int) -> None:
    steps.house.audit.add(
        batch,
        actor=ACTOR,
        action="erasure_reapplied",
        object=bytes.fromhex(one.request),
        details={"tombstone": one.seq, "identifiers": len(one.nodes), "keys": keys},
    )


async def _revived(
    steps: LocalSteps, applied: Sequence[Tombstone]
) -> list[tuple[Tombstone, list[int]]]:
    """Erasures that the store knows of and whose keys are there, with those keys."""
    listed = sorted({slot for one in applied if one.erase for slot in one.slots})
    there = set(await _orphans(steps, listed, set()))
    found = [(one, sorted(there.intersection(one.slots))) for one in applied] if there else []
    return [(one, slots) for one, slots in found if slots]


async def _shred_and_purge(steps: LocalSteps, one: Tombstone) -> None:
    nodes = one.node_keys()
    identifiers = list(await steps.holders.identifiers_of(nodes))
    await steps.forget_messages(nodes)
    await steps.destroy(await steps.slots(nodes))
    await steps.destroy(await _orphans(steps, one.slots, set(nodes)))
    await steps.delete_held(nodes, identifiers)
    for first in range(0, len(nodes), NODES_IN_BATCH):
        with steps.book.change() as batch:
            steps.delete_rows(batch, nodes[first : first + NODES_IN_BATCH])


async def _orphans(steps: LocalSteps, listed: Sequence[int], nodes: set[bytes]) -> list[int]:
    """Keys of an erasure that are there, and nobody's but these people's.

    A number may be others' after store and key file had been restored together: from a row of
    `subjects`, or because this process made it.
    """
    there = await steps.live([slot for slot in listed if slot < steps.slots_before])
    return sorted(set(there) - await _owned(steps, set(there), nodes)) if there else []


async def _owned(steps: LocalSteps, slots: set[int], nodes: set[bytes]) -> set[int]:
    """Which of these keys are others'. Reads all keys' rows, so it is asked seldom."""
    found: set[int] = set()
    start = b""
    while rows := steps.house.store.scan("subjects", start, limit=SCANNED_ROWS):
        for subject, value in rows:
            if subject not in nodes:
                found |= slots.intersection(_slots_in(value))
        start = rows[-1][0] + b"\x00"
        await trio.lowlevel.checkpoint()
    return found


def _slots_in(row: bytes) -> list[int]:
    return [
        int.from_bytes(row[start : start + SLOT_NUMBER_BYTES], "big")
        for start in range(0, len(row), SLOT_NUMBER_BYTES)
    ]
