"""Who a person is and why: the answers of the control plane, readable."""

import pytest
from terminal import Daemon, cdp, listing

from cdp.cli.control import names_a_profile, profile_address
from cdp.cli.why import apart_tree, event_tree, person_tree

ID = "5bb0" * 8
ADA = {
    "profile_id": ID,
    "state": "identified",
    "shared": False,
    "traits": {"name": "Ada [bold]", "address": {"city": "Köln"}, "logins": 5},
    "metadata": {
        "created_at": "2026-01-01T00:00:00.000Z",
        "updated_at": "2026-01-07T00:00:00.000Z",
    },
    "event_counts": {"identify": 1, "track": 12},
    "sources": {"website": 13},
    "groups": [{"group_id": "acme", "last_seen_at": "2026-01-02T00:00:00.000Z"}],
}
IDENTIFIER = {
    "source_id": "website",
    "collection": "users",
    "id": "ada@example.com",
    "type": "email",
    "created_at": "2026-01-01T00:00:00.000Z",
    "encoding": "none",
    "first_message_id": "m1",
    "shared": False,
}
EVENT = {
    "type": "track",
    "timestamp": "2026-01-07T00:00:00.000Z",
    "external_ids": [{"type": "user_id", "id": "42"}],
    "expired": False,
    "message_id": "m9",
    "event": "Order Completed",
}
PATH = "/v1/profiles/email:ada%40example.com"


def person(**more):
    shared = {**IDENTIFIER, "type": "anonymous_id", "id": "tablet", "shared": True}
    return Daemon(
        {
            ("GET", PATH): ADA,
            ("GET", f"{PATH}/identifiers"): listing([IDENTIFIER, shared]),
            ("GET", f"{PATH}/events"): listing([EVENT], after="more"),
            **more,
        }
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("email:ada@example.com", "email:ada%40example.com"),
        ("ada@example.com", "email:ada%40example.com"),
        ("+491234", "phone:%2B491234"),
        ("42", "user_id:42"),
        ("a/b", "user_id:a%2Fb"),
        (f"id:{ID}", f"profile_id:{ID}"),
        (ID, f"profile_id:{ID}"),
        ("android.idfa:x:y", "android.idfa:x%3Ay"),
    ],
)
def test_a_person_is_named_as_people_type(text, address):
    assert profile_address(text) == address


def test_a_message_id_with_a_colon_is_no_profile():
    assert names_a_profile("email:x")
    assert not names_a_profile("order:17")
    assert not names_a_profile("0f6c")


def test_the_card_shows_traits_identifiers_and_events(tmp_path):
    ran = cdp(tmp_path, "profile", "ada@example.com", daemon=person())
    assert ran.code == 0
    for text in (
        f"profile {ID}  identified",
        "Ada [bold]",
        '{"city":"Köln"}',
        "ada@example.com",
        "shared",
        "track Order Completed",
        "latest events (of 13)",
        "groups: acme",
    ):
        assert text in ran.out


def test_as_of_is_passed_on_to_every_part(tmp_path):
    daemon = person()
    ran = cdp(tmp_path, "profile", "ada@example.com", "--as-of", "2026-01-03", daemon=daemon)
    assert ran.code == 0
    assert [one.url.params["as_of"] for one in daemon.requests] == ["2026-01-03"] * 3
    assert "as of 2026-01-03" in ran.out


def test_json_is_the_answer_and_nothing_else(tmp_path):
    ran = cdp(tmp_path, "profile", "ada@example.com", "--json", daemon=person())
    assert ran.json == ADA
    assert ran.err == ""


def test_a_view_says_when_there_is_more(tmp_path):
    ran = cdp(tmp_path, "profile", "ada@example.com", "events", "--limit", "1", daemon=person())
    assert "m9" in ran.out
    assert "there is more" in ran.err


@pytest.mark.parametrize(
    ("view", "answer", "text"),
    [
        ("traits", {"traits": {"plan": "pro"}, "cursor": {"has_more": False}}, "pro"),
        ("metadata", {"metadata": {"first_message_id": "m1", "expires_at": None}}, "m1"),
        (
            "links",
            listing([{"to_collection": "accounts", "external_ids": [{"id": "acme"}]}]),
            "acme",
        ),
        ("identifiers", listing([IDENTIFIER]), "ada@example.com"),
    ],
)
def test_every_view_shows_its_part(tmp_path, view, answer, text):
    daemon = person(**{})
    daemon.answers[("GET", f"{PATH}/{view}")] = answer
    ran = cdp(tmp_path, "profile", "ada@example.com", view, daemon=daemon)
    assert ran.code == 0
    assert text in ran.out


WHY_EVENT = {
    "offset": 7,
    "chain": [
        {"stage": "received", "sentence": "received now from source website"},
        {"stage": "resolved", "sentence": "is about profile 5bb0"},
        {"stage": "delivery", "sentence": "crm: filtered", "state": "filtered", "reason": "denied"},
        {"stage": "delivery", "sentence": "archive: delivered", "state": "delivered"},
    ],
    "sentences": [],
}


def test_why_event_is_a_chain_from_sender_to_destinations(tmp_path):
    daemon = Daemon({("GET", "/v1/why/event/order%3A17"): WHY_EVENT})
    ran = cdp(tmp_path, "why", "order:17", daemon=daemon)
    assert ran.code == 0
    assert [line.strip("│├└─ ") for line in ran.out.splitlines()] == [
        "event order:17",
        "received: received now from source website",
        "resolved: is about profile 5bb0",
        "destinations",
        "crm: filtered",
        "the event says that a purpose of the destination was denied",
        "archive: delivered",
    ]


def test_an_event_without_deliveries_has_no_branch_for_them():
    tree = event_tree("m", {"chain": WHY_EVENT["chain"][:2]})
    assert len(tree.children) == 2


WHY_PERSON = {
    "profile_id": ID,
    "state": "identified",
    "shared": False,
    "identifiers": [{"namespace": "user_id", "value": "42"}],
    "evidence": {
        "shared": False,
        "crowded": False,
        "accepted": [{"sentence": "user_id 42 and anonymous_id phone: named together"}],
        "suppressed": [{"sentence": "anonymous_id phone and user_id 7: not believed"}],
        "shared_neighbours": [
            {"node": "ab" * 16},
            {"node": "cd" * 16, "namespace": "anonymous_id", "value": "tablet"},
        ],
    },
}


def tree_lines(text):
    return [line.strip("│├└─ ") for line in text.splitlines()]


def test_why_person_says_what_joined_and_what_was_not_believed(tmp_path):
    daemon = Daemon({("GET", "/v1/why/profile/user_id:42"): WHY_PERSON})
    ran = cdp(tmp_path, "why", "user_id:42", daemon=daemon)
    assert tree_lines(ran.out) == [
        f"profile {ID}, identified",
        "known as",
        "user_id 42",
        "because",
        "user_id 42 and anonymous_id phone: named together",
        "not believed",
        "anonymous_id phone and user_id 7: not believed",
        "seen with, but shared by several",
        "identifier abababab…",
        "anonymous_id tablet",
    ]


def test_a_shared_identifier_is_said_to_be(tmp_path):
    evidence = {**WHY_PERSON["evidence"], "shared": True, "crowded": True, "accepted": []}
    tree = person_tree({**WHY_PERSON, "evidence": evidence})
    first, second, *_ = [str(branch.label) for branch in tree.children]
    assert "is shared: it joins nobody" in first
    assert "too many others" in second


def test_long_evidence_is_cut_and_says_so():
    many = [{"sentence": f"sentence {number}"} for number in range(60)]
    tree = apart_tree({"reason": "far apart", "path": many, "shared": []})
    (branch,) = tree.children
    assert len(branch.children) == 51
    assert str(branch.children[-1].label) == "and 10 more; --json shows all"


def test_why_not_shows_how_near_they_come(tmp_path):
    path = "/v1/why/profile/user_id:42/not/email:x%40y.z"
    step = {"sentence": "user_id 42 and anonymous_id tablet: joins nobody"}
    answer = {
        "one_profile": False,
        "reason": "they meet only at a shared or crowded identifier",
        "path": [step],
        "shared": [{"node": "ab", "namespace": "anonymous_id", "value": "tablet"}],
    }
    ran = cdp(tmp_path, "why", "42", "--not", "x@y.z", daemon=Daemon({("GET", path): answer}))
    assert tree_lines(ran.out) == [
        "they meet only at a shared or crowded identifier",
        "the nearest they come",
        "user_id 42 and anonymous_id tablet: joins nobody",
        "shared by several",
        "anonymous_id tablet",
    ]


def test_what_it_is_can_be_said_where_it_is_ambiguous(tmp_path):
    daemon = Daemon(
        {
            ("GET", f"/v1/why/profile/profile_id:{ID}"): WHY_PERSON,
            ("GET", "/v1/why/event/email%3Ax"): WHY_EVENT,
        }
    )
    assert cdp(tmp_path, "why", ID, "--profile", daemon=daemon).code == 0
    assert cdp(tmp_path, "why", "email:x", "--event", daemon=daemon).code == 0
    assert cdp(tmp_path, "why", "email:x", "--event", "--json", daemon=daemon).json == WHY_EVENT
