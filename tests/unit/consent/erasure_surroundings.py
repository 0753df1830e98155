"""What surrounds the people of an erasure: a clock, disks that fail, who is who, and services."""

from __future__ import annotations

import errno

import trio

from cdp.consent.destinations_told import Answer
from cdp.consent.tombstones import MemoryTombstones

T0_US = 1_700_000_000_000_000
SHARED = b"shared"


class Clock:
    """Goes with virtual time."""

    def now_us(self):
        return T0_US + int(trio.current_time() * 1e6)


class Faults:
    """Counts what is done to disks; the `at`-th thing fails. Afterwards nothing fails any more."""

    def __init__(self, at=None):
        self.at = at
        self.errno = errno.EIO
        self.done = []

    def __call__(self, what):
        self.done.append(what)
        return self.errno if len(self.done) == self.at else 0

    @property
    def struck(self):
        return self.at is not None and len(self.done) >= self.at


class TornTombstones(MemoryTombstones):
    """A file that a fault leaves with half a line."""

    def __init__(self, faults, content=b""):
        super().__init__(content)
        self.faults = faults

    def append(self, line):
        number = self.faults("tombstone")
        if number:
            self.content += line[: len(line) // 2]
            raise OSError(number, "a fault")
        super().append(line)


class Graph:
    """Who is one person: rows of `identity` map a node to its person, or to `SHARED`."""

    def __init__(self, store):
        self._store = store
        self.ready = True

    def row(self, one):
        return self._store.get("identity", one)

    def profile_of(self, one):
        row = self.row(one)
        return one if row == SHARED else row

    def members(self, profile_id):
        row = self.row(profile_id)
        if row is None or row == SHARED:
            return []
        return [key for key, value in self._store.items("identity") if value == row]

    def is_shared(self, one):
        return self.row(one) == SHARED


class Services:
    """The world outside: what each destination answers, in order, and what it was asked."""

    def __init__(self, names=("crm", "mailer")):
        self.configured = list(names)
        self.answers = {}
        self.orders = []
        self.polled = []

    def names(self):
        return self.configured

    async def erase_at(self, name, order):
        await trio.lowlevel.checkpoint()
        self.orders.append((name, order))
        return self._next(name)

    async def status_at(self, name, remote_id):
        await trio.lowlevel.checkpoint()
        self.polled.append((name, remote_id))
        return self._next(name)

    def _next(self, name):
        script = self.answers.get(name, [])
        return script.pop(0) if script else Answer(state="erased", text=f"{name} has nobody")
