import pytest

from tests.unit.console.surface import Surface, client
from tests.unit.identity.world import HOUR, MINUTE, World, event

PERSON = [
    event(1, anonymous_id="a1", event="Viewed", properties={"sku": 1}),
    event(
        2,
        "identify",
        anonymous_id="a1",
        user_id="u/1",
        traits={"email": "one@b.test", "plan": "free"},
    ),
    event(3, user_id="u/1", event="Bought"),
    event(4, "identify", user_id="u/1", traits={"plan": "paid", "city": None, "zip": ""}),
    event(5, "group", user_id="u/1", group_id="acme", traits={"seats": 5}),
]
PATH = "/v1/profiles/user_id:u%2F1"


@pytest.fixture
def world():
    return World().feed(PERSON)


@pytest.fixture
async def http(world):
    async with client(Surface(world)) as http:
        yield http


async def get(http, path, status=200, **query):
    answer = await http.get(path, params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "key", ["user_id:u%2F1", "anonymous_id:a1", "email:ONE%40b.test", "USER_ID:u%2F1"]
)
async def test_a_person_is_found_by_any_identifier(http, key):
    body = await get(http, f"/v1/profiles/{key}")
    assert body["traits"] == {"email": "one@b.test", "plan": "paid", "zip": ""}
    assert body["state"] == "identified"
    assert body["event_counts"] == {"track": 2, "identify": 2, "group": 1}
    assert body["groups"] == [{"group_id": "acme", "last_seen_at": "2023-11-14T22:13:25.000Z"}]


async def test_a_person_is_found_by_the_profile_id(http):
    profile_id = (await get(http, PATH))["profile_id"]
    assert (await get(http, f"/v1/profiles/profile_id:{profile_id}"))["profile_id"] == profile_id


@pytest.mark.parametrize(
    "key", ["user_id:nobody", "email:not-an-email", "profile_id:zz", "badge:7"]
)
async def test_nobody_is_not_found(http, key):
    body = await get(http, f"/v1/profiles/{key}", 404)
    assert body == {"error": {"code": "not_found", "message": "nobody is known by this identifier"}}


@pytest.mark.parametrize("key", ["nocolon", ":x", "user_id:", "user_id:" + "x" * 2_000])
async def test_a_key_that_cannot_be_read_is_refused(http, key):
    assert (await get(http, f"/v1/profiles/{key}", 400))["error"]["code"] == "validation_error"


async def test_traits_have_segments_shape_and_leave_out_what_was_removed(http):
    assert await get(http, f"{PATH}/traits") == {
        "traits": {"email": "one@b.test", "plan": "paid", "zip": ""},
        "cursor": {"url": f"{PATH}/traits", "has_more": False, "next": "", "limit": 10},
    }


async def test_traits_come_in_pages_that_leave_none_out(http):
    first = await get(http, f"{PATH}/traits", limit=2)
    assert (list(first["traits"]), first["cursor"]["has_more"]) == (["email", "plan"], True)
    second = await get(http, f"{PATH}/traits", limit=2, next=first["cursor"]["next"])
    assert (list(second["traits"]), second["cursor"]["has_more"]) == (["zip"], False)


async def test_traits_can_be_chosen_and_say_where_they_came_from(http):
    body = await get(http, f"{PATH}/traits", include="plan,none", verbose="true")
    assert body["traits"] == {
        "plan": {
            "value": "paid",
            "source_id": "web",
            "updated_at": "2023-11-14T22:13:24.000Z",
            "message_id": "m4",
        }
    }


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "-1"},
        {"limit": "x"},
        {"limit": "²"},
        {"verbose": "yes"},
        {"class": "other"},
        {"as_of": "yesterday"},
        {"as_of": "9999999-01-01"},
        {"next": "%%%"},
    ],
)
async def test_a_parameter_that_cannot_be_read_is_refused(http, query):
    body = await get(http, f"{PATH}/traits", 400, **query)
    assert body["error"]["code"] == "validation_error"


@pytest.mark.parametrize("part", ["identifiers", "external_ids"])
async def test_identifiers_have_segments_shape(http, part):
    body = await get(http, f"{PATH}/{part}")
    assert body["data"][0] == {
        "source_id": "web",
        "collection": "users",
        "id": "a1",
        "type": "anonymous_id",
        "created_at": "2023-11-14T22:13:21.000Z",
        "encoding": "none",
        "first_message_id": "m1",
        "shared": False,
    }
    assert {(one["type"], one["id"]) for one in body["data"]} == {
        ("anonymous_id", "a1"),
        ("user_id", "u/1"),
        ("email", "one@b.test"),
    }


async def test_identifiers_come_in_pages(http):
    first = await get(http, f"{PATH}/identifiers", limit=2)
    second = await get(http, f"{PATH}/identifiers", limit=2, next=first["cursor"]["next"])
    assert [len(first["data"]), len(second["data"])] == [2, 1]
    assert not second["cursor"]["has_more"]


async def test_events_come_newest_first_with_their_bodies(http):
    body = await get(http, f"{PATH}/events")
    assert [one["type"] for one in body["data"]] == [
        "group",
        "identify",
        "track",
        "identify",
        "track",
    ]
    oldest = body["data"][-1]
    assert oldest["message_id"] == "m1"
    assert oldest["properties"] == {"sku": 1}
    assert oldest["external_ids"][0]["id"] == "a1"
    assert oldest["expired"] is False


@pytest.mark.parametrize("sort", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_pages_of_events_leave_none_out_and_repeat_none(http, sort, limit):
    seen, following = [], None
    while following is None or following:
        query = {"next": following} if following else {}
        body = await get(http, f"{PATH}/events", limit=limit, sort=sort, **query)
        seen += [one["message_id"] for one in body["data"]]
        following = body["cursor"]["next"]
    straight = ["m1", "m2", "m3", "m4", "m5"]
    assert seen == (straight if sort == "asc" else straight[::-1])


async def test_events_can_be_chosen_by_name_type_and_time(http):
    async def ids(**query):
        return [one["message_id"] for one in (await get(http, f"{PATH}/events", **query))["data"]]

    assert await ids(include="Bought,group") == ["m5", "m3"]
    assert await ids(exclude="identify") == ["m5", "m3", "m1"]
    assert await ids(start="2023-11-14T22:13:22Z", end="2023-11-14T22:13:24Z") == ["m3", "m2"]
    assert await ids(as_of="2023-11-14T22:13:22Z") == ["m2", "m1"]
    assert await ids(as_of="2023-11-14T22:13:22+00:00") == ["m2", "m1"]


async def test_links_are_the_groups_and_the_evidence_of_the_merge(http, world):
    body = await get(http, f"{PATH}/links")
    assert body["data"] == [
        {
            "to_collection": "accounts",
            "external_ids": [
                {"collection": "accounts", "type": "group_id", "id": "acme", "encoding": "none"}
            ],
            "last_seen_at": "2023-11-14T22:13:25.000Z",
        }
    ]
    assert "one@b.test" in str(body["evidence"])


async def test_metadata_has_segments_shape(http):
    assert await get(http, f"{PATH}/metadata") == {
        "metadata": {
            "created_at": "2023-11-14T22:13:21.000Z",
            "updated_at": "2023-11-14T22:13:25.000Z",
            "expires_at": None,
            "first_message_id": "m1",
            "first_source_id": "web",
            "last_message_id": "m5",
            "last_source_id": "web",
        }
    }


async def test_as_of_shows_what_was_known_then(http):
    body = await get(http, PATH, as_of="2023-11-14T22:13:22.000Z")
    assert body["traits"] == {"email": "one@b.test", "plan": "free"}
    assert body["event_counts"] == {"track": 1, "identify": 1}
    assert body["as_of"]["complete"] is True
    known = await get(http, f"{PATH}/identifiers", as_of="2023-11-14T22:13:21.500Z")
    assert [one["id"] for one in known["data"]] == ["a1"]


async def test_as_of_a_time_before_the_first_event_is_nobody(http):
    body = await get(http, f"{PATH}/traits", 404, as_of="2000-01-01")
    assert body["error"]["message"] == "nothing had been heard of this person by then"


async def test_as_of_says_how_many_events_are_past_their_retention(world, http):
    batch = world.store.batch()
    world.accept([event(n, user_id="x") for n in range(10, 12)])  # so that a later block exists
    world.events.truncate_before(batch, 5)
    world.store.write(batch)
    body = await get(http, PATH, as_of="2023-11-14T22:13:25Z")
    assert body["as_of"]["events_past_retention"] == 5
    assert body["as_of"]["complete"] is False
    page = await get(http, f"{PATH}/events")
    assert [one["expired"] for one in page["data"]] == [True] * 5


async def test_segments_paths_answer_the_same(http):
    theirs = "/v1/spaces/any/collections/users/profiles/user_id:u%2F1"
    assert (await get(http, f"{theirs}/traits"))["traits"] == (await get(http, f"{PATH}/traits"))[
        "traits"
    ]
    accounts = "/v1/spaces/any/collections/accounts/profiles/group_id:acme/traits"
    assert (await get(http, accounts))["traits"] == {"seats": 5}
    await get(http, accounts.replace("acme", "other"), 404)


async def test_events_on_a_shared_device_are_shown_to_who_was_signed_in_and_marked():
    world = World().feed(
        [
            event(1, "identify", at=0, user_id="ann", anonymous_id="tablet"),
            event(2, at=5 * MINUTE, anonymous_id="tablet"),
            event(3, "identify", at=3 * HOUR, user_id="bob", anonymous_id="tablet"),
            event(4, at=3 * HOUR + 5 * MINUTE, anonymous_id="tablet"),
        ]
    )
    async with client(Surface(world)) as http:
        ann = (await get(http, "/v1/profiles/user_id:ann/events"))["data"]
        bob = (await get(http, "/v1/profiles/user_id:bob/events"))["data"]
        tablet = (await get(http, "/v1/profiles/anonymous_id:tablet/events"))["data"]
        known = (await get(http, "/v1/profiles/user_id:ann/identifiers"))["data"]
    assert [one["message_id"] for one in ann] == ["m2", "m1"]
    assert [one["message_id"] for one in bob] == ["m4", "m3"]
    assert [one.get("shared_device") for one in ann] == [{"attributed_by": "interval"}, None]
    assert [one["message_id"] for one in tablet] == ["m4", "m2"]
    assert [(one["id"], one["shared"]) for one in known] == [("ann", False), ("tablet", True)]


async def test_while_the_graph_is_loaded_the_answer_is_to_ask_again(world):
    world.profiles._resolver = lambda: None
    async with client(Surface(world)) as http:
        answer = await http.get(PATH)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "unavailable"
