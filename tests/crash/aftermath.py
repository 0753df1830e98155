"""What must be true of a data directory after any number of crashes, read from its files.

Everything here opens the store itself, after the daemon has stopped, and returns what it found;
the tests say what is expected. `rebuilt` folds the event log anew from offset 0.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from cdp._matcher import Resolver
from cdp.app import identity_key, rules_json
from cdp.config import load
from cdp.domain.event import Event, decode_event
from cdp.domain.profile import Fragment
from cdp.identity.actor import IdentityFold
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.storage.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from cdp.storage.store import Store

# What identity writes. `changes` is compared record by record: its blocks depend on the batches.
FAMILIES = ("identity", "identifiers", "fragments", "timeline", "logins")
_BATCH = 777  # unlike any batch size of the daemon


def _no_threads(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    raise AssertionError("nothing here syncs")


@contextmanager
def stored(data_dir: Path) -> Iterator[Store]:
    """The store of a daemon that has stopped."""
    store = open_store(data_dir, _no_threads)
    try:
        yield store
    finally:
        store.close()


def records(store: Store, family: str) -> list[tuple[int, bytes]]:
    """Every record of a log with its offset."""
    log = Log(store, family)
    found: list[tuple[int, bytes]] = []
    offset = log.start
    while entries := log.read(offset, 5_000):
        found += [(entry.offset, entry.record) for entry in entries]
        offset = entries[-1].offset + 1
    return found


def events(store: Store) -> list[Event]:
    """Every event of the event log, in order."""
    return [decode_event(record) for _, record in records(store, "events")]


def fragments(store: Store) -> list[Fragment]:
    """Every fragment."""
    decode = msgspec.msgpack.Decoder(Fragment).decode
    return [decode(value) for _, value in store.items("fragments")]


def digests(store: Store) -> dict[str, str]:
    """A hash of each family that identity writes, and of the records of its change log."""
    found = {}
    for family in FAMILIES:
        made = hashlib.sha256()
        for key, value in store.items(family):
            made.update(len(key).to_bytes(4) + key + len(value).to_bytes(4) + value)
        found[family] = made.hexdigest()
    changes = hashlib.sha256()
    for _, record in records(store, "changes"):
        changes.update(len(record).to_bytes(4) + record)
    return found | {"changes": changes.hexdigest()}


def rebuilt(store: Store, config_path: Path, environ: dict[str, str]) -> MemoryStore:
    """What the identity fold makes of the event log from offset 0, in batches of another size."""
    config = load(config_path, environ.get)
    key = identity_key(config)
    memory = MemoryStore()
    changes = Log(memory, "changes")
    resolver = Resolver(key, rules_json(config.identity))
    fold = IdentityFold(memory, changes, resolver, key=key, fragment_cache_max=1_000)
    log = Log(store, "events")
    offset = log.start
    while entries := log.read(offset, _BATCH):
        batch = memory.batch()
        fold.step(batch, entries)
        memory.write(batch)
        changes.publish()
        offset = entries[-1].offset + 1
    return memory
