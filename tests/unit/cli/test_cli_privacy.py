"""A person's rights from the command line: what is asked of the daemon, and what is shown."""

import hashlib
import json
import stat

import httpx
import pytest
from terminal import Daemon, cdp, listing

REQUESTS = "/v1/privacy/requests"
ID = "1" * 32
ONE = f"{REQUESTS}/{ID}"
ADA = {"email": "ada@example.com"}


def told(state="received", **more):
    return {
        "id": ID,
        "kind": "erasure",
        "state": state,
        "external_id": "ticket 7",
        "regulation": "gdpr",
        "received_at": "2026-03-01T12:00:00.000Z",
        "due_at": "2026-03-31T12:00:00.000Z",
        "stages": {},
        "stores": [],
        "destinations": [],
        "exports": [],
        **more,
    }


ENDED = told(
    "complete",
    stages={"sealed": "2026-03-01T12:00:01.000Z"},
    stores=[{"store": "events", "state": "erased", "seconds": 0.2}],
    destinations=[{"destination": "crm", "state": "confirmed", "sent_at": "2026-03-01T12:00:02Z"}],
    exports=["json", "html"],
)
RECEIPT = {"request_id": ID, "checkpoint": {"size": 9, "root": "ab"}, "signature": "c2ln"}
HELD = {
    "profile_id": "5bb0" * 8,
    "suppressed": False,
    "events": 12,
    "recipients": [{"destination": "crm", "since": "2026-01-01T00:00:00.000Z"}],
    "purposes": {"ads": "denied", "[bold]analytics": "granted"},
}


class Rights(Daemon):
    """A daemon whose request goes through its states, one a look."""

    def __init__(self, *states, **answers):
        super().__init__()
        self.states = list(states) or [ENDED]
        self.answers = {
            ("GET", "/v1/privacy/why"): HELD,
            ("POST", REQUESTS): httpx.Response(201, json=told()),
            ("GET", ONE): self.look,
            ("POST", f"{ONE}/verify"): told("verified"),
            ("POST", f"{ONE}/approve"): told("approved"),
            ("GET", f"{ONE}/receipt"): RECEIPT,
            **answers,
        }

    def look(self, request):
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    @property
    def orders(self):
        return [
            (one.url.path.removeprefix("/v1/privacy/"), json.loads(one.content))
            for one in self.requests
            if one.method == "POST"
        ]


def run(tmp_path, *argv, daemon, stdin=b""):
    return cdp(tmp_path, "privacy", *argv, daemon=daemon, stdin=stdin)


VERIFY = (f"requests/{ID}/verify", {"by": "eve", "method": "by an operator at the command line"})
APPROVE = (f"requests/{ID}/approve", {"by": "eve"})


def test_an_erasure_shows_what_it_is_about_and_does_nothing_without_a_yes(tmp_path):
    for answer in (b"", b"n\n", b"\n"):
        daemon = Rights()
        ran = run(tmp_path, "erase", "ada@example.com", daemon=daemon, stdin=answer)
        assert ran.code == 1
        assert daemon.orders == []
        assert "crm" in ran.out
        assert "cannot be undone" in ran.err
        assert "nothing was erased" in ran.err


def test_an_erasure_is_requested_verified_approved_and_proven(tmp_path):
    daemon = Rights(told(), told("sealed"), ENDED)
    ran = run(tmp_path, "erase", "ada@example.com", "--by", "eve", daemon=daemon, stdin=b"yes\n")
    assert ran.code == 0
    assert daemon.orders == [
        ("requests", {"kind": "erasure", "identifiers": ADA}),
        VERIFY,
        APPROVE,
    ]
    for shown in ("complete", "events", "erased", "confirmed", "receipt", "c2ln", "sealed"):
        assert shown in ran.out


def test_a_request_that_came_over_http_is_approved_by_its_id(tmp_path):
    daemon = Rights(told("verified"), told("verified"), ENDED)
    ran = run(tmp_path, "erase", "--request", ID, "--yes", "--by", "eve", "--json", daemon=daemon)
    assert ran.code == 0
    assert daemon.orders == [APPROVE]
    assert "ticket 7" in ran.out
    assert '"signature": "c2ln"' in ran.out


@pytest.mark.parametrize("argv", [[], ["ada@example.com", "--request", ID]])
def test_an_erasure_is_of_a_person_or_of_a_request(tmp_path, argv):
    daemon = Rights()
    ran = run(tmp_path, "erase", *argv, "--yes", daemon=daemon)
    assert ran.code == 1
    assert daemon.requests == []


def test_an_erasure_that_takes_longer_goes_on_by_itself(tmp_path):
    daemon = Rights(told(), told("downstream"))
    ran = run(tmp_path, "erase", "42", "--yes", "--wait", "0", daemon=daemon)
    assert ran.code == 0
    assert f"cdp privacy status {ID}" in ran.err


@pytest.mark.parametrize("state", ["partially_complete", "denied", "cancelled"])
def test_what_did_not_reach_everything_is_not_a_success(tmp_path, state):
    ran = run(tmp_path, "erase", "42", "--yes", daemon=Rights(told(), told(state)))
    assert ran.code == 1
    assert state in ran.out


def test_a_refusal_of_the_daemon_is_said_in_its_words(tmp_path):
    error = {"error": {"code": "validation_error", "message": "no identifier is usable"}}
    daemon = Rights(**{})
    daemon.answers["POST", REQUESTS] = httpx.Response(400, json=error)
    ran = run(tmp_path, "erase", "42", "--yes", daemon=daemon)
    assert ran.code == 1
    assert "no identifier is usable" in ran.err


def test_an_export_is_written_for_its_owner_only_and_never_over_another_file(tmp_path):
    daemon = Rights(told(), ENDED)
    document = b'{"schema":"cdp.person"}'
    daemon.answers["GET", f"/v1/privacy/export/{ID}.json"] = httpx.Response(200, content=document)
    file = tmp_path / "ada.json"
    ran = run(tmp_path, "export", "email:ada@example.com", "-o", str(file), daemon=daemon)
    assert ran.code == 0
    assert file.read_bytes() == document
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert daemon.orders[0] == ("requests", {"kind": "access", "identifiers": ADA})
    again = run(tmp_path, "export", "email:ada@example.com", "-o", str(file), daemon=daemon)
    assert again.code == 1
    assert "is there already" in again.err
    assert file.read_bytes() == document


def test_an_export_to_the_terminal_is_the_document_and_nothing_else(tmp_path):
    daemon = Rights(told(), ENDED)
    page = "<!DOCTYPE html><p>[bold]Köln</p>\n"
    daemon.answers["GET", f"/v1/privacy/export/{ID}.html"] = httpx.Response(
        200, content=page.encode()
    )
    ran = run(tmp_path, "export", "42", "--html", daemon=daemon)
    assert (ran.code, ran.out) == (0, page)


def test_an_export_that_is_not_there_leaves_no_file(tmp_path):
    file = tmp_path / "ada.json"
    ran = run(
        tmp_path, "export", "42", "--wait", "0", "-o", str(file), daemon=Rights(told("on_hold"))
    )
    assert ran.code == 1
    assert "on_hold" in ran.err
    assert not file.exists()


def test_what_is_on_hold_is_not_approved_by_the_way(tmp_path):
    daemon = Rights(told("on_hold"))
    ran = run(tmp_path, "erase", "--request", ID, "--yes", daemon=daemon)
    assert (ran.code, daemon.orders) == (0, [])
    assert "on_hold" in ran.out


def test_status_lists_requests_and_shows_one_in_full(tmp_path):
    daemon = Rights(ENDED)
    daemon.answers["GET", REQUESTS] = listing([told("sealed")])
    ran = run(tmp_path, "status", daemon=daemon)
    assert (ran.code, "sealed" in ran.out, "ticket 7" in ran.out) == (0, True, True)
    ran = run(tmp_path, "status", ID, daemon=daemon)
    for shown in ("stores", "events", "erased", "destinations", "crm", "confirmed"):
        assert shown in ran.out
    assert run(tmp_path, "status", ID, "--json", daemon=daemon).json == ENDED
    daemon.answers["GET", REQUESTS] = listing([])
    assert "nobody has asked" in run(tmp_path, "status", daemon=daemon).out


@pytest.mark.parametrize(
    ("argv", "params"),
    [
        (["email:ada@example.com"], {"identifier": "email:ada@example.com"}),
        (["+4917"], {"identifier": "phone:+4917"}),
        (["user_id:a b", "crm"], {"identifier": "user_id:a b", "destination": "crm"}),
        (["0f6c-1", "crm"], {"event": "0f6c-1", "destination": "crm"}),
    ],
)
def test_why_asks_about_a_person_or_about_a_delivery(tmp_path, argv, params):
    daemon = Rights()
    ran = run(tmp_path, "why", *argv, daemon=daemon)
    assert ran.code == 0
    assert dict(daemon.requests[0].url.params) == params
    assert "[bold]analytics" in ran.out


def test_a_restriction_is_a_request_and_can_be_lifted(tmp_path):
    daemon = Rights(told(), told("complete", kind="restriction"))
    ran = run(tmp_path, "restrict", "42", "--by", "eve", daemon=daemon, stdin=b"y\n")
    assert ran.code == 0
    assert daemon.orders[0][1] == {
        "kind": "restriction",
        "identifiers": {"user_id": "42"},
        "lift": False,
    }
    daemon = Rights()
    run(tmp_path, "restrict", "42", "--lift", "--yes", daemon=daemon)
    assert daemon.orders[0][1]["lift"] is True
    daemon = Rights()
    assert run(tmp_path, "restrict", "42", daemon=daemon).code == 1
    assert daemon.orders == []


def test_a_suppression_is_lifted_with_a_reason_and_after_a_yes(tmp_path):
    daemon = Rights()
    daemon.answers["POST", "/v1/privacy/unsuppress"] = {"unsuppressed": 1}
    assert run(tmp_path, "unsuppress", "42", "--yes", daemon=daemon).code == 2
    argv = ["unsuppress", "42", "--reason", "came back", "--by", "eve"]
    assert run(tmp_path, *argv, daemon=daemon).code == 1
    assert daemon.orders == []
    assert run(tmp_path, *argv, daemon=daemon, stdin=b"y\n").code == 0
    assert daemon.orders == [
        (
            "unsuppress",
            {"identifiers": {"user_id": "42"}, "by": "eve", "reason": "came back"},
        )
    ]


def test_an_attestation_carries_the_hash_of_its_evidence_and_not_the_evidence(tmp_path):
    letter = tmp_path / "letter.pdf"
    letter.write_bytes(b"dear sir")
    daemon = Rights()
    daemon.answers["POST", f"{ONE}/attest"] = ENDED
    argv = ["attest", ID, "crm", "--by", "eve"]
    assert run(tmp_path, *argv, "--file", str(letter), daemon=daemon).code == 0
    digest = hashlib.sha256(b"dear sir").hexdigest()
    body = {"by": "eve", "destination": "crm", "file_sha256": digest}
    assert daemon.orders == [(f"requests/{ID}/attest", body)]
    ran = run(tmp_path, *argv, "--file", str(tmp_path / "none"), daemon=daemon)
    assert ran.code == 1
    assert "cannot be read" in ran.err


def test_a_request_is_cancelled_by_its_id(tmp_path):
    daemon = Rights()
    daemon.answers["DELETE", ONE] = told("cancelled")
    ran = run(tmp_path, "cancel", ID, "--by", "eve", daemon=daemon)
    assert (ran.code, "cancelled" in ran.out) == (0, True)
    assert daemon.requests[0].url.params["by"] == "eve"


def test_the_audit_shows_what_is_kept_without_need_and_fails_then(tmp_path):
    daemon = Rights()
    finding = {"kind": "unused", "where": "properties.shoe_size", "text": "no use", "count": 0}
    daemon.answers["GET", "/v1/privacy/audit"] = {"findings": [finding]}
    ran = run(tmp_path, "audit", daemon=daemon)
    assert ran.code == 1
    assert "properties.shoe_size" in ran.out
    daemon.answers["GET", "/v1/privacy/audit"] = {"findings": []}
    ran = run(tmp_path, "audit", daemon=daemon)
    assert (ran.code, ran.out) == (0, "nothing is kept without need\n")


REGISTERED = """
[control]
port = 8081
[identity]
key = "env:TOKEN"
[sources.website]
write_key = "wk_web"
[consent.purposes.ads]
title = "Advertising"
sale_or_share = true
[consent.purposes.billing]
bases = { gdpr = "necessary", ccpa = "necessary" }
[destinations.crm]
type = "file"
purposes = ["billing"]
settings = { path = "crm.ndjson" }
[destinations.partner]
type = "file"
purposes = ["ads", "billing"]
settings = { path = "partner.ndjson" }
"""


def test_the_register_shows_each_purpose_at_each_destination_with_its_ground(tmp_path):
    ran = cdp(tmp_path, "privacy", "register", "--json", config=REGISTERED)
    assert ran.code == 0, ran.err
    rows = {(row["purpose"], row["destination"]): row for row in ran.json}
    assert {key for key in rows if key[0] in ("ads", "billing")} == {
        ("ads", "partner"),
        ("billing", "crm"),
        ("billing", "partner"),
    }
    ads = rows["ads", "partner"]
    assert (ads["bases"]["gdpr"], ads["bases"]["ccpa"]) == ("opt_in", "opt_out")
    assert (ads["title"], ads["sale_or_share"]) == ("Advertising", True)
    assert rows["billing", "crm"]["bases"]["gdpr"] == "necessary"
    table = cdp(tmp_path, "privacy", "register", config=REGISTERED).out
    assert "Advertising" in table
    assert "opt_in" in table


def test_the_register_needs_no_daemon_and_refuses_a_wrong_configuration(tmp_path):
    broken = REGISTERED.replace('type = "file"', 'type = "nothing"', 1)
    ran = cdp(tmp_path, "privacy", "register", config=broken)
    assert ran.code == 2
