"""The fold from the change log to the activation log: what destinations may need to hear about.

Today everything that identity decided is passed on. Audiences come in here: they will add
activations of their own between these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cdp.domain.change import CONSENTED, INTRODUCED, Activation, decode_change
from cdp.storage.fold import run_fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    import trio

    from cdp.storage.cursors import Cursors
    from cdp.storage.fold import Pace
    from cdp.storage.log import Entry, Log
    from cdp.storage.store import Batch, Store

READER: Final = "segmentation"

KEPT: Final = (INTRODUCED, CONSENTED)  # for who keeps who is whose: no destination hears of it

_encode = msgspec.msgpack.Encoder().encode


def activations_of(changes: Iterable[Entry]) -> list[bytes]:
    """The records that these changes add to the activation log, in the same order."""
    found = []
    for _, record in changes:
        change = decode_change(record)
        if change.by_erasure or change.kind in KEPT:
            continue
        other, leaf = change.other_profile_id, change.leaf
        found.append(
            _encode(Activation(change.kind, change.cause_offset, change.profile_id, other, leaf))
        )
    return found


async def run_segmentation(
    *,
    store: Store,
    changes: Log,
    activations: Log,
    cursors: Cursors,
    stopping: trio.Event,
    batch_max: int,
    pace: Pace | None = None,
) -> None:
    """Folds changes into activations until `stopping` is set; one batch, one write."""

    def step(batch: Batch, entries: list[Entry]) -> None:
        activations.append(batch, activations_of(entries))

    await run_fold(
        store=store,
        log=changes,
        cursors=cursors,
        reader=READER,
        step=step,
        publishes=[activations],
        stopping=stopping,
        batch_max=batch_max,
        pace=pace,
    )
