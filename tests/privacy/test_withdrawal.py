"""A withdrawal while an attempt is under way: it is called back, and that is written down."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import urllib.request
from threading import Event, Thread
from typing import Any

import pytest

from tests.crash.daemon import ENVIRON, ROOT, WRITE_KEY, Daemon, Settings

WAIT_S = 30.0  # far below the time that the destination would be given to answer
TIMEOUT_S = 300


class Silent:
    """A tool that takes a request, never answers, and notices when its caller goes away."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/events"
        self.got, self.left = Event(), Event()
        self.body = b""
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while data := connection.recv(65_536):
                self.body += data
                if b"Page Scrolled" in self.body:
                    self.got.set()
        self.left.set()

    def close(self) -> None:
        self._listener.close()


def post(daemon: Daemon, path: str, body: dict[str, Any]) -> None:
    authorization = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{daemon.url}{path}", data=json.dumps(body).encode(), headers=headers
    )
    urllib.request.urlopen(request, timeout=10).close()


def recorded(daemon: Daemon) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "cdp", "--config", str(daemon.config)]
    done = subprocess.run(
        [*command, "audit", "log", "--action", "in_flight_at_withdrawal", "--json"],
        cwd=ROOT,
        env={**os.environ, **ENVIRON},
        capture_output=True,
        check=True,
        text=True,
    )
    return list(json.loads(done.stdout))


@pytest.mark.slow
def test_an_attempt_under_way_is_called_back_and_it_is_written_down_that_it_flew(tmp_path):
    tool = Silent()
    limits = {"deliver_timeout_s": TIMEOUT_S}
    with Daemon(tmp_path, Settings(webhook_url=tool.url, limits=limits)) as daemon:
        daemon.start()
        event = {"event": "Page Scrolled", "userId": "ann", "messageId": "m1"}
        post(daemon, "/v1/track", event)
        assert tool.got.wait(WAIT_S), "the event never flew"
        post(daemon, "/v1/consent", {"userId": "ann", "purposes": {"analytics": False}})
        assert tool.left.wait(WAIT_S), "the attempt was not called back"
        daemon.wait_until(lambda: recorded(daemon), "to write down what was in flight", WAIT_S)
        (record,) = recorded(daemon)
        counts = daemon.status()["destinations"]["hook"]
    tool.close()
    assert record["details"] == {"destination": "hook", "event_offsets": [0]}
    assert counts["filtered"] == {"withdrawn": 1}
