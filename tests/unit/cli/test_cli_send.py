"""Every line is sent once, or named; a failed batch is sent again as it was."""

import json
from base64 import b64decode

import httpx
import pytest
from terminal import Daemon, cdp

from cdp.cli.send import ATTEMPTS_MAX, BATCH_BYTES_MAX, Tally, chunks

TRACK = {"type": "track", "userId": "u1", "event": "Order"}


class Gateway:
    """Takes batches like the daemon: counts duplicates by messageId, rejects what has no user."""

    def __init__(self, failures=()):
        self.failures = list(failures)
        self.seen = set()
        self.batches = []
        self.keys = set()

    def __call__(self, request):
        assert str(request.url).endswith("/v1/batch")
        self.keys.add(b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode())
        batch = json.loads(request.content)["batch"]
        self.batches.append(batch)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        rejected = [
            {"index": i, "messageId": e["messageId"], "code": "no_identity", "message": "who?"}
            for i, e in enumerate(batch)
            if "userId" not in e
        ]
        good = [e["messageId"] for e in batch if "userId" in e]
        fresh = {one for one in good if one not in self.seen}
        self.seen |= fresh
        return httpx.Response(
            200,
            json={
                "success": True,
                "accepted": len(fresh),
                "duplicates": len(good) - len(fresh),
                "rejected": rejected,
            },
        )


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Retries wait in virtual time, which a test of a whole command cannot have: do not wait."""

    async def at_once(seconds):
        assert 0 < seconds <= 20

    monkeypatch.setattr("cdp.cli.send.trio.sleep", at_once)


def lines(*events):
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def test_every_line_is_counted(tmp_path):
    gateway = Gateway()
    content = (
        lines(TRACK, {**TRACK, "event": "B"}, {"type": "track", "event": "C"}) + b"{oops\n[]\n"
    )
    ran = cdp(tmp_path, "send", "-", "--json", daemon=gateway, stdin=content)
    assert ran.code == 1
    counts = ran.json
    first, *others = counts.pop("problems")
    assert first.startswith("line 4: not JSON: ")
    assert others == ["line 5: not a JSON object", "line 3: no_identity: who?"]
    assert counts == {
        "lines": 5,
        "accepted": 2,
        "duplicate": 0,
        "rejected": 1,
        "invalid": 2,
        "retries": 0,
    }


def test_the_first_source_is_used_or_the_one_that_is_named(tmp_path):
    gateway = Gateway()
    cdp(tmp_path, "send", "-", daemon=gateway, stdin=lines(TRACK))
    cdp(tmp_path, "send", "-", "--source", "backend", daemon=gateway, stdin=lines(TRACK))
    cdp(tmp_path, "send", "-", "--write-key", "other", daemon=gateway, stdin=lines(TRACK))
    assert gateway.keys == {"wk_web:", "wk_back:", "other:"}


def test_an_unknown_source_is_refused_with_those_there_are(tmp_path):
    ran = cdp(tmp_path, "send", "-", "--source", "webb", stdin=lines(TRACK))
    assert ran.code == 2
    assert "has no source webb; it has: website, backend" in ran.err


def test_sending_a_file_twice_counts_nothing_twice(tmp_path):
    gateway = Gateway()
    file = tmp_path / "events.ndjson"
    file.write_bytes(lines(TRACK, TRACK, {**TRACK, "messageId": "mine"}))
    first = cdp(tmp_path, "send", str(file), "--json", daemon=gateway)
    again = cdp(tmp_path, "send", str(file), "--json", daemon=gateway)
    # Two equal lines are two events: their places differ.
    assert (first.json["accepted"], first.json["duplicate"]) == (3, 0)
    assert (again.json["accepted"], again.json["duplicate"]) == (0, 3)
    assert "mine" in gateway.seen


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503, headers={"Retry-After": "3"}),
        httpx.Response(429, headers={"Retry-After": "nonsense"}),
    ],
    ids=["refused", "timeout", "503", "429"],
)
def test_what_may_pass_is_tried_again_with_the_same_bytes(tmp_path, failure):
    gateway = Gateway([failure, failure])
    ran = cdp(tmp_path, "send", "-", "--json", daemon=gateway, stdin=lines(TRACK))
    assert ran.code == 0
    assert ran.json["accepted"] == 1
    assert ran.json["retries"] == 2
    assert gateway.batches[0] == gateway.batches[1] == gateway.batches[2]


def test_after_the_last_attempt_it_says_that_sending_again_is_safe(tmp_path):
    gateway = Gateway([httpx.ConnectError("refused")] * ATTEMPTS_MAX)
    ran = cdp(tmp_path, "send", "-", daemon=gateway, stdin=lines(TRACK))
    assert ran.code == 1
    assert f"gave up at line 1 after {ATTEMPTS_MAX} attempts" in ran.err
    assert "nothing is counted twice" in ran.err


def test_a_refusal_is_not_tried_again(tmp_path):
    gateway = Gateway([httpx.Response(401, json={"code": "x", "message": "invalid write key"})])
    ran = cdp(tmp_path, "send", "-", daemon=gateway, stdin=lines(TRACK))
    assert ran.code == 1
    assert "answered 401: invalid write key" in ran.err
    assert len(gateway.batches) == 1


def test_a_server_that_is_no_gateway_is_recognised(tmp_path):
    daemon = Daemon({("POST", "/v1/batch"): {"success": True}})
    ran = cdp(tmp_path, "send", "-", daemon=daemon, stdin=lines(TRACK))
    assert ran.code == 1
    assert "is not a gateway of cdp" in ran.err


def test_batches_are_bounded_in_events_and_in_bytes():
    import io

    small = lines(*[TRACK] * 25)
    assert [len(c.events) for c in chunks(io.BytesIO(small), 10, Tally())] == [10, 10, 5]
    large = lines(*[{**TRACK, "x": "y" * 100_000}] * 9)
    sizes = [len(c.body()) for c in chunks(io.BytesIO(large), 1_000, Tally())]
    assert len(sizes) == 3
    assert max(sizes) <= BATCH_BYTES_MAX + 100


def test_the_bytes_of_the_file_are_all_accounted_for():
    import io

    content = b"\n" + lines(TRACK) + b"oops\n\n" + lines(TRACK)
    assert sum(c.read_bytes for c in chunks(io.BytesIO(content), 1, Tally())) == len(content)


def test_a_missing_file_is_said(tmp_path):
    ran = cdp(tmp_path, "send", str(tmp_path / "no.ndjson"))
    assert ran.code == 2
    assert "no.ndjson: No such file" in ran.err
