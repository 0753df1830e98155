"""Hostile clients over real sockets: each gets a clear answer, others theirs, memory is flat."""

from __future__ import annotations

import base64
import gzip
import json
import resource
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.consent.consent_strings import gpp_string, tc_string
from tests.unit.ingestion.front_door import Reply, parse_replies, request, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 20.0
MEGABYTE = 2**20


class Server:
    """Ingestion in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS_MAX)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def talk(self, *pieces: bytes, pause_s: float = 0.0) -> list[Reply]:
        """Sends everything, as far as the server lets us, and reads to the end."""
        with self.connect() as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause_s)
                connection.shutdown(socket.SHUT_WR)
            return parse_replies(read_all(connection))

    def post(self, body: bytes, path: str = "/v1/batch", **headers: str) -> Reply:
        [reply] = self.talk(request("POST", path, body, **headers))
        return reply

    def is_well(self) -> bool:
        started = time.monotonic()
        replies = self.talk(request("POST", "/v1/t", json.dumps(track(started)).encode()))
        return [reply.status for reply in replies] == [200] and time.monotonic() - started < 2

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def stop(self) -> str:
        output, _ = self._process.communicate(timeout=SECONDS_MAX)
        return output.strip()


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(65_536):
        data += part
    return data


@contextmanager
def serving(**limits: float) -> Iterator[Server]:
    command = [sys.executable, "-m", "tests.abuse.ingestion_process"]
    arguments = [f"{name}={value}" for name, value in limits.items()]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command + arguments, cwd=ROOT, stdin=pipe, stdout=pipe, text=True
    ) as made:
        try:
            server = Server(made)
            yield server
            assert server.is_well()
            assert server.stop() == "0", "a connection crashed"
        finally:
            made.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as made:
        for _ in range(20):
            made.is_well()
        yield made


def stays_flat(server: Server, abuse: Callable[[], object], times: int = 30) -> None:
    """Holds the memory of the server to what it was after some rounds of the same."""
    for _ in range(times):
        abuse()
    before = server.memory_bytes()
    for _ in range(times):
        abuse()
    grown = server.memory_bytes() - before
    assert grown <= 24 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB more"


def is_refused(reply: Reply, code: str, status: int = 400) -> None:
    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.headers["access-control-allow-origin"] == "*"


def test_bodies_of_ten_megabytes_are_refused_and_their_senders_read_why(server: Server) -> None:
    body = b'{"batch":[],"pad":"' + b"x" * 10 * MEGABYTE + b'"}'
    stays_flat(server, lambda: is_refused(server.post(body), "payload_too_large"))


def test_chunked_bodies_without_end_are_refused_as_they_come(server: Server) -> None:
    head = request("POST", "/v1/batch", Transfer_Encoding="chunked")
    head = head.replace(b"Content-Length: 0\r\n", b"")
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"

    def abuse() -> None:
        [reply] = server.talk(head, *[chunk] * 200)
        is_refused(reply, "payload_too_large")

    stays_flat(server, abuse, times=8)


@pytest.mark.parametrize("size", [5 * MEGABYTE, 500 * MEGABYTE])
def test_gzip_bombs_are_refused_while_they_inflate(server: Server, size: int) -> None:
    bomb = (
        gzip.compress(b" " * size, 9) if size < 10**8 else gzip.compress(b" " * MEGABYTE, 9) * 500
    )
    started = time.monotonic()

    def abuse() -> None:
        is_refused(server.post(bomb, Content_Encoding="gzip"), "payload_too_large")

    stays_flat(server, abuse)
    assert time.monotonic() - started < SECONDS_MAX


def test_a_hundred_thousand_empty_gzip_members_are_refused_at_once(server: Server) -> None:
    started = time.monotonic()
    body = gzip.compress(b"") * 100_000
    is_refused(server.post(body, Content_Encoding="gzip"), "invalid_json")
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("opener", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_nesting_costs_one_event_and_not_the_batch(
    server: Server, opener: bytes, depth: int
) -> None:
    closer = opener[::-1].translate(bytes.maketrans(b"[{", b"]}")).replace(b'"a"', b"")
    nested = opener * depth + b"1" + closer.replace(b":", b"") * depth
    event = b'{"type":"track","event":"e","userId":"u","properties":{"deep":%s}}' % nested
    good = json.dumps(track(f"{opener!r}{depth}")).encode()
    reply = server.post(b'{"batch":[%s,%s]}' % (event, good))
    assert reply.status == 200
    assert reply.json["accepted"] == 1
    assert reply.rejections[0][1] in ("event_too_deep", "event_too_large")
    assert server.post(opener * depth).status == 400


@pytest.mark.parametrize(
    "element", [b"1", b"{}", b"[]", b'""', b'{"a":1}', b"NaN"], ids=lambda one: one.decode()
)
def test_millions_of_tiny_elements_are_answered(server: Server, element: bytes) -> None:
    body = b'{"batch":[' + b",".join([element] * (4 * MEGABYTE // (len(element) + 1) - 20)) + b"]}"
    started = time.monotonic()
    reply = server.post(body)
    assert reply.status == 200
    assert reply.json["accepted"] == 0
    assert reply.json["rejectedTotal"] > 400_000
    assert time.monotonic() - started < SECONDS_MAX / 2


@pytest.mark.parametrize("where", ["properties", "context"])
def test_hundreds_of_thousands_of_keys_are_refused(server: Server, where: str) -> None:
    keys = b",".join(b'"k%d":1' % number for number in range(200_000))
    event = b'{"type":"track","event":"e","userId":"u","%s":{%s}}' % (where.encode(), keys)
    reply = server.post(b'{"batch":[' + event + b"]}")
    assert reply.rejections == [(0, "event_too_large")]
    shared = server.post(b'{"batch":[],"context":{' + keys + b"}}")
    is_refused(shared, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":[{"type":"track","event":"e","userId":"u","n":%s}]}' % (b"9" * 30_000),
        b'{"batch":[{"type":"track","event":"e","userId":"u","n":-1e%s}]}' % (b"9" * 5_000),
        b'{"batch":[{"type":"track","event":"e","userId":"\xc3\x28","n":NaN}]}',
        b'{"batch":[{"type":"track","event":"e","userId":"u","timestamp":%s}]}' % (b"9" * 5_000),
        b'{"batch":[{"type":"track","event":"e","userId":1e400,"anonymousId":"a"}]}',
    ],
    ids=range(5),
)
def test_huge_numbers_and_broken_text_are_stored(server: Server, body: bytes) -> None:
    reply = server.post(body)
    assert reply.status == 200
    assert reply.json["accepted"] == 1, reply.json


BAD_KEYS = [
    b"Basic",
    b"Basic ",
    b"Basic =====",
    b"Basic " + b"A" * 8_000,
    b"Basic " + base64.b64encode(b"\xff\xfe\x00:"),
    b"Basic " + base64.b64encode(b":"),
    b"Bearer",
    b"Bearer \xff",
    b"Digest x",
    b"wk_test",
]


@pytest.mark.parametrize("authorization", BAD_KEYS, ids=range(len(BAD_KEYS)))
def test_bad_keys_are_401(server: Server, authorization: bytes) -> None:
    body = json.dumps({"batch": [track()]}).encode()
    [reply] = server.talk(request("POST", "/v1/batch", body, auth=authorization))
    is_refused(reply, "invalid_write_key", 401)


CONSENT_STRINGS = (
    "",
    "DDDD",
    "C" + "_" * 4_095,
    "C" * 4_097,
    "D" + "_" * 127 + "~" * 3_900,
    "~" * 4_096,
    "." * 4_096,
    tc_string(disclosed=[(1, 25_000)]),
    tc_string(vendor_consents=[(n, 65_535) for n in range(1, 700)]),
    gpp_string({2: tc_string(vendor_consents=[(n, n) for n in range(1, 1_350)])}),
    "é\u0000\ud800",
)


@pytest.mark.parametrize("name", ["tcf", "gpp"])
@pytest.mark.parametrize("text", CONSENT_STRINGS, ids=range(len(CONSENT_STRINGS)))
def test_consent_strings_of_any_kind_cost_little_and_lose_no_event(
    server: Server, name: str, text: str
) -> None:
    """A new string each time, so that none is remembered: 500 of them, 1 ms for each."""
    numbers = iter(range(10**9))

    def batch() -> None:
        events = [
            track(f"{name}-{text[:4]}-{number}", context={"consent": {name: f"{text}{number}"}})
            for number in (next(numbers) for _ in range(100))
        ]
        reply = server.post(json.dumps({"batch": [*events, consenting(name, text)]}).encode())
        assert reply.status == 200
        assert reply.json["rejected"] == []

    started_s = time.monotonic()
    for _ in range(5):
        batch()
    assert time.monotonic() - started_s < 2.0
    stays_flat(server, batch, times=10)
    assert server.is_well()


def consenting(name: str, text: str) -> dict[str, Any]:
    consent = {name: text, "categoryPreferences": {"ads": True}}
    return track(f"last-{name}-{text[:4]}", context={"consent": consent})


@pytest.mark.parametrize("key", [3, None, ["wk_test"], {"a": 1}, "x" * 10_000, "wk_test\u0000x"])
def test_bad_keys_in_bodies_are_401(server: Server, key: Any) -> None:
    body = json.dumps({"batch": [track()], "writeKey": key}).encode()
    [reply] = server.talk(request("POST", "/v1/batch", body, auth=None))
    is_refused(reply, "invalid_write_key", 401)


def test_half_requests_leave_nothing_behind(server: Server) -> None:
    whole = request("POST", "/v1/batch", json.dumps({"batch": [track()]}).encode() * 100)

    def abuse() -> None:
        for cut in range(1, len(whole), 37):
            with server.connect() as connection:
                connection.sendall(whole[:cut])

    stays_flat(server, abuse, times=2)


def test_slow_heads_and_bodies_are_ended_and_others_served_meanwhile() -> None:
    with serving(header_timeout_s=1, body_grace_s=1, body_bytes_per_s_min=1_000) as server:
        head = server.connect()
        head.sendall(b"POST /v1/batch HTTP/1.1\r\nHost: a\r\n")
        body = server.connect()
        body.sendall(request("POST", "/v1/batch", b" " * 90_000)[:-89_000])
        started = time.monotonic()
        assert server.is_well()
        for connection in (head, body):
            [reply] = parse_replies(read_all(connection))
            is_refused(reply, "request_timeout", 408)
            connection.close()
        assert time.monotonic() - started < 5


def test_ten_thousand_idle_connections_cost_little_and_end_by_themselves() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 200)
    try:
        with serving(idle_timeout_s=4) as server:
            server.is_well()
            before = server.memory_bytes()
            connections = [server.connect() for _ in range(count)]
            assert server.is_well()
            each = (server.memory_bytes() - before) / count
            assert each < 24_000, f"{each:.0f} bytes a connection"
            deadline = time.monotonic() + SECONDS_MAX
            assert connections[-1].recv(1) == b""
            assert time.monotonic() < deadline
            for connection in connections:
                connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_crowd_beyond_the_limit_is_told_to_come_back() -> None:
    with serving(connections_max=50, connections_per_ip_max=50) as server:
        crowd = [server.connect() for _ in range(50)]
        time.sleep(0.2)
        [reply] = server.talk(request("GET", "/health"))
        is_refused(reply, "overloaded", 503)
        assert int(reply.headers["retry-after"]) >= 1
        for connection in crowd:
            connection.close()
        time.sleep(0.2)


def test_a_flood_of_pipelined_requests_is_answered_whole(server: Server) -> None:
    ping = request("GET", "/health")
    with server.connect() as connection:
        connection.sendall(ping * 5_000)
        connection.shutdown(socket.SHUT_WR)
        replies = parse_replies(read_all(connection))
    assert [reply.status for reply in replies] == [200] * 5_000
