"""Ends what people are still owed: deliveries that wait, and those that were given up.

Called once nothing about them passes the gate any more. What waits would meet the gate by itself,
but maybe only in hours: a destination that is paused, is down or no longer configured makes no
attempt. Everything ends as filtered, in the books and in the history of each event, a bounded
number of rows at a time.

Here is what touches only the store, for destinations that do not run. A running one has its
deliveries in memory as well, and purges itself: see `Delivering.purge`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from cdp.delivery.flights import carries
from cdp.delivery.ledger import Ledger
from cdp.delivery.owed import (
    decode_dead,
    end_of,
    offset_of,
    owed_from_dead,
    owed_from_row,
    prefix_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cdp.delivery.owed import Owed
    from cdp.storage.store import Store

ERASED: Final = "erased"  # the reason, as the gate gives it
ROWS_STEP: Final = 512  # rows between two breaths of the event loop


def stored_names(store: Store) -> list[str]:
    """Every destination with rows in `pending` or `dead`, configured or not."""
    return sorted({name for family in ("pending", "dead") for name in _names(store, family)})


def _names(store: Store, family: str) -> Iterator[str]:
    start = b""
    while rows := store.scan(family, start, limit=1):
        name = rows[0][0][:-9].decode()
        yield name
        start = end_of(name)


async def purge_stored(
    store: Store,
    name: str,
    nodes: Collection[bytes],
    *,
    now_us: int,
    is_running: Callable[[], bool],
) -> tuple[int, bool]:
    """Ends what a destination that does not run owes these people: how many, and whether all.

    Not all where it began to run meanwhile: then nobody but its actor may write its rows.
    """
    count = 0
    for family, end in (("pending", _end_pending), ("dead", _end_dead)):
        start = prefix_of(name)
        while rows := store.scan(family, start, end_of(name), limit=ROWS_STEP):
            count += end(store, name, rows, nodes, now_us)
            start = rows[-1][0] + b"\x00"
            await trio.lowlevel.checkpoint()
            if is_running():
                return count, False
    return count, True


def _end_pending(
    store: Store,
    name: str,
    rows: list[tuple[bytes, bytes]],
    nodes: Collection[bytes],
    now_us: int,
) -> int:
    waiting = (owed_from_row(key, value, 0, 0.0) for key, value in rows)
    ended = [owed for owed in waiting if carries(owed, nodes)]
    if ended:
        batch, ledger = store.batch(), Ledger(store, name)
        for owed in ended:
            ledger.filtered(batch, owed, ERASED)
        ledger.close(batch, now_us)
        store.write(batch)
    return len(ended)


def _end_dead(
    store: Store,
    name: str,
    rows: list[tuple[bytes, bytes]],
    nodes: Collection[bytes],
    now_us: int,
) -> int:
    ended = dead_of(rows, nodes)
    if ended:
        batch, ledger = store.batch(), Ledger(store, name)
        for owed in ended:
            ledger.buried(batch, owed, ERASED)
        ledger.close(batch, now_us)
        store.write(batch)
    return len(ended)


def dead_of(rows: list[tuple[bytes, bytes]], nodes: Collection[bytes]) -> list[Owed]:
    """The dead letters among these rows that are about one of these people."""
    letters = (owed_from_dead(offset_of(key), decode_dead(value)) for key, value in rows)
    return [owed for owed in letters if carries(owed, nodes)]
