"""What a person agreed to, at the command line."""

from __future__ import annotations

import httpx
import pytest
from terminal import Daemon, cdp

STANDING = {
    "suppressed": False,
    "restricted": True,
    "global_privacy_control": True,
    "purposes": {
        "ads": {
            "state": "denied",
            "record": 7,
            "at": "2026-01-01T00:00:00.000Z",
            "how": "gpc",
            "said_by": "public",
            "policy": None,
            "expires_at": None,
        }
    },
}
RECORD = {
    "record": 7,
    "action": "said",
    "purposes": {"ads": False, "mail": True},
    "objection": False,
    "how": "api",
    "said_by": "server",
    "source": "control",
    "received_at": "2026-01-01T00:00:00.000Z",
    "policy": "shop@3",
    "proof": {"method": "a letter"},
}


def daemon(standing=STANDING, records=(RECORD,)):
    return Daemon(
        {
            ("GET", "/v1/consent"): {"identifiers": 1, "standing": standing},
            ("GET", "/v1/consent/history"): {"data": list(records)},
            ("POST", "/v1/consent"): httpx.Response(201, json={"records": [8]}),
        }
    )


def test_it_shows_where_each_purpose_stands(tmp_path):
    asked = daemon()
    ran = cdp(tmp_path, "consent", "show", "ada@example.com", daemon=asked)
    assert ran.code == 0
    assert asked.requests[0].url.params["identifier"] == "email:ada@example.com"
    for words in ("ads", "denied", "gpc", "processing is restricted", "Global Privacy Control"):
        assert words in ran.out
    ran = cdp(tmp_path, "consent", "show", "ada@example.com", "--json", daemon=asked)
    assert ran.json["standing"] == STANDING


def test_it_shows_what_was_said(tmp_path):
    ran = cdp(tmp_path, "consent", "history", "user_id:7", daemon=daemon())
    assert "yes to mail; no to ads" in ran.out
    assert "a letter" in ran.out
    for change, words in (
        ({"objection": True, "purposes": {"ads": False}}, "objected to ads"),
        ({"action": "restricted"}, "restricted"),
        ({"how": "gpc", "purposes": {}}, "Global Privacy Control"),
    ):
        asked = daemon(records=[RECORD | change])
        assert words in cdp(tmp_path, "consent", "history", "user_id:7", daemon=asked).out


def test_it_says_where_nothing_was_said(tmp_path):
    nothing = {**STANDING, "restricted": False, "global_privacy_control": False, "purposes": {}}
    for action in ("show", "history"):
        ran = cdp(tmp_path, "consent", action, "user_id:7", daemon=daemon(nothing, ()))
        assert ran.out == "nothing was ever said about any purpose\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["grant", "user_id:7", "ads", "mail"], {"purposes": {"ads": True, "mail": True}}),
        (["withdraw", "user_id:7", "ads"], {"purposes": {"ads": False}}),
        (["object", "user_id:7", "ads"], {"purposes": {"ads": False}, "objection": True}),
        (
            ["grant", "user_id:7", "ads", "--policy", "shop", "--method", "form", "--at", "T"],
            {
                "purposes": {"ads": True},
                "proof": {"policy": "shop", "method": "form"},
                "at": "T",
            },
        ),
    ],
)
def test_what_a_person_says_is_sent_to_the_daemon(tmp_path, argv, said):
    asked = daemon()
    ran = cdp(tmp_path, "consent", *argv, "--by", "eve", daemon=asked)
    assert (ran.code, ran.out) == (0, "recorded; see: cdp consent history user_id:7\n")
    order = {"identifiers": {"user_id": "7"}, "kind": "console", "by": "eve", "proof": {}}
    assert asked.bodies("/v1/consent") == [order | said]
