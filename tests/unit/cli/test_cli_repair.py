"""What was refused or given up is listed, mended and sent again, and only when it was meant."""

import json

import httpx
import pytest
from terminal import Daemon, cdp, listing

from cdp.cli.events import merge_patch


def rejected(number, code="no_identity", body=None):
    return {
        "id": f"r{number}",
        "source": "website",
        "received_at": "2026-01-01T00:00:00.000Z",
        "message_id": f"m{number}",
        "code": code,
        "message": "name a person",
        "path": "userId",
        "index": number,
        "truncated": False,
        "body": json.dumps(body or {"type": "track", "event": "A", "context": {"x": 1}}),
    }


class Rejected(Daemon):
    """A daemon with rejected events, in pages of two, which takes those that name a user."""

    def __init__(self, *items):
        super().__init__()
        self.items = {one["id"]: one for one in items}

    def __call__(self, request):
        self.requests.append(request)
        if request.method == "GET":
            items = list(self.items.values())
            start = int(request.url.params.get("next", "0"))
            limit = min(2, int(request.url.params["limit"]))
            page = items[start : start + limit]
            after = str(start + limit) if start + limit < len(items) else ""
            return httpx.Response(200, json=listing(page, after))
        one = self.items.get(request.url.path.split("/")[-2])
        if one is None:
            return httpx.Response(404, json={"error": {"code": "not_found", "message": "none"}})
        event = json.loads(request.content).get("event") or json.loads(one["body"])
        if "userId" not in event:
            error = {"code": "invalid_request_error", "message": "no_identity: name a person"}
            return httpx.Response(400, json={"error": error})
        return httpx.Response(200, json={"outcome": "accepted"})

    @property
    def orders(self):
        return [json.loads(one.content) for one in self.requests if one.method == "POST"]


def events(tmp_path, daemon, *argv, stdin=b""):
    return cdp(tmp_path, "events", "rejected", *argv, daemon=daemon, stdin=stdin)


def test_rejected_events_are_listed_over_pages_with_their_reason(tmp_path):
    ran = events(tmp_path, Rejected(*map(rejected, range(5))), "list")
    assert ran.code == 0
    assert [f"r{n}" in ran.out for n in range(5)] == [True] * 5
    assert "userId: name a person" in ran.out


def test_a_list_can_be_narrowed_and_bounded(tmp_path):
    daemon = Rejected(rejected(0), rejected(1, "bad_time"), rejected(2), rejected(3, "bad_time"))
    ran = events(tmp_path, daemon, "list", "--code", "bad_time", "--json")
    assert [one["id"] for one in ran.json] == ["r1", "r3"]
    ran = events(tmp_path, daemon, "list", "--limit", "3", "--json")
    assert len(ran.json) == 3


def test_one_is_shown_in_full_or_said_to_be_none(tmp_path):
    daemon = Rejected(*map(rejected, range(3)))
    assert events(tmp_path, daemon, "show", "r2").json == rejected(2)
    ran = events(tmp_path, daemon, "show", "r9")
    assert ran.code == 1
    assert "no rejected event has the id r9" in ran.err


def test_a_patch_mends_the_event_as_it_came(tmp_path):
    daemon = Rejected(rejected(0))
    patch = b'{"userId": "42", "context": {"x": null, "y": 2}}'
    ran = events(tmp_path, daemon, "resend", "r0", "--patch", "-", stdin=patch)
    assert (ran.code, ran.out) == (0, "accepted\n")
    mended = {"type": "track", "event": "A", "context": {"y": 2}, "userId": "42"}
    assert daemon.orders == [{"event": mended}]


def test_a_whole_event_can_replace_it(tmp_path):
    daemon = Rejected(rejected(0, body=None))
    file = tmp_path / "event.json"
    file.write_text('{"type": "track", "userId": "1"}')
    assert events(tmp_path, daemon, "resend", "r0", "--event", str(file)).code == 0
    assert daemon.orders == [{"event": {"type": "track", "userId": "1"}}]


def test_what_is_still_wrong_is_said(tmp_path):
    ran = events(tmp_path, Rejected(rejected(0)), "resend", "r0")
    assert ran.code == 1
    assert ran.err == "cdp: no_identity: name a person\n"


def test_what_is_no_json_cannot_be_patched(tmp_path):
    one = rejected(0) | {"body": "{broken"}
    ran = events(tmp_path, Rejected(one), "resend", "r0", "--patch", "-", stdin=b"{}")
    assert ran.code == 1
    assert "send the whole event with --event FILE" in ran.err


def test_all_are_sent_again_and_counted(tmp_path):
    good = {"type": "track", "userId": "1"}
    daemon = Rejected(rejected(0, body=good), rejected(1), rejected(2, body=good))
    ran = events(tmp_path, daemon, "resend", "--all")
    assert ran.code == 1
    assert ran.out.splitlines() == ["2 accepted", "1 still rejected: no_identity: name a person"]
    assert daemon.orders == [{}, {}, {}]


@pytest.mark.parametrize("argv", [["resend"], ["resend", "r0", "--all"]])
def test_which_event_must_be_said(tmp_path, argv):
    ran = events(tmp_path, Rejected(), *argv)
    assert ran.code == 2
    assert "say which event" in ran.err


def test_merging_a_patch_follows_its_standard():
    assert merge_patch({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None}, "d": [2]}) == {
        "a": {"c": 2},
        "d": [2],
    }
    assert merge_patch({"a": "x"}, {"a": {"b": {"c": None}}}) == {"a": {"b": {}}}
    assert merge_patch({"a": 1}, "text") == "text"


# ---------------------------------------------------------------- dead letters


def letter(number, reason="answered 400"):
    return {
        "id": f"crm:{number}",
        "destination": "crm",
        "kind": "event",
        "event_offset": number,
        "profile_id": "5bb0" * 8,
        "attempts": 3,
        "first_attempt_at": "2026-01-01T00:00:00.000Z",
        "died_at": "2026-01-02T00:00:00.000Z",
        "reason": reason,
    }


def dead(*letters):
    return Daemon(
        {
            ("GET", "/v1/dead-letters"): listing(list(letters)),
            ("POST", "/v1/redrive"): lambda request: httpx.Response(
                200,
                json={
                    "destination": "crm",
                    "count": sum(
                        json.loads(request.content).get("reason", "") in one["reason"]
                        for one in letters
                    ),
                },
            ),
            ("POST", "/v1/replay"): {"destination": "crm", "start": 4, "until": 90, "position": 4},
        }
    )


def test_dead_letters_are_listed_with_their_reason(tmp_path):
    daemon = dead(letter(1), letter(2, "answered 413"))
    ran = cdp(tmp_path, "dead-letters", "list", "--destination", "crm", daemon=daemon)
    assert "crm:1" in ran.out
    assert "answered 413" in ran.out
    assert daemon.requests[0].url.params["destination"] == "crm"
    narrowed = cdp(tmp_path, "dead-letters", "list", "--reason", "413", "--json", daemon=daemon)
    assert [one["id"] for one in narrowed.json] == ["crm:2"]


def test_one_dead_letter_is_shown_in_full(tmp_path):
    assert cdp(tmp_path, "dead-letters", "show", "crm:1", daemon=dead(letter(1))).json == letter(1)
    assert cdp(tmp_path, "dead-letters", "show", "crm:7", daemon=dead(letter(1))).code == 1


def test_a_redrive_shows_how_many_and_asks(tmp_path):
    daemon = dead(letter(1), letter(2), letter(3, "answered 413"))
    ran = cdp(tmp_path, "redrive", "crm", daemon=daemon, stdin=b"n\n")
    assert ran.code == 1
    assert "2  answered 400" in ran.out
    assert "send 3 again?" in ran.err
    assert daemon.bodies("/v1/redrive") == []


def test_a_redrive_of_everything_is_one_order(tmp_path):
    daemon = dead(letter(1), letter(2))
    ran = cdp(tmp_path, "redrive", "crm", daemon=daemon, stdin=b"y\n")
    assert ran.code == 0
    assert daemon.bodies("/v1/redrive") == [{"destination": "crm"}]
    assert "2 on their way again" in ran.out


def test_a_redrive_with_a_reason_is_one_order_too(tmp_path):
    daemon = dead(letter(1), letter(2, "answered 413"))
    ran = cdp(tmp_path, "redrive", "crm", "--reason", "413", "--yes", daemon=daemon)
    assert ran.code == 0
    assert daemon.bodies("/v1/redrive") == [{"destination": "crm", "reason": "413"}]
    assert "1 on their way again" in ran.out


def test_a_dry_run_orders_nothing(tmp_path):
    daemon = dead(letter(1))
    assert cdp(tmp_path, "redrive", "crm", "--dry-run", daemon=daemon).code == 0
    assert daemon.bodies("/v1/redrive") == []


def test_a_redrive_of_nothing_says_so(tmp_path):
    ran = cdp(tmp_path, "redrive", "crm", daemon=dead())
    assert (ran.code, ran.out) == (0, "no dead letter of crm is meant\n")


@pytest.mark.parametrize(
    ("start", "body"),
    [("17", {"from_offset": 17}), ("2026-03-01T00:00:00Z", {"from_time": "2026-03-01T00:00:00Z"})],
)
def test_a_replay_begins_at_a_time_or_an_offset(tmp_path, start, body):
    daemon = dead()
    ran = cdp(tmp_path, "replay", "crm", "--from", start, "--yes", daemon=daemon)
    assert ran.code == 0
    assert daemon.bodies("/v1/replay") == [{"destination": "crm", **body}]
    assert "replaying activations 4 to 90 to crm" in ran.out


def test_a_replay_asks_first(tmp_path):
    daemon = dead()
    assert cdp(tmp_path, "replay", "crm", "--from", "0", daemon=daemon).code == 1
    assert daemon.requests == []
