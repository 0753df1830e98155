"""A world in which people are erased: real keys, ledger, audit and books; the rest is small.

What identity, ingestion and delivery hold stands in the store's own families, sealed as they seal
it, so that what an erasure leaves behind can be found by reading the store. `Faults` makes the Nth
thing that is done to a disk fail; `World.reopened` is the next process over what is left.
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random

import msgspec
import trio

from cdp.config_consent import Consent, Purpose
from cdp.consent.audit import AuditLog, stored_records
from cdp.consent.erasure import Erasures
from cdp.consent.erasure_steps import Holders, House
from cdp.consent.ledger import ConsentLedger
from cdp.consent.merkle import leaf_hash
from cdp.consent.reapplying import reapply
from cdp.consent.requests import RequestBook
from cdp.consent.rules import Rules
from cdp.consent.suppression import Suppression
from cdp.consent.tombstones import Tombstones
from cdp.console.privacy_surface import Asked
from cdp.domain.consent import Proof, Statement
from cdp.domain.subjects import rejected_on
from cdp.errors import StorageError
from cdp.storage.codec import SealedCodec
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.log import Log
from cdp.storage.memory import MemoryStore
from cdp.storage.store import FAMILIES
from cdp.storage.vault import Vault
from cdp.telemetry import Journal, Metrics
from tests.unit.consent.erasure_surroundings import (
    SHARED,
    T0_US,
    Clock,
    Faults,
    Graph,
    Services,
    TornTombstones,
)

DAY_S = 86_400
RETRY_DAYS = 30
CONSENT = Consent(purposes={"ads": Purpose(sale_or_share=True), "mail": Purpose()})
ADA = (("user_id", "ada-4242"), ("email", "ada@example.com"), ("anonymous_id", "browser-of-ada"))
BOB = (("user_id", "bob-7777"), ("email", "bob@example.com"), ("anonymous_id", "browser-of-bob"))
TABLET = ("anonymous_id", "tablet-of-the-family")


def node(namespace, value):
    """A keyed hash; an e-mail without @ is nothing that tells people apart."""
    if namespace == "email" and "@" not in value:
        return None
    return blake2b(f"{namespace}\0{value}".encode(), digest_size=16, key=b"k").digest()


def nodes(person):
    return [node(*one) for one in person]


def asked(person, **fields):
    given = {"kind": "erasure", "verified_by": "Eve"} | fields
    return Asked(identifiers=tuple(person), **given)


class World:
    """Everything of one process. What outlives it: store, keys, tombstones, files, services."""

    def __init__(self, *, faults=None, data_dir=None, store=None, keys=None, content=b"", **kept):
        self.faults = faults or Faults()
        self.options = {"data_dir": data_dir}
        self.store = store or MemoryStore(
            write_fault=lambda: self.faults("write"), sync_fault=lambda: self.faults("sync")
        )
        self.keys = keys or MemoryKeys(lambda: self.faults("keys"))
        self.file = TornTombstones(self.faults, content)
        self.files = kept.get("files") or {}
        self.services = kept.get("services") or Services()
        self.starts = kept.get("starts", 0) + 1
        self.clock = Clock()
        self.metrics = Metrics()
        self.told = []
        self.journal = Journal(self.clock, write=self.told.append)
        self._open()

    def _open(self):
        store = self.store
        seed = self.starts.to_bytes(32, "big")
        self.vault = Vault(self.keys, store, master=b"m" * 32, seed=seed)
        self.graph = Graph(store)
        self.suppression = Suppression(store)
        self.audit = AuditLog(store, self.clock)
        self.ledger = ConsentLedger(
            store, self.vault, Rules(CONSENT), self.graph, suppressed=self.suppression.nodes
        )
        self.events = Log(store, "events", SealedCodec(self.vault, "events"))
        self.recalled = []
        self.ledger.on_restriction.append(lambda some: self.recalled.append(set(some)))
        self.tombstones = Tombstones(self.file, self.clock, self.in_thread)
        random = Random(self.starts)
        self.book = RequestBook(
            store,
            self.vault,
            clock=self.clock,
            new_id=lambda: f"{random.getrandbits(128):032x}",
            open_max=100,
        )
        self.house = House(
            store=store,
            vault=self.vault,
            keys=self.keys,
            suppression=self.suppression,
            ledger=self.ledger,
            people=self.graph,
            audit=self.audit,
            tombstones=self.tombstones,
            clock=self.clock,
            run_in_thread=self.in_thread,
            **self.options,
        )
        self.instead()

    def instead(self, **holders):
        """Makes the erasures' actor, with others in the places of some of those who hold data."""
        mine = {
            "identifiers_of": self.identifiers_of,
            "message_keys_of": self.message_keys_of,
            "identity_erase": self.identity_erase,
            "purge_deliveries": self.purge_deliveries,
            "erase_exports": self.erase_exports,
            "purge_rejected": self.purge_rejected,
            "resolves": lambda one: self.graph.row(one) is not None,
            "settled": self.settled,
            "forget_cached": [self.events.forget_cached],
        }
        self.erasures = Erasures(
            house=self.house,
            holders=Holders(**(mine | holders)),
            book=self.book,
            outside=self.services,
            exports=self,
            name=node,
            retry_us_max=RETRY_DAYS * DAY_S * 1_000_000,
            metrics=self.metrics,
            journal=self.journal,
        )

    def break_disks(self):
        """Lets the faults of this process strike the disks that it took over."""
        self.store._write_fault = lambda: self.faults("write")
        self.store._sync_fault = lambda: self.faults("sync")
        self.keys._fault = lambda: self.faults("keys")

    def reopened(self, *, power_cut=None, faults=None):
        """The next process, after a kill, or after a power cut that this chance decides."""
        store = self.store.killed() if power_cut is None else self.store.power_cut(power_cut)
        store._write_fault = lambda: 0
        store._sync_fault = lambda: 0
        keys = self.keys.survivor()
        keys._fault = lambda: 0
        return self._next(store, keys, self.file.content, faults)

    def restored(self, *, store=None, keys=None, content=None):
        """The next process, over copies of some of what there was."""
        if store is None:
            store = self.store.killed()
        if keys is None:
            keys = self.keys.survivor()
        return self._next(store, keys, self.file.content if content is None else content)

    def _next(self, store, keys, content, faults=None):
        return World(
            faults=faults,
            store=store,
            keys=keys,
            content=content,
            files=self.files,
            services=self.services,
            starts=self.starts,
            **self.options,
        )

    async def in_thread(self, function, *arguments):
        await trio.lowlevel.checkpoint()
        return function(*arguments)

    # -- what there is of people ----------------------------------------------------------------

    def settle(self, person, *, events=3, received=("crm",)):
        """Somebody of whom every part of the platform holds something."""
        batch = self.store.batch()
        founder, leaf = node(*person[0]), node(*person[0])
        for place, one in enumerate(person):
            its_node = node(*one)
            raw = msgspec.msgpack.encode(one)
            batch.put("identity", its_node, founder)
            sealed = self.vault.seal_row(batch, leaf, raw, its_node)
            batch.put("identifiers", its_node, sealed)
            fragment = self.vault.seal_row(batch, its_node, b"traits of " + raw, b"f" + its_node)
            batch.put("fragments", its_node, fragment)
            batch.put("logins", its_node + place.to_bytes(8, "big") + leaf, b"")
        records = [_event(person, number) for number in range(events)]
        first = self.events.append(batch, records, [leaf] * events)
        for number in range(events):
            offset = (first + number).to_bytes(8, "big")
            batch.put("timeline", leaf + number.to_bytes(8, "big") + offset, b"\0")
            batch.put("seen", _message_key(person, number), bytes(8) + offset)
        for destination in received:
            batch.put("recipients", founder + destination.encode(), bytes(8))
            batch.put("dead", destination.encode() + b"\0" + founder, founder)
        subject = rejected_on(T0_US)
        self.ledger.note(batch, nodes(person), _statement())
        sealed = self.vault.seal_row(batch, subject, repr(person).encode(), b"rejected")
        batch.put("rejected", founder[:12], sealed)
        self.store.write(batch)
        self.events.publish()
        self.files[f"{founder.hex()}.json"] = repr(person).encode()

    def share(self, one):
        """Makes an identifier one of several people."""
        batch = self.store.batch()
        batch.put("identity", node(*one), SHARED)
        self.store.write(batch)

    def merge(self, one, *others):
        """Makes identifiers, new ones too, those of somebody's."""
        batch = self.store.batch()
        person = self.graph.row(node(*one))
        for other in others:
            batch.put("identity", node(*other), person)
            raw = msgspec.msgpack.encode(other)
            sealed = self.vault.seal_row(batch, node(*other), raw, node(*other))
            batch.put("identifiers", node(*other), sealed)
        self.store.write(batch)

    async def settled(self):
        await trio.lowlevel.checkpoint()

    async def identifiers_of(self, some):
        await trio.lowlevel.checkpoint()
        found = zip(some, self.store.get_many("identifiers", list(some)), strict=True)
        opened = [self.vault.open_row(row, one) for one, row in found if row is not None]
        return [tuple(msgspec.msgpack.decode(raw)) for raw in opened if raw]

    async def message_keys_of(self, some):
        for one in some:
            rows = self.store.scan("timeline", one, one + b"\xff" * 16)
            offsets = [int.from_bytes(key[-8:], "big") for key, _ in rows]
            records = [self.events.get(offset) for offset in offsets]
            yield [blake2b(record, digest_size=16).digest() for record in records if record]
        await trio.lowlevel.checkpoint()

    async def identity_erase(self, some):
        await trio.lowlevel.checkpoint()
        batch = self.store.batch()
        for one in some:
            for family in ("identity", "identifiers", "fragments"):
                batch.delete(family, one)
            for family in ("timeline", "logins"):
                batch.delete_range(family, one, one + b"\xff" * 25)
        for key, _ in self.store.items("logins"):
            if key[-16:] in set(some):
                batch.delete("logins", key)
        self.store.write(batch)

    async def purge_deliveries(self, some):
        return self._delete("dead", lambda _, value: value in set(some))

    async def erase_exports(self, some):
        await trio.lowlevel.checkpoint()
        names = [name for name in self.files if bytes.fromhex(name[:32]) in set(some)]
        for name in names:
            del self.files[name]
        return len(names)

    async def purge_rejected(self, identifiers):
        values = [value.encode() for _, value in identifiers]

        def names_one(_, sealed):
            text = self.vault.open_row(sealed, b"rejected")
            return any(value in text for value in values)

        return self._delete("rejected", names_one)

    def _delete(self, family, is_meant):
        keys = [key for key, value in self.store.items(family) if is_meant(key, value)]
        batch = self.store.batch()
        for key in keys:
            batch.delete(family, key)
        self.store.write(batch)
        return len(keys)

    # -- exports --------------------------------------------------------------------------------

    async def make(self, profile_id, request_id):
        await trio.lowlevel.checkpoint()
        if self.graph.row(profile_id) is None:
            return None
        self.files[f"{profile_id.hex()}.{request_id}.json"] = b"a document"
        return 3

    def forms_of(self, request_id):
        return ["json"] if any(f".{request_id}." in name for name in self.files) else []

    # -- running --------------------------------------------------------------------------------

    async def ask(self, person, **fields):
        """A request that is approved at once; its id."""
        told = await self.erasures.submit(asked(person, **fields))
        if told["state"] == "verified":
            told = await self.erasures.approve(told["id"], by="Eve")
        return told["id"]

    async def run(self, until, *, within_s=DAY_S):
        """Runs the actor until something holds."""
        with trio.fail_after(within_s):
            async with trio.open_nursery() as nursery:
                stopping = trio.Event()
                nursery.start_soon(self.erasures.run, stopping)
                looks = 0
                while not until():  # in virtual time, ever more rarely
                    await trio.sleep(min(600.0, 0.25 * 2 ** (looks // 400)))
                    looks += 1
                stopping.set()

    async def run_to_end(self, *request_ids, within_s=60 * DAY_S):
        """Runs until requests are over, their keys destroyed."""

        def over():
            return not any(bytes.fromhex(one) in self.book.open for one in request_ids)

        await self.run(over, within_s=within_s)
        return [self.erasures.get(one) for one in request_ids]

    async def erase(self, person, **fields):
        """Asks, and runs to the end; the receipt."""
        request_id = await self.ask(person, **fields)
        await self.run_to_end(request_id)
        return self.erasures.receipt(request_id)

    async def reapply(self):
        return await reapply(self.erasures.steps)

    # -- looking --------------------------------------------------------------------------------

    def traces_of(self, person):
        """Every place that still has anything of somebody, but for what is meant to stay."""
        found = []
        mine = nodes(person)
        for family in FAMILIES:
            for key, value in self.store.items(family):
                if _names(person, key + value):
                    found.append(f"raw in {family}")
                if family in ("suppressed", "audit", "requests", "meta", "recipients"):
                    continue
                if any(one in key + value for one in mine):
                    found.append(f"node in {family}")
        found += [f"event {n}" for n in self.readable_events(person)]
        found += [f"file {name}" for name, text in self.files.items() if _names(person, text)]
        for key in (_message_key(person, number) for number in range(100)):
            if self.store.get("seen", key) is not None:
                found.append("message id")
        for _, sealed in self.store.items("rejected"):
            if _names(person, self.vault.open_row(sealed, b"rejected")):
                found.append("rejected event")
        return found

    def readable_events(self, person):
        self.events.forget_cached()
        entries = self.events.read(0, 10_000)
        return [entry.offset for entry in entries if _names(person, entry.record)]

    def live_slots(self, slots):
        return [slot for slot, one in zip(slots, self.keys.read(slots), strict=True) if any(one)]

    def slots_of(self, person):
        return sorted({slot for one in nodes(person) for slot in self.vault.slots_of(one)})

    def recipients(self):
        return {(key[:16], key[16:].decode()) for key, _ in self.store.items("recipients")}

    def audit_actions(self):
        """What was recorded, in order; the chain of it is whole."""
        self.audit.settle()
        previous, actions = bytes(32), []
        for _, value in stored_records(self.store):
            record = msgspec.msgpack.decode(value)
            assert record[7] == previous, "the chain is broken"
            previous = leaf_hash(value)
            actions.append(record[4])
        return actions


def is_storage_error(error):
    """Whether a group holds nothing but failures of the store."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_storage_error, error.exceptions))
    return isinstance(error, StorageError)


def _event(person, number):
    return f"event {number} of {person}".encode()


def _message_key(person, number):
    return blake2b(_event(person, number), digest_size=16).digest()


def _names(person, content):
    return any(value.encode() in content for _, value in person)


def _statement():
    return Statement(
        purposes={"ads": True},
        kind="event",
        authority="public",
        source="test",
        at_us=T0_US,
        received_at_us=T0_US,
        proof=Proof(signal="a string"),
    )
