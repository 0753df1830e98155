"""The daemon as the control plane sees it, for tests: real profiles, and a book of orders."""

from types import SimpleNamespace

import httpx

from cdp.config import Secret
from cdp.console.app import control_app
from cdp.console.surface import Listing, NotFound, Refused
from cdp.errors import Overloaded
from cdp.identity.why import Why
from tests.unit.identity.world import World

TOKEN = "a token of the tests"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


class Surface:
    """Answers from a world, and notes what was ordered."""

    def __init__(self, world=None):
        world = world or World()
        self.world = world
        self.profiles = world.profiles
        self.history = world.history
        self.why = Why(world.events, world.changes, world.profiles, self.became)
        self.waiting = []
        self.orders = []
        self.outcomes = []

    def became(self, offset):
        return self.outcomes

    def waits_for(self):
        return self.waiting

    def metrics(self):
        return "cdp_events_total 3\n"

    def status(self):
        return {"destinations": {"webhook": {"offered": 3, "delivered": 3}}}

    def offset_of(self, message_id):
        for entry in self.world.events.read(0, 10_000):
            if message_id.encode() in entry.record:
                return entry.offset
        return None

    def rejected_events(self, after, limit):
        return Listing([{"id": "r1", "code": "missing_event"}], after and None)

    async def resubmit(self, rejected_id, event):
        if rejected_id == "gone":
            raise NotFound("no rejected event has this id")
        self.orders.append(("resubmit", rejected_id, event))
        return {"accepted": 1}

    def dead_letters(self, destination, after, limit):
        items = [{"id": "d1", "destination": destination, "after": after}]
        return Listing(items[:limit], "d1")

    async def redrive(self, destination, ids, reason):
        if destination == "full":
            raise Overloaded("there is no room for more deliveries", retry_after_s=7)
        if destination != "webhook":
            raise Refused(f"no destination is called {destination}")
        self.orders.append(("redrive", destination, ids, reason))
        return {"redriven": 1}

    async def replay(self, destination, *, from_offset, from_time_us):
        self.orders.append(("replay", destination, from_offset, from_time_us))
        return {"offered": 2}

    async def backup(self, directory):
        self.orders.append(("backup", directory))
        return {"directory": str(directory), "files": 3, "bytes": 4}


def became(**fields):
    """One thing that became of an event."""
    default = {"destination": "webhook", "kind": "event", "state": "delivered", "reason": ""}
    default |= {"at_us": 0, "attempts": 1, "replay": False}
    return SimpleNamespace(**default | fields)


def client(
    surface, *, token=None, base_url="http://127.0.0.1:8081", raises=True, more=(), **options
):
    """A client of the control plane, without a socket."""
    ids = iter(f"request-{n}" for n in range(10_000))
    app = control_app(surface, token=token and Secret(token), new_id=lambda: next(ids), more=more)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=raises)
    return httpx.AsyncClient(transport=transport, base_url=base_url, **options)
