"""A process that writes numbered batches and says which ones are durable. Also: the audit.

Run as `python storage_writer.py DIRECTORY [BATCHES]`. It writes batch after batch, several before
each sync, from the number after the last that it finds, and writes the number of the last durable
one to its output, 8 bytes each. Errors of the store end it with status 3 and the error's name.
"""

from __future__ import annotations

import os
import sys
from hashlib import blake2b
from pathlib import Path

import trio

from cdp.errors import StorageError
from cdp.storage.log import Log
from cdp.storage.opening import open_store
from cdp.storage.rocks import StoreSizes
from cdp.storage.verify import verify

KIB = 1024
# Small, so that tables, log switches and compactions happen within a second.
TINY = StoreSizes(
    block_cache_bytes=1024 * KIB,
    memtables_bytes=256 * KIB,
    memtable_bytes=64 * KIB,
    wal_bytes_max=256 * KIB,
)
RECORDS = 5


async def run_in_thread(function, *args):
    return await trio.to_thread.run_sync(function, *args)


def records_of(number: int) -> list[bytes]:
    """The records of a batch: different, recomputable, hard to compress."""
    return [
        b"%08d.%d." % (number, part)
        + b"".join(blake2b(b"%d %d %d" % (number, part, i)).digest() for i in range(6))
        for part in range(RECORDS)
    ]


def key_of(number: int) -> bytes:
    return blake2b(b"%d" % number, digest_size=16).digest()


def write_batch(store, log: Log, number: int) -> None:
    batch = store.batch()
    log.append(batch, records_of(number))
    batch.put("seen", key_of(number), number.to_bytes(8, "big"))
    batch.put("meta", b"last", number.to_bytes(8, "big"))
    store.write(batch)
    log.publish()


def last_of(store) -> int:
    value = store.get("meta", b"last")
    return int.from_bytes(value, "big") if value else -1


def audit(directory: Path, acked: int) -> int:
    """Opens the store, checks that it is a whole prefix that holds `acked`; returns the last batch.

    Raises:
        StorageError: the store says that it is damaged.
        AssertionError: it does not say so, and is.
    """
    store = open_store(directory, run_in_thread, TINY)
    try:
        last = last_of(store)
        assert last >= acked, f"batches {last + 1} to {acked} were acknowledged and are gone"
        log, offset, found = Log(store, "events"), 0, []
        while entries := log.read(offset, 1000):
            found += [entry.record for entry in entries]
            offset = entries[-1].offset + 1
        expected = [record for number in range(last + 1) for record in records_of(number)]
        assert found == expected, "the event log is not the prefix that the cursor names"
        seen = dict(store.items("seen"))
        assert seen == {key_of(n): n.to_bytes(8, "big") for n in range(last + 1)}
        assert verify(store) == []
        return last
    finally:
        store.close()


async def write_on(directory: Path, batches: int) -> None:
    store = open_store(directory, run_in_thread, TINY)
    log = Log(store, "events")
    first = last_of(store) + 1
    for number in range(first, first + batches):
        write_batch(store, log, number)
        if number % 3 == 0:
            await store.sync()
            os.write(1, number.to_bytes(8, "big"))
    store.close()
    os.write(1, (first + batches - 1).to_bytes(8, "big"))


def main() -> int:
    directory, batches = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10**9
    try:
        trio.run(write_on, directory, batches)
    except StorageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
