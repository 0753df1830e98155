import json

import pytest

from cdp.console.regulations import SUBJECTS_MAX, destination_statuses, overall
from cdp.console.regulations_routes import RegulationRoutes
from cdp.storage.memory import MemoryStore
from tests.unit.console.privacy import Book
from tests.unit.console.surface import AUTHORIZED, TOKEN, Surface, client

ORDER = {"regulationType": "SUPPRESS_WITH_DELETE", "subjectType": "USER_ID", "subjectIds": ["ada"]}
OLD = "/v1beta/workspaces/shop/regulations"

MATRIX = {
    ("POST", "/regulations"),
    ("GET", "/regulations"),
    ("POST", "/regulations/sources/{source}"),
    ("GET", "/regulations/sources/{source}"),
    ("GET", "/regulations/{id}"),
    ("DELETE", "/regulations/{id}"),
    ("GET", "/suppressions"),
    ("POST", OLD.replace("shop", "{workspace}")),
    ("GET", OLD.replace("shop", "{workspace}")),
    ("GET", OLD.replace("shop", "{workspace}") + "/{id}"),
    ("DELETE", OLD.replace("shop", "{workspace}") + "/{id}"),
}


class HandClock:
    time_us = 1_772_366_400_000_000

    def now_us(self):
        self.time_us += 1
        return self.time_us


@pytest.fixture
def book():
    return Book()


@pytest.fixture
def regulations(book):
    ids = iter(range(10_000))
    return RegulationRoutes(
        book, MemoryStore(), HandClock(), lambda: f"{next(ids):032x}"[::-1], ["web"]
    )


def served(regulations, **options):
    return client(Surface(), more=regulations.routes(), **options)


@pytest.fixture
async def http(regulations):
    async with served(regulations) as http:
        yield http


async def order(http, path="/regulations", **more):
    answer = await http.post(path, json=ORDER | more)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]["regulateId"]


async def show(http, regulation_id):
    answer = await http.get(f"/regulations/{regulation_id}")
    return answer.json()["data"]["regulation"]


def test_every_route_stands_in_the_matrix(regulations):
    routes = regulations.routes()
    assert {(m, route.path) for route in routes for m in route.methods - {"HEAD"}} == MATRIX


@pytest.mark.parametrize(("method", "path"), sorted(MATRIX))
async def test_no_route_answers_without_the_token(regulations, book, method, path):
    async with served(regulations, token=TOKEN) as http:
        answer = await http.request(method, path, json=ORDER)
        assert answer.status_code == 401
        assert book.asked == []
        answer = await http.request(method, path, headers=AUTHORIZED)
        assert answer.status_code not in (401, 403)


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        ("SUPPRESS_ONLY", ("suppression", True, False)),
        ("SUPPRESS_WITH_DELETE", ("erasure", True, True)),
        ("SUPPRESS_WITH_DELETE_INTERNAL", ("erasure", True, False)),
        ("DELETE_INTERNAL", ("erasure", False, False)),
        ("DELETE_ONLY", ("erasure", False, True)),
    ],
)
async def test_each_type_asks_for_what_its_name_says(http, book, type, expected):
    await order(http, regulationType=type)
    asked = book.asked[0]
    assert (asked.kind, asked.suppress, asked.downstream) == expected
    assert (asked.identifiers, asked.channel) == ((("user_id", "ada"),), "regulation")
    assert book.orders == [("approve", next(iter(book.rows)), "regulations api")]


async def test_unsuppress_lifts_and_is_finished_at_once(http, book):
    regulation_id = await order(http, regulationType="UNSUPPRESS", subjectIds=["ada", "bob"])
    assert sorted(dict(one[1])["user_id"] for one in book.orders) == ["ada", "bob"]
    assert (await show(http, regulation_id))["overallStatus"] == "FINISHED"
    assert (await http.delete(f"/regulations/{regulation_id}")).status_code == 400


async def test_each_subject_is_a_request_of_its_own_once(http, book):
    await order(http, subjectIds=["ada", "bob", "ada"])
    assert sorted(dict(asked.identifiers)["user_id"] for asked in book.asked) == ["ada", "bob"]


async def test_five_thousand_subjects_are_taken_and_one_more_is_refused(http, book):
    many = [f"u{n}" for n in range(SUBJECTS_MAX + 1)]
    answer = await http.post("/regulations", json=ORDER | {"subjectIds": many})
    assert answer.status_code == 400
    assert book.asked == []
    await order(http, subjectIds=many[:-1])
    assert len(book.asked) == SUBJECTS_MAX


async def test_the_subjects_are_not_kept(http, regulations):
    await order(http, subjectIds=["ada-the-first"])
    rows = list(regulations._store.items("meta"))
    assert len(rows) == 1
    assert b"ada-the-first" not in b"".join(key + value for key, value in rows)


async def test_a_regulation_that_stops_half_way_says_how_many_were_taken(http, book):
    book.fails_after = 100
    answer = await http.post(
        "/regulations", json=ORDER | {"subjectIds": [f"u{n}" for n in range(200)]}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("100 subjects were taken")


@pytest.mark.parametrize(
    "change",
    [
        {"regulationType": "FORGET"},
        {"regulationType": None},
        {"subjectType": "EMAIL"},
        {"subjectIds": []},
        {"subjectIds": "ada"},
        {"subjectIds": [1]},
        {"subjectIds": [""]},
        {"subjectIds": ["x" * 513]},
        {"subject_ids": ["ada"]},
    ],
)
async def test_what_cannot_be_read_is_refused_whole(http, book, change):
    assert (await http.post("/regulations", json=ORDER | change)).status_code == 400
    assert book.asked == []


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["approved", "approved"], "INITIALIZED"),
        (["approved", "sealed"], "RUNNING"),
        (["complete", "downstream"], "RUNNING"),
        (["complete", "complete"], "FINISHED"),
        (["complete", "partially_complete"], "PARTIAL_SUCCESS"),
        (["complete", "denied"], "PARTIAL_SUCCESS"),
        (["partially_complete", "partially_complete"], "PARTIAL_SUCCESS"),
        (["cancelled", "cancelled"], "INVALID"),
    ],
)
async def test_the_status_is_the_sum_of_the_requests(http, book, states, status):
    regulation_id = await order(http, subjectIds=["ada", "bob"])
    for request_id, state in zip(book.rows, states, strict=True):
        book.move(request_id, state, completed_at="2026-03-02T00:00:00.000Z")
    told = await show(http, regulation_id)
    assert told["overallStatus"] == status
    assert ("finishedAt" in told) == (status not in ("INITIALIZED", "RUNNING"))


def test_nothing_is_finished_before_everything_is():
    assert overall([]) == "FINISHED"
    assert overall(["FINISHED", "RUNNING"]) == "RUNNING"
    assert overall(["FINISHED", "INITIALIZED"]) == "RUNNING"
    assert overall(["FINISHED", "FAILED"]) == "PARTIAL_SUCCESS"
    assert overall(["FAILED"]) == "FAILED"


async def test_each_destination_has_one_status_for_all_subjects(http, book):
    regulation_id = await order(http, subjectIds=["ada", "bob"])
    first, second = book.rows
    jobs = [{"destination": "crm", "state": "confirmed"}, {"destination": "ads", "state": "retry"}]
    book.move(first, "downstream", destinations=jobs)
    failed = {"destination": "crm", "state": "escalated", "error": "answered 500 for 30 days"}
    book.move(second, "partially_complete", destinations=[failed])
    told = (await show(http, regulation_id))["streamStatus"][0]["destinationStatus"]
    assert told == [
        {"name": "ads", "id": "ads", "status": "RUNNING"},
        {
            "name": "crm",
            "id": "crm",
            "status": "PARTIAL_SUCCESS",
            "errString": "answered 500 for 30 days",
        },
    ]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("queued", "INITIALIZED"),
        ("sent", "RUNNING"),
        ("polling", "RUNNING"),
        ("confirmed", "FINISHED"),
        ("attested", "FINISHED"),
        ("not_needed", "FINISHED"),
        ("manual_task", "NOT_SUPPORTED"),
        ("escalated", "FAILED"),
        ("a state of a later version", "RUNNING"),
    ],
)
def test_a_destination_that_has_not_confirmed_is_never_finished(state, status):
    told = destination_statuses([{"destinations": [{"destination": "crm", "state": state}]}])
    assert told == [{"name": "crm", "id": "crm", "status": status}]


async def test_a_source_must_be_one_of_ours_and_has_a_list_of_its_own(http):
    answer = await http.post("/regulations/sources/nowhere", json=ORDER)
    assert answer.status_code == 404
    regulation_id = await order(http, "/regulations/sources/web")
    await order(http)
    listed = (await http.get("/regulations/sources/web")).json()["data"]["regulations"]
    assert [one["id"] for one in listed] == [regulation_id]
    assert listed[0]["streamStatus"][0]["id"] == "web"


async def test_regulations_are_listed_newest_first_in_pages(http):
    made = [await order(http, subjectIds=[f"u{n}"]) for n in range(5)]
    seen, cursor = [], ""
    while True:
        params = {"pagination[count]": "2"} | ({"pagination[cursor]": cursor} if cursor else {})
        data = (await http.get("/regulations", params=params)).json()["data"]
        seen += [one["id"] for one in data["regulations"]]
        cursor = data["pagination"].get("next")
        if not cursor:
            break
    assert seen == made[::-1]


async def test_regulations_are_listed_by_type_and_status(http, book):
    await order(http, regulationType="SUPPRESS_ONLY")
    done = await order(http)
    book.move(list(book.rows)[1], "complete")

    async def listed(**params):
        answer = await http.get("/regulations", params=params)
        return [one["id"] for one in answer.json()["data"]["regulations"]]

    assert await listed(status="FINISHED") == [done]
    assert await listed(regulationTypes="SUPPRESS_WITH_DELETE,DELETE_ONLY") == [done]
    assert await listed(status="FAILED") == []
    for bad in ({"status": "DONE"}, {"regulationTypes": "X"}, {"pagination[count]": "0"}):
        assert (await http.get("/regulations", params=bad)).status_code == 400


async def test_only_a_regulation_that_has_not_begun_is_deleted(http, book):
    regulation_id = await order(http)
    book.move(next(iter(book.rows)), "sealed")
    assert (await http.delete(f"/regulations/{regulation_id}")).status_code == 400
    book.move(next(iter(book.rows)), "approved")
    answer = await http.delete(f"/regulations/{regulation_id}")
    assert answer.json() == {"data": {"status": "SUCCESS"}}
    assert (await show(http, regulation_id))["overallStatus"] == "INVALID"
    assert (await http.delete("/regulations/unknown")).status_code == 404


async def test_suppressions_are_hashes_in_pages(http, book):
    book.hashes = [f"{n:032x}" for n in range(3)]
    data = (await http.get("/suppressions", params={"pagination[count]": "2"})).json()["data"]
    assert data["suppressed"][0] == {
        "subjectType": "IDENTIFIER_HASH",
        "subjectIds": [book.hashes[0]],
    }
    params = {"pagination[cursor]": data["pagination"]["next"]}
    rest = (await http.get("/suppressions", params=params)).json()["data"]
    assert [one["subjectIds"] for one in rest["suppressed"]] == [[book.hashes[2]]]


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("Suppress_With_Delete", "erasure"),
        ("Suppress", "suppression"),
        ("Delete", "erasure"),
        ("suppress_only", "suppression"),
    ],
)
async def test_the_older_form_is_read_and_told_in_its_own_names(http, book, name, type):
    body = {"regulation_type": name, "attributes": {"name": "userId", "values": ["ada", "bob"]}}
    answer = await http.post(OLD, json=body)
    regulation_id = answer.json()["regulate_id"]
    assert [asked.kind for asked in book.asked] == [type, type]
    told = (await http.get(f"{OLD}/{regulation_id}")).json()
    assert (told["workspace_id"], told["overall_status"]) == ("shop", "INITIALIZED")
    assert told["stream_status"] == [{"id": "all", "destination_status": []}]
    assert (await http.delete(f"{OLD}/{regulation_id}")).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"regulation_type": "Suppress"},
        {"regulation_type": "Suppress", "attributes": {"name": "email", "values": ["a"]}},
        {"regulation_type": "Forget", "attributes": {"name": "userId", "values": ["a"]}},
        {"regulation_type": "Suppress", "attributes": {"name": "userId", "values": []}},
        {"regulation_type": "Suppress", "attributes": ["a"]},
        {"regulationType": "Suppress", "attributes": {"name": "userId", "values": ["a"]}},
    ],
)
async def test_an_older_order_that_cannot_be_read_is_refused(http, book, body):
    assert (await http.post(OLD, json=body)).status_code == 400
    assert book.asked == []


async def test_an_answer_never_names_the_subjects(http):
    regulation_id = await order(http, subjectIds=["ada-the-first"])
    for path in ("/regulations", f"/regulations/{regulation_id}", "/suppressions"):
        assert "ada-the-first" not in json.dumps((await http.get(path)).json())
