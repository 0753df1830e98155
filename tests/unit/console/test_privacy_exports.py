import pytest

from cdp.clock import DAY_US
from cdp.console.person_exports import PersonExports
from cdp.storage.exports import EXPORT_KEPT_US
from tests.unit.consent.access_world import REQUEST, Subject, ada


@pytest.fixture
def subject(tmp_path):
    return Subject(tmp_path, ada())


@pytest.fixture
def exports(subject):
    ids = iter(range(100))
    return PersonExports(
        subject.holdings, subject.files, subject.clock, lambda: f"{next(ids):032x}"
    )


async def test_both_forms_of_a_document_are_made_found_and_read(exports, subject):
    assert exports.forms_of(REQUEST) == []
    assert await exports.make(subject.profile().profile_id, REQUEST) == 8
    assert exports.forms_of(REQUEST) == ["json", "html"]
    whole = subject.read(REQUEST, "json")
    assert await exports.read(REQUEST, "json", 0, 10) == whole[:10]
    assert await exports.read(REQUEST, "json", len(whole), 10) == b""
    assert await exports.read("9" * 32, "json", 0, 10) is None


async def test_a_document_that_is_made_again_is_handed_out_anew(exports, subject):
    profile_id = subject.profile().profile_id
    await exports.make(profile_id, REQUEST)
    subject.clock.time_us += DAY_US
    await exports.make(profile_id, REQUEST)
    newest = subject.files.of_request(REQUEST, "json")
    assert newest.made_us == subject.clock.time_us
    assert len(subject.files.all()) == 6


async def test_an_erasure_removes_the_documents_under_any_id_that_the_profile_ever_had(
    exports, subject
):
    profile = subject.profile()
    await exports.make(profile.profile_id, REQUEST)
    assert await exports.erase([b"x" * 16]) == 0
    assert await exports.erase(profile.members) == 3
    assert exports.forms_of(REQUEST) == []


async def test_documents_expire(exports, subject):
    await exports.make(subject.profile().profile_id, REQUEST)
    subject.clock.time_us += EXPORT_KEPT_US
    assert await exports.expire() == 0
    subject.clock.time_us += 1
    assert await exports.expire() == 3


async def test_nobody_has_no_document(exports):
    assert await exports.make(b"\xaa" * 16, REQUEST) is None
