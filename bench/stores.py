"""Stores with many profiles, made by the real folds, and kept between runs.

One is made in a few minutes and then copied for each run. It is made anew when the format of the
store or what goes into it has changed.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from cdp._matcher import Namer, Resolver
from cdp.app import identity_key, rules_json
from cdp.config import Config, load
from cdp.consent.ledger import ConsentLedger
from cdp.consent.rules import Rules
from cdp.domain.consent import Statement
from cdp.domain.event import EVENT_SCHEMA, ConsentStamp, Event, encode_event
from cdp.domain.naming import named_in_event
from cdp.identity.actor import READER as IDENTITY
from cdp.identity.actor import IdentityFold
from cdp.identity.people import People
from cdp.segmentation.actor import READER as SEGMENTATION
from cdp.segmentation.actor import activations_of
from cdp.storage.codec import SealedCodec
from cdp.storage.cursors import Cursors
from cdp.storage.keyfile import open_keys
from cdp.storage.log import Log
from cdp.storage.master import master_key
from cdp.storage.opening import open_store
from cdp.storage.store import FORMAT_VERSION
from cdp.storage.vault import Vault
from tests.crash.daemon import ENVIRON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from cdp.storage.store import Batch

CACHE = Path(__file__).resolve().parents[1] / "target" / "bench-stores"
EVENTS_PER_PERSON = 3
IDENTIFIERS_PER_PERSON = 3  # anonymous id, user id, e-mail
_CONTENT_VERSION = 2
_SEED = bytes(31) + b"\1"  # of a store that nobody's data is in
_STEP = 1_024
_START_US = 1_760_000_000_000_000


def copy_of_store(people: int, config: Path, target: Path) -> None:
    """Puts a store with that many profiles where a daemon will open it."""
    kept = CACHE / f"{people}-v{FORMAT_VERSION}.{_CONTENT_VERSION}"
    if not kept.exists():
        making = kept.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        trio.run(_make, people, load(config, ENVIRON.get), making)
        making.rename(kept)
    shutil.copytree(kept, target)


async def _make(people: int, config: Config, directory: Path) -> None:
    """The writer, the fold of identity and segmentation, one after the other."""
    store, keys = open_store(directory, _in_thread), open_keys(directory)
    vault = Vault(keys, store, master=master_key(config)[0], seed=_SEED)
    events = Log(store, "events", SealedCodec(vault, "events"))
    changes, activations = Log(store, "changes"), Log(store, "activations")
    key, rules = identity_key(config), rules_json(config.identity)
    resolver, namer = Resolver(key, rules), Namer(key, rules)
    ledger = ConsentLedger(store, vault, Rules.from_config(config), People(lambda: resolver))
    fold = IdentityFold(store, changes, resolver, key=key, fragment_cache_max=10_000, vault=vault)
    cursors = Cursors(store)
    began_s = time.monotonic()
    for some in _steps(people):
        batch = store.batch()
        _append(batch, events, ledger, namer, some)
        store.write(batch)
        events.publish()
        entries = events.read(events.head - len(some), len(some))
        batch = store.batch()
        fold.step(batch, entries)
        cursors.set(batch, IDENTITY, events.head)
        store.write(batch)
        changes.publish()
        await trio.lowlevel.checkpoint()
    await _activate(store, changes, activations, cursors)
    await store.sync()
    vault.close()
    store.close()
    print(f"made a store of {people:,} profiles in {time.monotonic() - began_s:.0f} s")


def _append(
    batch: Batch, events: Log, ledger: ConsentLedger, namer: Namer, some: list[Event]
) -> None:
    nodes = namer.nodes([named_in_event(event) for event in some])
    events.append(batch, [encode_event(event) for event in some], [its[0] for its in nodes])
    for event, its_nodes in zip(some, nodes, strict=True):
        ledger.note(batch, its_nodes, _agreed(event.event_time_us), verified=its_nodes[:1])


def _agreed(at_us: int) -> Statement:
    return Statement(
        purposes={"analytics": True},
        kind="event",
        authority="server",
        source="shop",
        at_us=at_us,
        received_at_us=at_us,
    )


async def _activate(store: Any, changes: Log, activations: Log, cursors: Cursors) -> None:
    offset = changes.start
    while entries := changes.read(offset, _STEP):
        batch = store.batch()
        activations.append(batch, activations_of(entries))
        offset = entries[-1].offset + 1
        cursors.set(batch, SEGMENTATION, offset)
        store.write(batch)
        activations.publish()
        await trio.lowlevel.checkpoint()


def _steps(people: int) -> Iterator[list[Event]]:
    records: list[Event] = []
    for person in range(people):
        records += person_events(person)
        if len(records) >= _STEP:
            yield records
            records = []
    if records:
        yield records


def person_events(person: int) -> list[Event]:
    """A page without a name, an identify that ties it to a user id and an e-mail, an order."""
    at_us = _START_US + person * 1_000_000
    device = f"{person:08x}-5d0e-4b51-9f0c-{person * 7919 % 2**48:012x}"
    user = f"customer-{person}"
    common: dict[str, Any] = {"schema": EVENT_SCHEMA, "source": "shop", "received_at_us": at_us}
    common["stamp"] = ConsentStamp(True, {"analytics": True})
    return [
        Event(
            type="page",
            message_id=f"{person}-0",
            event_time_us=at_us,
            anonymous_id=device,
            name="Home",
            **common,
        ),
        Event(
            type="identify",
            message_id=f"{person}-1",
            event_time_us=at_us + 1,
            anonymous_id=device,
            user_id=user,
            traits={"email": f"customer{person}@shop.example", "plan": "gold"},
            **common,
        ),
        Event(
            type="track",
            message_id=f"{person}-2",
            event_time_us=at_us + 2,
            user_id=user,
            event="Order Completed",
            properties={"revenue": 12.5, "currency": "EUR"},
            **common,
        ),
    ]


def _in_thread(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    return trio.to_thread.run_sync(function, *args)
