"""A person of a small world, and the document of what is held about them."""

import json
import random

from cdp.config import Limits
from cdp.consent.access import AccessExport, JsonForm
from cdp.console.access_page import PageForm
from cdp.console.holdings import StoredHoldings
from cdp.domain.event import ConsentStamp
from cdp.ingestion.normalisation import Scope, normalise
from cdp.storage.exports import ExportFiles
from tests.unit.identity.world import START, World, event

REQUEST = "5" * 32
NOW_US = START + 10**13


class HandClock:
    def __init__(self, time_us=NOW_US):
        self.time_us = time_us

    def now_us(self):
        return self.time_us


async def in_this_thread(function, *arguments):
    return function(*arguments)


class NoRecords:
    """Nothing was said, asked or sent; a test plants what it needs."""

    def __init__(self, **planted):
        self.planted = planted

    def standing(self, profile_id):
        return self.planted.get("standing", {})

    def consent(self, nodes):
        return self.planted.get("consent", [])

    def recipients(self, profile_id):
        return self.planted.get("recipients", [])

    def requests(self, nodes):
        return self.planted.get("requests", [])


def stamp(*, granted=(), denied=(), **more):
    purposes = dict.fromkeys(granted, True) | dict.fromkeys(denied, False)
    return ConsentStamp(present=True, purposes=purposes, **more)


def ada():
    """A week of one person on two devices, with all six types of event."""
    browser, phone = {"anonymous_id": "browser-1"}, {"anonymous_id": "phone-1"}
    known = {"user_id": "ada"}
    return [
        event(0, "page", name="Home", **browser, stamp=stamp(denied=["ads"])),
        event(1, **browser, properties={"price": 9.99, "tags": ["a", None]}),
        event(
            2,
            "identify",
            **known,
            **browser,
            traits={"email": "ada@example.test", "plan": "pro", "old": "x"},
            stamp=stamp(granted=["analytics"], denied=["ads"]),
        ),
        event(3, "group", **known, group_id="acme", traits={"seats": 3}),
        event(4, "screen", name="Start", **phone, source="app"),
        event(5, "identify", **known, **phone, source="app", traits={"old": None, "age": 36}),
        event(6, "alias", user_id="ada", previous_id="old-ada"),
        event(7, **known, properties={"at": "micro"}, at=7_000_123, extra={"channel": "server"}),
    ]


class Subject:
    """One world, one directory of exports."""

    def __init__(self, directory, events, world=None, **planted):
        self.world = world or World().feed(events)
        self.clock = HandClock()
        self.files = ExportFiles(directory / "exports", in_this_thread)
        self.records = NoRecords(**planted)
        self.holdings = StoredHoldings(
            self.world.store, self.world.profiles, self.world.history, self.records
        )
        self.access = AccessExport(self.holdings, self.files, self.clock)
        self.rng = random.Random(3)

    def profile(self, namespace="user_id", value="ada"):
        return self.world.profiles.find(namespace, value)

    async def export(self, who=("user_id", "ada"), request=REQUEST):
        """Both documents, and how many events are in them."""
        profile = self.profile(*who)
        count = await self.access.make(
            profile.profile_id,
            request,
            [JsonForm(), PageForm()],
            chance=f"{self.rng.getrandbits(128):032x}",
        )
        return json.loads(self.read(request, "json")), self.read(request, "html").decode(), count

    def read(self, request, form):
        return self.files.of_request(request, form).path.read_bytes()


def imported(reimports):
    """The events as ingestion would store what was sent to `/v1/import`, one key a source."""
    return [
        normalise(
            json.loads(json.dumps(body)),
            Scope(
                source=source,
                received_at_us=NOW_US,
                new_id=lambda: "never asked",
                limits=Limits(),
            ),
        )
        for source, body in reimports
    ]
