"""A person is taken out of every file, whole and alone, and what is written meanwhile is kept."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import trio
from cdp_destination_file import ERASE_US_MAX, File, FileSettings
from cdp_destination_file.person import Person

from cdp.delivery import Delivered, Erased, ErasureRetry
from cdp.testing import make_change, make_delivery, make_erasure, open_destination

BATCH = [make_delivery(number) for number in range(40)]
ERASURE = make_erasure(3)  # the person of every tenth delivery


def is_theirs(delivery):
    return delivery.profile_id in ERASURE.profile_ids


def ids_in(directory):
    found = []
    for path in sorted(directory.iterdir()):
        if path.suffix == ".parquet":
            found += pq.read_table(path).column("delivery_id").to_pylist()
        elif path.suffix == ".jsonl":
            found += [json.loads(line)["deliveryId"] for line in path.read_bytes().splitlines()]
    return sorted(found)


OTHERS = sorted(one.delivery_id for one in BATCH if not is_theirs(one))


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
async def test_a_person_is_gone_from_finished_and_unfinished_files(
    autojump_clock, tmp_path, format_
):
    settings = FileSettings(directory=tmp_path, format=format_, rotate_bytes=6_000)
    async with open_destination(File, settings) as file:
        for start in range(0, 40, 5):
            await file.deliver(BATCH[start : start + 5])
        outcome = await file.erase(ERASURE)
        assert isinstance(outcome, Erased)
        assert outcome.evidence is not None
        assert outcome.evidence.startswith("4 lines removed from ")
        assert ids_in(tmp_path) == OTHERS
        files = [path for path in tmp_path.iterdir() if path.suffix in (".jsonl", ".parquet")]
        assert len(files) > 2
        again = await file.erase(ERASURE)
        assert isinstance(again, Erased)
        assert again.evidence is not None
        assert again.evidence.startswith("0 lines removed from 0 of ")
        assert await file.deliver([make_delivery(41)]) == [Delivered()]
    left = b"".join(path.read_bytes() for path in files if path.suffix == ".jsonl")
    assert b'"user-3"' not in left
    async with open_destination(File, settings) as file:  # and it can be opened again
        await file.deliver([make_delivery(41), make_delivery(42)])
    assert ids_in(tmp_path) == sorted(
        [*OTHERS, *(make_delivery(number).delivery_id for number in (41, 42))]
    )


async def test_lines_that_are_written_beside_an_erasure_are_kept(autojump_clock, tmp_path):
    settings = FileSettings(directory=tmp_path, rotate_bytes=4_000)
    async with open_destination(File, settings) as file:
        await file.deliver(BATCH[:20])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.erase, ERASURE)
            for one in BATCH[20:]:
                if not is_theirs(one):
                    nursery.start_soon(file.deliver, [one])
            nursery.start_soon(file.tick)
        assert ids_in(tmp_path) == OTHERS


@pytest.mark.parametrize(
    ("identifier", "event", "theirs"),
    [
        (("user_id", "u-1"), {"userId": "u-1"}, True),
        (("user_id", "u-1"), {"previousId": "u-1"}, True),
        (("user_id", "17"), {"userId": 17}, True),
        (("user_id", "17"), {"properties": {"quantity": 17, "orderId": "17"}}, False),
        (("anonymous_id", "d-1"), {"anonymousId": "d-1"}, True),
        (("email", "Ann@Example.com"), {"traits": {"email": " ann@example.COM"}}, True),
        (("email", "a@example.com"), {"context": {"traits": {"email": "a@example.com"}}}, True),
        (("email", "a@example.com"), {"properties": {"email": "a@example.com"}}, True),
        (("email", "a@example.com"), {"properties": {"email": "b@example.com"}}, False),
        (("phone", "+49 170 1234567"), {"traits": {"phone": "0049-170-1234567"}}, True),
        (("device_id", "x"), {"context": {"device": {"id": "x"}}}, True),
        (("ad_id", "X"), {"context": {"device": {"advertisingId": "x"}}}, True),
        (
            ("external_id", "crm:7"),
            {"context": {"externalIds": [{"type": "crm", "id": "7"}]}},
            True,
        ),
        (("email", "a@example.com"), {"context": None, "traits": None}, False),
        (("ip", "1.2.3.4"), {"context": {"ip": "1.2.3.4"}}, False),
    ],
)
def test_an_event_is_a_persons_where_a_field_that_names_people_says_so(identifier, event, theirs):
    person = Person(make_erasure(profile_ids=(), identifiers=(identifier,)))
    assert person.is_in("p", None, event) is theirs
    assert not Person(make_erasure(profile_ids=(), identifiers=())).is_in("p", None, event)


async def test_a_merge_of_the_person_is_theirs_on_either_side(autojump_clock, tmp_path):
    merge = make_change("merged", 2)
    for profile_id in (merge.profile_id, merge.other_profile_id):
        person = Person(make_erasure(profile_ids=(profile_id,), identifiers=()))
        assert person.is_in(merge.profile_id, merge.other_profile_id, None)


async def test_a_large_directory_takes_several_calls_and_ends(
    autojump_clock, tmp_path, monkeypatch
):
    settings = FileSettings(directory=tmp_path, rotate_bytes=1)
    async with open_destination(File, settings) as file:
        for one in BATCH:
            await file.deliver([one])
        real = file.host.run_in_thread

        async def slow(function, *args):
            await trio.sleep(1.0)
            return await real(function, *args)

        object.__setattr__(file.host, "run_in_thread", slow)
        calls = 1
        while (outcome := await file.erase(ERASURE)) == ErasureRetry("in_progress", 1.0):
            calls += 1
        assert isinstance(outcome, Erased)
        assert 40 / (ERASE_US_MAX / 1e6) <= calls <= 20
        assert ids_in(tmp_path) == OTHERS


async def test_a_full_disk_leaves_the_files_as_they_were(autojump_clock, tmp_path, monkeypatch):
    settings = FileSettings(directory=tmp_path)

    def full(path, content):
        raise OSError(errno.ENOSPC, "no space left")

    async with open_destination(File, settings) as file:
        await file.deliver(BATCH)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            assert await file.erase(ERASURE) == ErasureRetry(f"disk:{errno.ENOSPC}")
        assert len(ids_in(tmp_path)) == len(BATCH)
        assert isinstance(await file.erase(ERASURE), Erased)
    assert ids_in(tmp_path) == OTHERS


async def test_a_crash_before_the_rename_leaves_a_file_that_can_be_gone_on_with(
    autojump_clock, tmp_path, monkeypatch
):
    settings = FileSettings(directory=tmp_path)

    def crash(path, target):
        raise KeyboardInterrupt

    async with open_destination(File, settings) as file:
        await file.deliver(BATCH[:20])
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", crash)
            with pytest.raises(KeyboardInterrupt):
                await file.erase(ERASURE)
    async with open_destination(File, settings) as file:
        await file.deliver(BATCH[20:])
        assert len(ids_in(tmp_path)) == len(BATCH)
        assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
        assert isinstance(await file.erase(ERASURE), Erased)
    assert ids_in(tmp_path) == OTHERS


async def test_a_rename_that_fails_loses_nothing_that_is_written_after_it(
    autojump_clock, tmp_path, monkeypatch
):
    def fail(path, target):
        raise OSError(errno.EIO, "i/o error")

    settings = FileSettings(directory=tmp_path)
    async with open_destination(File, settings) as file:
        await file.deliver(BATCH[:20])
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", fail)
            assert await file.erase(ERASURE) == ErasureRetry(f"disk:{errno.EIO}")
        await file.deliver(BATCH[20:])
    async with open_destination(File, settings) as file:
        assert len(ids_in(tmp_path)) == len(BATCH)
        assert isinstance(await file.erase(ERASURE), Erased)
    assert ids_in(tmp_path) == OTHERS
