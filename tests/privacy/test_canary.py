"""A planted person, in every place that a sender can put one, through the real daemon.

Before the erasure nothing of the person may lie readable in the data directory, the journal, the
metrics or a backup: only the destinations have plain text. After it nothing of the person is
anywhere, late events do not bring anything back, and nor does a restored backup. Somebody else's
markers stay where they were: a scanner that finds nothing shows nothing.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash.daemon import IDENTITY_KEY, ROOT, WRITE_KEY, Daemon, Settings
from tests.privacy.scanner import Scanner

if TYPE_CHECKING:
    from pathlib import Path

ERASED_TIMEOUT_S = 60.0

_TABLES = """
[destinations.archive]
type = "file"
purposes = ["analytics"]
settings = { directory = "../archive" }
"""


@dataclass
class Person:
    """Somebody all of whose words are findable."""

    tag: str

    def mark(self, what: str) -> str:
        return f"Zq{self.tag}{what.replace('-', '')}81"

    @property
    def user_id(self) -> str:
        return self.mark("user")

    @property
    def email(self) -> str:
        return f"{self.mark('mail')}@canary.example".lower()

    def events(self) -> list[dict[str, Any]]:
        m = self.mark
        context = {
            "ip": "203.0.113.9",
            "userAgent": m("agent"),
            "page": {"url": f"https://shop.example/?name={m('query')}", "referrer": m("referrer")},
            "device": {"id": m("deviceid"), "advertisingId": m("advertising")},
            "externalIds": [{"id": m("crm"), "type": "crm_id", "collection": "users"}],
            "consent": {"categoryPreferences": {"analytics": True}, "proof": m("proof")},
        }
        device = {"anonymousId": m("device"), "context": context}
        return [
            {"type": "page", "messageId": m("message0"), "name": m("page"), **device},
            {
                "type": "identify",
                "messageId": m("message1"),
                "userId": self.user_id,
                "traits": {"email": self.email, "name": m("name"), m("traitkey"): m("trait")},
                **device,
            },
            {
                "type": "track",
                "messageId": m("message2"),
                "userId": self.user_id,
                "event": m("event"),
                "properties": {m("key"): m("value"), "deep": [{"in": m("deep")}]},
                m("extrakey"): m("extra"),
                **device,
            },
            {
                "type": "group",
                "messageId": m("message3"),
                "userId": self.user_id,
                "groupId": "acme",
                "context": context,
            },
            {
                "type": "alias",
                "messageId": m("message4"),
                "userId": self.user_id,
                "previousId": m("old"),
            },
            {"type": "track", "messageId": m("message5"), "userId": self.user_id, "note": m("bad")},
        ]

    def late(self) -> list[dict[str, Any]]:
        late = self.events()
        for event in late:
            event["messageId"] += "late"
        return late

    def markers(self) -> list[str]:
        words = (
            "user mail agent query referrer deviceid advertising crm proof device page name "
            "traitkey trait event key value deep extrakey extra old bad "
            "message0 message1 message2 message3 message4 message5"
        )
        return [self.mark(word) for word in words.split()] + [self.email]


ANN, BOB = Person("ann"), Person("bob")


class World:
    """A daemon whose archive lies beside its data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemon = Daemon(directory / "daemon", Settings(tables=_TABLES))
        self.archive = directory / "archive"
        self.backup = directory / "backup"
        self.ann, self.bob = Scanner(ANN.markers()), Scanner(BOB.markers())

    @property
    def ours(self) -> list[Path]:
        """Everything that the daemon itself writes."""
        found = [self.daemon.data_dir, self.daemon.journal]
        return [*found, self.backup] if self.backup.exists() else found

    def send(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        credentials = base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
        body = json.dumps({"batch": events}).encode()
        headers = {"Authorization": f"Basic {credentials}"}
        request = urllib.request.Request(f"{self.daemon.url}/v1/batch", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def order(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.daemon.control_port}{path}"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def settle(self) -> None:
        def quiet() -> bool:
            status = self.daemon.status()
            lags = [one["lag"] for one in status["folds"].values()]
            owed = [one["lag"] + one["pending"] for one in status["destinations"].values()]
            return not any(lags + owed)

        self.daemon.wait_until(quiet, "to have delivered everything", 60)

    def archived(self, scanner: Scanner) -> set[str]:
        """The markers in the archive, once its buffer is on disk."""
        return (
            {hit.marker for hit in scanner.in_tree(self.archive)}
            if self.archive.exists()
            else set()
        )

    def knows(self, person: Person) -> bool:
        try:
            self.daemon.ask(f"/v1/profiles/user_id:{person.user_id}/traits")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return False
        return True

    def erase(self, person: Person) -> dict[str, Any]:
        body = {"kind": "erasure", "identifiers": {"user_id": person.user_id}}
        request = self.order("/v1/privacy/requests", body)
        one = f"/v1/privacy/requests/{request['id']}"
        self.order(f"{one}/verify", {"method": "passport"})
        self.order(f"{one}/approve", {})
        until = time.monotonic() + ERASED_TIMEOUT_S
        while (told := self.daemon.ask(one))["state"] not in (
            "complete",
            "partially_complete",
        ):
            assert time.monotonic() < until, told
            time.sleep(0.05)
        return told

    def run_cli(self, *words: str) -> None:
        command = [sys.executable, "-m", "cdp", "--config", str(self.daemon.config), *words]
        environment = {"CDP_IDENTITY_KEY": IDENTITY_KEY, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=environment, cwd=self.directory)

    def restore(self) -> None:
        """What an operator does: the database from the backup; keys and erasure ledger stay."""
        for path in self.backup.iterdir():
            target = self.daemon.data_dir / path.name
            if path.name in ("keys", "erasures.log", "LOCK"):
                continue
            if target.is_dir():
                shutil.rmtree(target)
            (shutil.copytree if path.is_dir() else shutil.copy)(path, target)


@pytest.mark.slow
def test_nothing_of_an_erased_person_is_anywhere_and_nothing_brings_them_back(tmp_path):
    world = World(tmp_path)
    with world.daemon as daemon:
        daemon.start()
        answer = world.send(ANN.events() + BOB.events())
        assert (answer["accepted"], len(answer["rejected"])) == (10, 2)
        world.settle()
        assert world.knows(ANN)
        assert world.archived(world.ann), "the archive has plain text, else the scan shows nothing"
        daemon.stop()
        world.run_cli("backup", str(world.backup))
        assert not world.ann.in_tree(*world.ours), (
            "ciphertext only, in the live store and the backup"
        )
        assert not world.bob.in_tree(*world.ours)

        daemon.start()
        world.settle()
        bobs = world.archived(world.bob)
        told = world.erase(ANN)
        assert told["state"] == "complete", told
        _nothing_is_left(world, bobs)

        assert world.send(ANN.late())["accepted"] == 5  # as its sender sees it: nobody is told more
        world.settle()
        _nothing_is_left(world, bobs)

        daemon.stop()
        world.restore()
        daemon.start()
        world.settle()
        _nothing_is_left(world, bobs)
        world.send(ANN.late())
        world.settle()
        _nothing_is_left(world, bobs)


def _nothing_is_left(world: World, bobs: set[str]) -> None:
    assert not world.ann.in_tree(*world.ours)
    assert not world.archived(world.ann)
    assert not world.ann.in_bytes("metrics", _metrics(world))
    assert not world.knows(ANN)
    assert world.knows(BOB)
    assert world.archived(world.bob) >= bobs, "somebody else's data is untouched"


def _metrics(world: World) -> bytes:
    url = f"http://127.0.0.1:{world.daemon.control_port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()
