import stat

import pytest

from cdp.clock import DAY_US, HOUR_US
from cdp.storage.exports import EXPORT_KEPT_US, PART_KEPT_US, ExportFiles
from tests.unit.consent.access_world import in_this_thread

ADA, BOB = b"a" * 16, b"b" * 16
REQUEST, OTHER = "1" * 32, "2" * 32
NOW_US = 40 * DAY_US


@pytest.fixture
def files(tmp_path):
    return ExportFiles(tmp_path / "exports", in_this_thread)


async def made(files, profile=ADA, request=REQUEST, form="json", at=NOW_US, chance=7):
    writer = files.writer(profile, request, form, made_us=at, chance=f"{chance:032x}")
    await writer.open()
    await writer.write(b"secret " * 100)
    await writer.finish()
    return writer.path


async def test_a_file_and_its_directory_are_for_their_owner_only(files):
    path = await made(files)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_is_found_by_the_person_and_by_the_request(files):
    path = await made(files)
    await made(files, BOB, OTHER, "html")
    assert [one.path for one in await files.of_people([ADA])] == [path]
    assert files.of_request(REQUEST, "json").path == path
    assert files.of_request(REQUEST, "html") is None
    assert len(files.all()) == 2


async def test_a_half_written_file_is_found_by_the_person_but_not_served(files):
    writer = files.writer(ADA, REQUEST, "json", made_us=NOW_US, chance="0" * 32)
    await writer.open()
    await writer.write(b"half")
    assert [one.whole for one in await files.of_people([ADA])] == [False]
    assert files.of_request(REQUEST, "json") is None
    writer.discard()
    assert files.all() == []


async def test_an_erasure_overwrites_and_removes_every_file_of_the_person(files):
    path = await made(files)
    kept = await made(files, BOB)
    linked = path.with_name("link")
    linked.hardlink_to(path)
    assert await files.delete_of_people([b"x" * 16, ADA]) == 1
    assert not path.exists()
    assert set(linked.read_bytes()) == {0}
    assert kept.exists()
    assert await files.delete_of_people([ADA]) == 0


async def test_who_was_part_of_the_person_then_is_found_though_they_are_two_today(files):
    await made(files, ADA, form="json")
    await made(files, ADA, form="html")
    index = files.writer(ADA, REQUEST, "nodes", made_us=NOW_US, chance=f"{7:032x}")
    await index.open()
    await index.write(ADA + BOB)
    await index.finish()
    other = await made(files, b"c" * 16, OTHER)
    forms = [one.form for one in await files.of_people([BOB])]
    assert sorted(forms) == ["html", "json", "nodes"]
    assert await files.delete_of_people([BOB]) == 3
    assert [one.path for one in files.all()] == [other]


async def test_files_expire_after_thirty_days_and_half_ones_after_an_hour(files):
    path = await made(files)
    half = files.writer(BOB, OTHER, "json", made_us=NOW_US, chance="0" * 32)
    await half.open()
    assert await files.expire(NOW_US + PART_KEPT_US) == 0
    assert await files.expire(NOW_US + HOUR_US + 1) == 1
    assert [one.path for one in files.all()] == [path]
    assert await files.expire(NOW_US + EXPORT_KEPT_US) == 0
    assert await files.expire(NOW_US + EXPORT_KEPT_US + 1) == 1
    assert files.all() == []
    half.discard()


async def test_other_files_in_the_directory_are_left_alone(files):
    path = await made(files)
    other = path.with_name("notes.txt")
    other.write_text("mine")
    await files.expire(NOW_US + 100 * DAY_US)
    assert other.read_text() == "mine"


async def test_a_file_is_read_in_parts_and_one_that_is_gone_is_empty(files):
    await made(files)
    file = files.of_request(REQUEST, "json")
    assert await files.read(file, 0, 10) == b"secret sec"
    assert await files.read(file, 700, 10) == b""
    await files.delete([file])
    assert await files.read(file, 0, 10) == b""


async def test_a_name_is_never_written_over(files):
    writer = files.writer(ADA, REQUEST, "json", made_us=NOW_US, chance="0" * 32)
    await writer.open()
    with pytest.raises(FileExistsError):
        await files.writer(ADA, REQUEST, "json", made_us=NOW_US, chance="0" * 32).open()
    writer.discard()


@pytest.mark.parametrize("request_id", ["../x", "", "1" * 31, "G" * 32])
def test_an_id_that_is_none_of_ours_is_never_a_path(files, request_id):
    with pytest.raises(AssertionError):
        files.writer(ADA, request_id, "json", made_us=0, chance="0" * 32)


async def test_no_directory_is_no_file(files):
    assert files.all() == []
    assert await files.expire(NOW_US) == 0
