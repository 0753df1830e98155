"""Today every decision of identity is passed on, in order, once."""

from __future__ import annotations

import trio

from cdp.domain.change import MERGED, RESOLVED, Activation, Change, decode_activation, encode
from cdp.segmentation.actor import activations_of, run_segmentation
from cdp.storage.cursors import Cursors
from cdp.storage.log import Entry, Log
from cdp.storage.memory import MemoryStore

ONE, TWO, LEAF = b"1" * 16, b"2" * 16, b"L" * 16


def test_a_change_becomes_an_activation_with_its_leaf():
    changes = [
        Entry(5, encode(Change(RESOLVED, 9, ONE, LEAF))),
        Entry(6, encode(Change(MERGED, 9, ONE, b"", TWO))),
    ]
    assert [decode_activation(record) for record in activations_of(changes)] == [
        Activation(RESOLVED, 9, ONE, b"", LEAF),
        Activation(MERGED, 9, ONE, TWO),
    ]


async def test_every_change_is_passed_on_once_over_a_restart(autojump_clock):
    store = MemoryStore()

    def append(first: int, count: int) -> None:
        log, batch = Log(store, "changes"), store.batch()
        rows = [encode(Change(RESOLVED, first + n, ONE, LEAF)) for n in range(count)]
        log.append(batch, rows)
        store.write(batch)

    async def fold_for(seconds: float) -> None:
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:

            async def fold() -> None:
                await run_segmentation(
                    store=store,
                    changes=Log(store, "changes"),
                    activations=Log(store, "activations"),
                    cursors=Cursors(store),
                    stopping=stopping,
                    batch_max=100,
                )

            nursery.start_soon(fold)
            await trio.sleep(seconds)
            stopping.set()

    append(0, 700)
    await fold_for(1)
    append(700, 300)
    await fold_for(1)
    entries = Log(store, "activations").read(0, 10_000)
    assert [decode_activation(entry.record).cause_offset for entry in entries] == list(range(1000))
