"""One flipped bit anywhere: the store is told, or nothing is lost. Never in silence."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter

import pytest
import trio

from cdp.errors import StorageError
from cdp.storage.log import Log
from cdp.storage.opening import open_store
from tests.crash.storage_writer import TINY, audit, run_in_thread, write_batch

SCALE = int(os.environ.get("CDP_CRASH_SCALE", "1"))
KINDS = ("wal", "table", "MANIFEST", "CURRENT", "acked", "format")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What a killed process left: tables, and acknowledged batches in the write-ahead log."""
    base = tmp_path_factory.mktemp("bitrot")

    async def write():
        store = open_store(base / "live", run_in_thread, TINY)
        log = Log(store, "events")
        for number in range(120):
            write_batch(store, log, number)
            await store.sync()
        shutil.copytree(base / "live", base / "killed")
        store.close()

    trio.run(write)
    return base / "killed", 119


def files_of(directory, kind):
    database = directory / "db"
    patterns = {"wal": "*.log", "table": "*.sst", "MANIFEST": "MANIFEST-*", "CURRENT": "CURRENT"}
    if kind in patterns:
        return sorted(file for file in database.glob(patterns[kind]) if file.stat().st_size)
    return [directory / kind]


def test_the_image_has_every_kind_of_file(killed):
    directory, _acked = killed
    assert all(files_of(directory, kind) for kind in KINDS)


def test_the_image_opens_whole(killed, tmp_path):
    directory, acked = killed
    shutil.copytree(directory, tmp_path / "copy")
    assert audit(tmp_path / "copy", acked) == acked


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_loses_anything_in_silence(killed, tmp_path, kind):
    directory, acked = killed
    rng = random.Random(kind)
    flips = (80 if kind in ("wal", "table") else 25) * SCALE
    outcomes = Counter()
    for flip in range(flips):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(directory, copy)
        file = rng.choice(files_of(copy, kind))
        content = bytearray(file.read_bytes())
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        content[place] ^= 1 << bit
        file.write_bytes(content)
        where = f"flip {flip}: bit {bit} of byte {place} of {len(content)} in {file.name}"
        try:
            assert audit(copy, acked) == acked, where
            outcomes["nothing lost"] += 1
        except StorageError:
            outcomes["told"] += 1
        except AssertionError as loss:
            raise AssertionError(f"{where}: {loss}") from loss
    assert sum(outcomes.values()) == flips
    if kind in ("wal", "table", "MANIFEST"):
        assert outcomes["told"] > flips // 4, outcomes
