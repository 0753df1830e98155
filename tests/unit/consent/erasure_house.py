"""A house with two people in it, whose disks outlive a kill, and erasures over it."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import trio

from cdp.clock import DAY_US
from cdp.consent.audit import AuditLog, decode_record, stored_records
from cdp.consent.destinations_told import Answer
from cdp.consent.erasure import Erasures
from cdp.consent.erasure_steps import Holders, House
from cdp.consent.ledger import ConsentLedger
from cdp.consent.requests import ENDED, RequestBook
from cdp.consent.rules import Rules
from cdp.consent.suppression import Suppression
from cdp.consent.tombstones import MemoryTombstones, Tombstones
from cdp.domain.consent import Proof, Statement
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.memory import MemoryStore
from cdp.storage.store import FAMILIES
from cdp.testing.world import TrioClock, make_vault, run_inline
from tests.unit.consent.ledger_world import CONSENT

ADA = ("user_id", "ada-the-person")
ADA_MAIL = ("email", "ada@example.com")
ADA_PHONE = ("phone", "+15550100200")
BOB = ("user_id", "bob-the-person")
OFFICE = ("phone", "+15550109999")  # of several people


def node(identifier):
    return "/".join(identifier).encode().rjust(16, b"0")[-16:]


def asked(*identifiers, kind="erasure", **fields):
    values = {
        "kind": kind,
        "identifiers": identifiers,
        "external_id": "",
        "regulation": "gdpr",
        "hold": "",
        "channel": "api",
        "verified_by": "clerk",
        "suppress": True,
        "downstream": True,
        "lift": False,
    }
    return SimpleNamespace(**{**values, **fields})


class People:
    """Identity, as a dictionary that is always on disk."""

    def __init__(self):
        self.profiles = {}  # node -> profile id
        self.shared = set()
        self.ready = True

    def make_one(self, *identifiers):
        for one in identifiers:
            self.profiles[node(one)] = node(identifiers[0])

    def members(self, profile_id):
        founder = self.profiles.get(profile_id, profile_id)
        return [one for one, of in self.profiles.items() if of == founder]

    def profile_of(self, one):
        return self.profiles.get(one)

    def is_shared(self, one):
        return one in self.shared


class Outside:
    """Destinations that do what they were told to."""

    def __init__(self):
        self.answers = {}  # name -> list of answers, the last stays
        self.orders = []
        self.statuses = []

    def names(self):
        return ["crm", "ads", "mail"]

    async def erase_at(self, name, order):
        await trio.lowlevel.checkpoint()
        self.orders.append((name, order))
        return self._answer(name)

    async def status_at(self, name, remote_id):
        await trio.lowlevel.checkpoint()
        self.statuses.append((name, remote_id))
        return self._answer(name)

    def _answer(self, name):
        answers = self.answers.get(name) or [Answer(state="erased", text=f"gone from {name}")]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Exports:
    """Documents by node, and those that were made for requests."""

    def __init__(self):
        self.files = {}
        self.made = []
        self.error = None

    async def make(self, profile_id, request_id):
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.made.append((profile_id, request_id))
        return 3

    def forms_of(self, request_id):
        return ["json"] if any(request_id == made for _, made in self.made) else []

    async def erase(self, nodes):
        await trio.lowlevel.checkpoint()
        return sum(self.files.pop(one, None) is not None for one in nodes)


class Faults:
    """Lets the call of the number `at` to a disk fail; 0: never."""

    def __init__(self):
        self.at = self.count = 0

    def next(self):
        self.count += 1
        return 5 if self.count == self.at else 0

    def after(self, calls):
        self.at = self.count + calls if calls else 0


class ErasureHouse:
    """Everything that lasts; `open` makes a process over it."""

    def __init__(self, data_dir=None):
        self.faults = Faults()
        self.store = MemoryStore(write_fault=self.faults.next, sync_fault=self.faults.next)
        self.keys = MemoryKeys(self.faults.next)
        self.people = People()
        self.outside = Outside()
        self.exports = Exports()
        self.rejected = set()
        self.file = MemoryTombstones()
        self.clock = TrioClock()
        self.rng = Random(1)
        self.data_dir = data_dir
        self.offset = 0
        self.restricted = []
        self.left_behind = None  # called whenever deliveries are purged
        self.settled = trio.lowlevel.checkpoint
        self.open()

    def open(self):
        store = self.store
        self.vault = make_vault(store, keys=self.keys, seed=self.rng.getrandbits(64))
        self.suppression = Suppression(store)
        self.ledger = ConsentLedger(
            store, self.vault, Rules(CONSENT), self.people, suppressed=self.suppression.nodes
        )
        self.ledger.on_restriction.append(self.restricted.extend)
        self.audit = AuditLog(store, self.clock)
        self.book = RequestBook(
            store,
            self.vault,
            clock=self.clock,
            new_id=lambda: f"{self.rng.getrandbits(128):032x}",
            open_max=20,
        )
        house = House(
            store=store,
            vault=self.vault,
            keys=self.keys,
            suppression=self.suppression,
            ledger=self.ledger,
            people=self.people,
            audit=self.audit,
            tombstones=Tombstones(self.file, self.clock, run_inline),
            clock=self.clock,
            run_in_thread=run_inline,
            data_dir=self.data_dir,
        )
        self.erasures = Erasures(
            house=house,
            holders=self._holders(),
            book=self.book,
            outside=self.outside,
            exports=self.exports,
            name=lambda namespace, value: node((namespace, value)) if len(value) > 2 else None,
            retry_us_max=30 * DAY_US,
        )

    def _holders(self):
        async def erase_exports(nodes):
            return await self.exports.erase(nodes)

        async def settled():
            await self.settled()

        return Holders(
            identifiers_of=self._identifiers_of,
            message_keys_of=self._message_keys_of,
            identity_erase=self._identity_erase,
            purge_deliveries=self._purge_deliveries,
            erase_exports=erase_exports,
            purge_rejected=self._purge_rejected,
            resolves=lambda one: one in self.people.profiles,
            settled=settled,
        )

    # -- what is held ---------------------------------------------------------------------------

    def know(self, *identifiers, at=()):
        """A person with something in every store, whom some destinations have got."""
        self.people.make_one(*identifiers)
        for one in identifiers:
            self.hold(one)
        batch = self.store.batch()
        for name in at:
            batch.put("recipients", node(identifiers[0]) + name.encode(), bytes(8))
        self.store.write(batch)

    def hold(self, identifier):
        batch, key = self.store.batch(), node(identifier)
        raw = "\t".join(identifier).encode()
        offset, seen = self.offset.to_bytes(8, "big"), key[::-1]
        batch.put("identifiers", key, self.vault.seal_row(batch, key, raw, key))
        batch.put("fragments", key, self.vault.seal_row(batch, key, b"traits", key))
        batch.put("timeline", key + bytes(8) + offset, b"\1")
        batch.put("seen", seen, bytes(16))
        batch.put("events", offset, key + self.vault.seal_row(batch, key, seen, offset))
        self.offset += 1
        statement = Statement(
            purposes={"ads": True},
            kind="api",
            authority="server",
            source="test",
            at_us=self.clock.now_us(),
            received_at_us=self.clock.now_us(),
            proof=Proof(notice=raw.decode()),
        )
        self.ledger.note(batch, [key], statement)
        self.store.write(batch)
        self.exports.files[key] = "export"
        self.rejected.add(identifier)

    def left_of(self, *identifiers):
        """Everything that is still there of somebody, in words."""
        found = []
        for one in identifiers:
            key = node(one)
            for family in ("identifiers", "fragments", "timeline", "subjects", "standing"):
                if self.store.scan(family, key, key + b"\xff" * 16):
                    found.append(f"{family} of {one}")
            if self.store.get("seen", key[::-1]) is not None:
                found.append(f"seen of {one}")
            if key in self.people.profiles or key in self.exports.files or one in self.rejected:
                found.append(f"{one} elsewhere")
        for offset, value in self.store.items("events"):
            if value[:16] in map(node, identifiers) and self.vault.open_row(value[16:], offset):
                found.append(f"event {offset.hex()} can be read")
        return found

    async def _identifiers_of(self, nodes):
        await trio.lowlevel.checkpoint()
        rows = [(one, self.store.get("identifiers", one)) for one in nodes]
        opened = [self.vault.open_row(row, one) for one, row in rows if row]
        return [tuple(one.decode().split("\t")) for one in opened if one]

    async def _message_keys_of(self, nodes):
        for offset, value in list(self.store.items("events")):
            if value[:16] in nodes and (key := self.vault.open_row(value[16:], offset)):
                yield [key]

    async def _identity_erase(self, nodes):
        await trio.lowlevel.checkpoint()
        batch = self.store.batch()
        for one in nodes:
            self.people.profiles.pop(one, None)
            batch.delete("identifiers", one)
            batch.delete("fragments", one)
            batch.delete_range("timeline", one, one + b"\xff" * 16)
        self.store.write(batch)

    async def _purge_deliveries(self, nodes):
        await trio.lowlevel.checkpoint()
        if self.left_behind is not None:
            self.left_behind()
        return 0

    async def _purge_rejected(self, identifiers):
        await trio.lowlevel.checkpoint()
        gone = self.rejected.intersection(identifiers)
        self.rejected -= gone
        return len(gone)

    # -- what happens ---------------------------------------------------------------------------

    async def ask(self, *identifiers, **fields):
        """A request that may run; its id."""
        told = await self.erasures.submit(asked(*identifiers, **fields))
        return (await self.erasures.approve(told["id"], by="clerk"))["id"]

    async def carry(self, *, until=ENDED):
        """Runs until every request is in one of these states, and no key of one is left."""
        stopping, wait_s = trio.Event(), 0.1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.erasures.run, stopping)
            with trio.fail_after(60 * 86_400):
                while not self._all_in(until):
                    await trio.sleep(wait_s)
                    wait_s *= 1.05
            stopping.set()

    def _all_in(self, states):
        return not self.book.open if states is ENDED else set(self.book.open.values()) <= {*states}

    async def erase(self, *identifiers, **fields):
        """A whole run; the receipt."""
        request_id = await self.ask(*identifiers, **fields)
        await self.carry()
        return self.erasures.receipt(request_id)

    def actions(self):
        return [decode_record(value).action for _, value in stored_records(self.store)]

    def copy(self):
        """A backup of the store: not of the keys, and not of the ledger of erasures."""
        copied = MemoryStore(write_fault=self.faults.next, sync_fault=self.faults.next)
        batch = copied.batch()
        for family in FAMILIES:
            for key, value in self.store.items(family):
                batch.put(family, key, value)
        copied.write(batch)
        return copied
