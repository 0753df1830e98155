"""Both stores, for the tests of the contract that they share."""

from __future__ import annotations

import pytest
import trio

from cdp.storage.memory import MemoryStore
from cdp.storage.opening import open_store
from cdp.storage.rocks import MIB, StoreSizes

SMALL = StoreSizes(
    block_cache_bytes=MIB, memtables_bytes=8 * MIB, memtable_bytes=MIB, wal_bytes_max=8 * MIB
)


async def run_in_thread(function, *args):
    return await trio.to_thread.run_sync(function, *args)


@pytest.fixture(params=["memory", "rocks"])
def store(request, tmp_path):
    opened = MemoryStore() if request.param == "memory" else open_rocks(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def rocks(tmp_path):
    opened = open_rocks(tmp_path / "data")
    yield opened
    opened.close()


def open_rocks(path):
    return open_store(path, run_in_thread, SMALL)
