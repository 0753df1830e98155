"""The file destination keeps the contract, and its files are whole and hold each line once."""

from __future__ import annotations

import errno
import json
import os
import sqlite3

import pyarrow.parquet as pq
import pytest
import trio
from cdp_destination_file import File, FileSettings
from cdp_destination_file.archive import Archive

from cdp.delivery import Delivered, Retry
from cdp.testing import check_destination, make_change, make_delivery, open_destination


def finished(directory):
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def lines_of(directory):
    paths = [*finished(directory), *sorted(directory.glob(".part-*"))]
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def ids_of(directory):
    return [line["deliveryId"] for line in lines_of(directory)]


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
async def test_the_contract_holds(autojump_clock, tmp_path, format_):
    settings = FileSettings(directory=tmp_path / "out", format=format_, rotate_bytes=2_000)
    held = await check_destination(File, settings)
    assert len(held) == 20


async def test_a_line_is_what_was_delivered(autojump_clock, tmp_path):
    async with open_destination(File, FileSettings(directory=tmp_path)) as file:
        delivery = make_delivery(1)
        await file.deliver([delivery, make_change("merged", 2)])
    first, second = lines_of(tmp_path)
    assert first == {
        "deliveryId": delivery.delivery_id,
        "kind": "event",
        "profileId": delivery.profile_id,
        "event": delivery.event,
    }
    assert (second["kind"], "event" in second) == ("merged", False)


async def test_a_delivery_id_is_written_once_over_restarts_and_rotations(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path, rotate_bytes=1_500)
    batch = [make_delivery(number) for number in range(20)]
    for part in (batch[:7], batch[3:12], batch, batch + batch[:1]):
        async with open_destination(File, settings) as file:
            assert await file.deliver(part) == [Delivered()] * len(part)
    assert sorted(ids_of(tmp_path)) == sorted(one.delivery_id for one in batch)
    assert len(finished(tmp_path)) >= 3


async def test_a_file_is_finished_by_age_without_any_traffic(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path, rotate_age_s=60.0)
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
        await trio.sleep(59)
        await file.tick()
        assert finished(tmp_path) == []
        await trio.sleep(1)
        await file.tick()
        (path,) = finished(tmp_path)
        assert path.name == "events-20250615T150740Z-00000001.jsonl"
        await trio.sleep(600)
        await file.tick()
        assert len(finished(tmp_path)) == 1


async def test_half_a_line_after_a_crash_is_cut_off_and_written_again(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path)
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
    (part,) = tmp_path.glob(".part-*")
    with part.open("ab") as torn:
        torn.write(b'{"deliveryId":"00')
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1), make_delivery(2)])
    assert ids_of(tmp_path) == [make_delivery(n).delivery_id for n in (1, 2)]


async def test_lines_that_the_index_lost_are_not_written_again(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path)
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
    for index in tmp_path.glob(".delivered.sqlite*"):
        index.unlink()
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
    assert ids_of(tmp_path) == [make_delivery(1).delivery_id]


async def test_a_crash_between_a_finished_file_and_its_part_repeats_nothing(
    autojump_clock, tmp_path, monkeypatch
):
    settings = FileSettings(directory=tmp_path, format="parquet", rotate_age_s=1.0)

    def crash(path, missing_ok=False):
        raise KeyboardInterrupt

    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
        await trio.sleep(2)
        with monkeypatch.context() as patch:
            patch.setattr("pathlib.Path.unlink", crash)
            with pytest.raises(KeyboardInterrupt):
                await file.tick()
    assert len(list(tmp_path.glob(".part-*"))) == 1
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1), make_delivery(2)])
        await trio.sleep(2)
        await file.tick()
    tables = [pq.read_table(path) for path in finished(tmp_path)]
    assert [table.num_rows for table in tables] == [1, 1]


async def test_parquet_has_columns_and_the_whole_event(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path, format="parquet", rotate_bytes=1)
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1, event={"userId": 5}), make_change("merged", 2)])
    (path,) = finished(tmp_path)
    first, second = pq.read_table(path).to_pylist()
    assert (first["message_id"], first["user_id"]) == ("message-1", "5")
    assert json.loads(first["body"])["properties"]["orderId"] == "o-1"
    assert (second["kind"], second["body"]) == ("merged", None)
    assert second["other_profile_id"] == f"{902:032x}"


async def test_a_full_disk_is_tried_again_and_leaves_no_half_line(
    autojump_clock, tmp_path, monkeypatch
):
    settings = FileSettings(directory=tmp_path)
    real = os.write

    def full(file, content):
        real(file, bytes(content[:10]))
        raise OSError(errno.ENOSPC, "no space left")

    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            outcomes = await file.deliver([make_delivery(2)])
        assert outcomes == [Retry(f"disk:{errno.ENOSPC}")]
        assert await file.deliver([make_delivery(2)]) == [Delivered()]
    assert ids_of(tmp_path) == [make_delivery(n).delivery_id for n in (1, 2)]


async def test_an_index_that_fails_leaves_no_line_that_it_does_not_know(
    autojump_clock, tmp_path, monkeypatch
):
    def broken(self, ids, now_us):
        raise sqlite3.OperationalError("disk I/O error")

    async with open_destination(File, FileSettings(directory=tmp_path)) as file:
        with monkeypatch.context() as patch:
            patch.setattr(Archive, "_remember", broken)
            assert await file.deliver([make_delivery(1)]) == [Retry(f"disk:{errno.EIO}")]
        assert ids_of(tmp_path) == []
        assert await file.deliver([make_delivery(1)]) == [Delivered()]
    assert ids_of(tmp_path) == [make_delivery(1).delivery_id]


async def test_a_directory_has_one_writer(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path)
    async with open_destination(File, settings):
        with pytest.raises(OSError, match="perhaps another daemon has it"):
            async with open_destination(File, settings):
                pass


async def test_ids_are_forgotten_after_the_time_they_are_remembered(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path, rotate_bytes=1, remember_days=1.0)
    async with open_destination(File, settings) as file:
        await file.deliver([make_delivery(1)])
        await trio.sleep(50_000)
        await file.deliver([make_delivery(1)])
        assert len(ids_of(tmp_path)) == 1
        await trio.sleep(50_000)
        await file.deliver([make_delivery(2)])
        await file.deliver([make_delivery(1)])
    assert len(ids_of(tmp_path)) == 3
