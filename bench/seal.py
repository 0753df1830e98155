"""Sealing and opening events, making and destroying keys, by themselves.

Estimate. AES-256-GCM on a core with AES and carry-less multiplication does about 5 GB/s, so 600
bytes take 0.12 us, making the key ready 0.12 us, a nonce 0.02 us, the look-up of the key 0.05 us.
Through the binding an event is borrowed and its sealed form copied once: 0.15 us, its context made
in Python: 0.15 us, its subject looked up: 0.05 us. Together 0.7 us warm, for sealing as for
opening. Cold, a key is read from its slot (a system call, 1 us) and unwrapped (0.4 us): 2 us. A
slot is made from 44 random bytes and one short encryption: 0.5 us, 2,000,000/s, and then it waits
for the disk together with a thousand others. Destroying is one write in place, one fdatasync and
one read: about 1 ms on a disk that takes 0.5 ms for a flush.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from bench.report import Options, Report
from cdp._matcher import Sealer
from cdp.storage.codec import SealedCodec
from cdp.storage.keyfile import open_keys
from cdp.storage.memory import MemoryStore
from cdp.storage.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdp.storage.keyfile import KeyFile

MASTER, SEED = bytes(range(32)), bytes(32)
EVENT_BYTES = 600
BATCH = 256
PEOPLE = 65_536
SLOTS = 65_536
DESTROYED = 200
EVENTS_MAX_US = 1.5


def run(options: Options) -> Report:
    """Microseconds an event, slots a second, and how long a destruction takes."""
    report = Report()
    directory = Path(tempfile.mkdtemp(dir="/var/tmp"))  # a disk: /tmp may be memory
    try:
        _slots(report, options.scaled(SLOTS, 1_024))
        _events(report, directory, options.scaled(PEOPLE, 1_024))
        _destruction(report, directory)
    finally:
        shutil.rmtree(directory)
    return report


def _slots(report: Report, count: int) -> None:
    sealer = Sealer(MASTER, 1, SEED, 1)
    spent_s = _cpu_s(lambda: sealer.make_slots(0, count))
    report.add("slots made (cpu)", count / spent_s, "1/s", goal=500_000)


def _events(report: Report, directory: Path, people: int) -> None:
    """Each person once with every key unknown, then again with every key at hand."""
    store, keys = MemoryStore(), open_keys(directory)
    vault = _vault(store, keys)
    subjects = [number.to_bytes(16, "big") for number in range(people)]
    records = [bytes([number % 251]) * EVENT_BYTES for number in range(BATCH)]
    blocks = [subjects[start : start + BATCH] for start in range(0, people, BATCH)]
    sealed = _seal(report, "new people", store, vault, blocks, records, None)
    sealed = _seal(report, "warm", store, vault, blocks, records, EVENTS_MAX_US)
    _open(report, "warm", vault, sealed, records, EVENTS_MAX_US)
    vault = _vault(store, keys)
    _open(report, "cold", vault, sealed, records, None)
    vault = _vault(store, keys)
    _seal(report, "cold", store, vault, blocks, records, None)
    keys.close()


def _seal(
    report: Report,
    name: str,
    store: MemoryStore,
    vault: Vault,
    blocks: list[list[bytes]],
    records: list[bytes],
    goal: float | None,
) -> list[list[bytes]]:
    codec, made, spent_s = SealedCodec(vault, "events"), [], 0.0
    for number, subjects in enumerate(blocks):
        batch = store.batch()
        began_s = time.thread_time()
        made.append(codec.seal(batch, number * BATCH, records[: len(subjects)], subjects))
        spent_s += time.thread_time() - began_s
        store.write(batch)
    count = sum(map(len, blocks))
    report.add(f"seal an event, {name} (cpu)", spent_s / count * 1e6, "us", goal=goal, more=False)
    return made


def _open(
    report: Report,
    name: str,
    vault: Vault,
    blocks: list[list[bytes]],
    records: list[bytes],
    goal: float | None,
) -> None:
    codec, spent_s = SealedCodec(vault, "events"), 0.0
    for number, sealed in enumerate(blocks):
        began_s = time.thread_time()
        opened = codec.open(number * BATCH, sealed)
        spent_s += time.thread_time() - began_s
        assert opened == records[: len(sealed)], "what was sealed"
    count = sum(map(len, blocks))
    report.add(f"open an event, {name} (cpu)", spent_s / count * 1e6, "us", goal=goal, more=False)


def _destruction(report: Report, directory: Path) -> None:
    """One person at a time, as erasures come; then whether the bytes are anywhere."""
    keys = open_keys(directory)
    vault = _vault(MemoryStore(), keys)
    numbers = range(0, keys.count, max(1, keys.count // DESTROYED))
    gone = keys.read(numbers)
    taken_s = sorted(_wall_s(lambda n=n: trio.run(_destroy, vault, n)) for n in numbers)
    report.add("destroy a key, median", taken_s[len(taken_s) // 2] * 1e3, "ms")
    worst_s = taken_s[-max(1, len(taken_s) // 100)]
    report.add("destroy a key, 99th percentile", worst_s * 1e3, "ms", goal=10_000, more=False)
    keys.close()
    content = b"".join(file.read_bytes() for file in directory.rglob("*") if file.is_file())
    found = sum(slot in content for slot in gone)
    report.add("destroyed keys whose bytes are found", found, "keys", goal=0, more=False)


async def _destroy(vault: Vault, number: int) -> None:
    await vault.destroy([number], trio.to_thread.run_sync)


def _vault(store: MemoryStore, keys: KeyFile) -> Vault:
    return Vault(keys, store, master=MASTER, seed=SEED)


def _cpu_s(work: Callable[[], object]) -> float:
    began_s = time.thread_time()
    work()
    return time.thread_time() - began_s


def _wall_s(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s
