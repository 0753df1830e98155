"""What must be true of a data directory after any number of crashes, read from its files.

Everything here opens the store itself, after the daemon has stopped, and returns what it found;
the tests say what is expected. `rebuilt` folds the event log anew from offset 0.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from cdp._matcher import Namer, Resolver
from cdp.app import identity_key, rules_json
from cdp.config import load
from cdp.consent.suppression import Suppression
from cdp.domain.event import Event, decode_event
from cdp.domain.profile import Fragment
from cdp.identity.actor import IdentityFold
from cdp.storage.codec import SealedCodec
from cdp.storage.keyfile import open_keys
from cdp.storage.log import Log
from cdp.storage.master import master_key
from cdp.storage.memory import MemoryStore
from cdp.storage.opening import open_store
from cdp.storage.vault import Vault
from tests.crash.daemon import ENVIRON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from cdp.config import Config
    from cdp.storage.store import Store
    from tests.crash.daemon import Daemon

# What identity writes. `changes` is compared record by record: its blocks depend on the batches.
FAMILIES = ("identity", "identifiers", "fragments", "timeline", "logins")
SEALED: Final = ("identifiers", "fragments")
_BATCH: Final = 777  # unlike any batch size of the daemon
_SEED: Final = bytes(32)  # nothing is sealed here


def _no_threads(function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
    raise AssertionError("nothing here syncs")


class Stored(NamedTuple):
    """A store, and the keys to what is sealed in it."""

    store: Store
    vault: Vault
    config: Config

    def items(self, family: str) -> Iterator[tuple[bytes, bytes]]:
        """The rows of a family as they were before they were sealed."""
        for key, value in self.store.items(family):
            sealed = family in SEALED
            yield key, self.vault.open_row(value, key) if sealed else value


@contextmanager
def stored(daemon: Daemon) -> Iterator[Stored]:
    """The store of a daemon that has stopped."""
    config = load(daemon.config, ENVIRON.get)
    store = open_store(daemon.data_dir, _no_threads)
    keys = open_keys(daemon.data_dir)
    try:
        yield Stored(store, Vault(keys, store, master=master_key(config)[0], seed=_SEED), config)
    finally:
        keys.close()
        store.close()


def log_of(data: Stored, family: str) -> Log:
    """A log that can be read; only events are sealed."""
    codec = SealedCodec(data.vault, family) if family == "events" else None
    return Log(data.store, family, codec)


def records(data: Stored, family: str) -> list[tuple[int, bytes]]:
    """Every record of a log with its offset."""
    log = log_of(data, family)
    found: list[tuple[int, bytes]] = []
    offset = log.start
    while entries := log.read(offset, 5_000):
        found += [(entry.offset, entry.record) for entry in entries]
        offset = entries[-1].offset + 1
    return found


def events(data: Stored) -> list[Event]:
    """Every event of the event log, in order."""
    return [decode_event(record) for _, record in records(data, "events")]


def fragments(data: Stored) -> list[Fragment]:
    """Every fragment."""
    decode = msgspec.msgpack.Decoder(Fragment).decode
    return [decode(value) for _, value in data.items("fragments")]


def digests(rows: Callable[[str], Iterable[tuple[bytes, bytes]]], changes: Log) -> dict[str, str]:
    """A hash of each family that identity writes, and of the records of its change log."""
    found = {}
    for family in FAMILIES:
        made = hashlib.sha256()
        for key, value in rows(family):
            made.update(len(key).to_bytes(4) + key + len(value).to_bytes(4) + value)
        found[family] = made.hexdigest()
    made = hashlib.sha256()
    offset = changes.start
    while entries := changes.read(offset, 5_000):
        for _, record in entries:
            made.update(len(record).to_bytes(4) + record)
        offset = entries[-1].offset + 1
    return found | {"changes": made.hexdigest()}


def kept(data: Stored) -> dict[str, str]:
    """The hashes of what the daemon left."""
    return digests(data.items, log_of(data, "changes"))


def rebuilt(data: Stored) -> dict[str, str]:
    """The hashes of what identity makes of the log from offset 0, in batches of another size."""
    key, rules = identity_key(data.config), rules_json(data.config.identity)
    memory = MemoryStore()
    changes = Log(memory, "changes")
    fold = IdentityFold(
        memory,
        changes,
        Resolver(key, rules),
        key=key,
        fragment_cache_max=1_000,
        suppression=Suppression(data.store),
        namer=Namer(key, rules),
    )
    log = log_of(data, "events")
    offset = log.start
    while entries := log.read(offset, _BATCH):
        batch = memory.batch()
        fold.step(batch, entries)
        memory.write(batch)
        changes.publish()
        offset = entries[-1].offset + 1
    return digests(memory.items, changes)
