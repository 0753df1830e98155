"""The erasure ledger: chained, whole after a crash in a line, and never silently shorter."""

from __future__ import annotations

import pytest

from cdp.consent.tombstones import FileTombstones, Tombstones
from cdp.errors import StoreDamaged
from cdp.testing.world import TrioClock, run_inline

NODES = [b"a" * 16, b"b" * 16]


@pytest.fixture
async def path(tmp_path):
    ledger = open_ledger(tmp_path / "erasures.log")
    await ledger.append("01" * 16, NODES, [1, 2], suppress=True)
    await ledger.append("02" * 16, NODES[:1], [], suppress=False)
    return tmp_path / "erasures.log"


def open_ledger(path):
    return Tombstones(FileTombstones(path), TrioClock(), run_inline)


async def test_what_was_written_is_pending_for_a_store_that_knows_less(path):
    ledger = open_ledger(path)
    assert [one.seq for one in ledger.pending(0)] == [1, 2]
    first, second = ledger.pending(0)
    assert (first.node_keys(), first.slots, first.suppress) == (NODES, (1, 2), True)
    assert ledger.pending(1) == [second]
    assert ledger.pending(2) == []


async def test_an_erasure_that_is_repeated_is_written_once(path):
    ledger = open_ledger(path)
    assert await ledger.append("01" * 16, NODES, [2], suppress=True) == 1
    assert await ledger.append("01" * 16, NODES, [3], suppress=True) == 3
    assert open_ledger(path).last_seq == 3


async def test_a_line_that_was_cut_off_gives_way_to_the_next(path):
    with path.open("ab") as file:
        file.write(b'{"seq":3,"at_us"')
    ledger = open_ledger(path)
    assert ledger.last_seq == 2
    await ledger.append("03" * 16, NODES, [], suppress=True)
    assert open_ledger(path).last_seq == 3


@pytest.mark.parametrize("line", [1, 2])
async def test_any_changed_line_is_named(path, line):
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b'"seq"', b'"sex"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(StoreDamaged, match=rf"erasures\.log: line {line} "):
        open_ledger(path)


async def test_a_change_that_can_be_read_breaks_the_chain_behind_it(path):
    path.write_bytes(path.read_bytes().replace(b'"slots":[1,2]', b'"slots":[1]'))
    with pytest.raises(StoreDamaged, match="line 2"):
        open_ledger(path)


async def test_a_ledger_that_is_shorter_than_what_was_applied_is_refused(path):
    with pytest.raises(StoreDamaged, match="ends at erasure 2, but the store has applied 3"):
        open_ledger(path).pending(3)


async def test_only_its_owner_may_read_it(path):
    assert path.stat().st_mode & 0o077 == 0
