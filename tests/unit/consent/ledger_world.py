"""A ledger with people who are merged and un-merged by hand, and keys that can be destroyed."""

from __future__ import annotations

from pathlib import Path

from cdp.clock import HOUR_US
from cdp.config_consent import Consent, Policy, Purpose
from cdp.consent.ledger import ConsentLedger
from cdp.consent.rules import Rules
from cdp.domain.consent import Proof, Statement
from cdp.storage.memory import MemoryStore

T0_US = 1_000_000 * HOUR_US
CONSENT = Consent(
    purposes={"ads": Purpose(sale_or_share=True), "mail": Purpose(), "stats": Purpose()},
    policies={"shop": Policy(version="3", text=Path("shop"), material_versions=("1",))},
)


def node(name: str) -> bytes:
    """A node that can be read in a failure."""
    return name.encode().ljust(16, b".")


class People:
    """Who is one person: sets of nodes; the profile is named by its least node."""

    def __init__(self):
        self.ready = True
        self.persons: list[frozenset[bytes]] = []
        self.shared: set[bytes] = set()

    def _of(self, one):
        return next((person for person in self.persons if one in person), frozenset((one,)))

    def profile_of(self, one):
        return None if one in self.shared else min(self._of(one))

    def members(self, profile_id):
        return sorted(self._of(profile_id) - self.shared)

    def make_one(self, *nodes):
        """Merges whoever these are."""
        merged = frozenset().union(*(self._of(one) for one in nodes))
        before = [person for person in self.persons if person & merged]
        self.persons = [person for person in self.persons if not person & merged] + [merged]
        return {min(person) for person in before} | {min(merged), *nodes}

    def part(self, *nodes):
        """Takes these out of whoever they are, as a person of their own."""
        leaving, before = frozenset(nodes), {self.profile_of(one) for one in nodes}
        rest = [person - leaving for person in self.persons]
        self.persons = [person for person in rest if person] + [leaving]
        return before | {min(person) for person in self.persons}


class PlainVault:
    """Seals nothing, but knows under whose key it is, and forgets what is destroyed."""

    def __init__(self):
        self.destroyed = set()

    def seal_row(self, batch, subject, record, context):
        return subject + context + record

    def open_row(self, sealed, context):
        assert sealed[16:32] == context, "opened where it was not sealed"
        return b"" if sealed[:16] in self.destroyed else sealed[32:]


class World:
    """The ledger, and short words for what happens to it."""

    def __init__(self, consent=CONSENT, **options):
        self.store = MemoryStore()
        self.people = People()
        self.vault = PlainVault()
        self.rules = Rules(consent)
        self.suppressed = set()
        self.now_us = T0_US
        self.options = options
        self.restricted = []
        self.open()

    def open(self):
        """As after a restart."""
        self.ledger = ConsentLedger(
            self.store,
            self.vault,
            self.rules,
            self.people,
            suppressed=self.suppressed,
            **self.options,
        )
        self.ledger.on_restriction.append(lambda nodes: self.restricted.append(list(nodes)))

    def said(self, *nodes, verified=(), **fields):
        """A statement, heard and written. Times are hours; returns the records it took."""
        batch = self.store.batch()
        count = self.ledger.note(batch, nodes, self.statement(**fields), verified=verified)
        self.store.write(batch)
        return count

    def statement(self, *, at=None, received=None, server=False, kind="event", **fields):
        received_us = self.now_us if received is None else T0_US + int(received * HOUR_US)
        at_us = received_us if at is None else T0_US + int(at * HOUR_US)
        options = {
            name: fields.pop(name)
            for name in ("grants_count", "regime", "objection", "expires_at_us", "proof")
            if name in fields
        }
        return Statement(
            purposes=fields,
            kind=kind,
            authority="server" if server else "public",
            source="test",
            at_us=at_us,
            received_at_us=received_us,
            **options,
        )

    def restrict(self, *nodes, on=True):
        batch = self.store.batch()
        count = self.ledger.restrict(batch, nodes, on, now_us=self.now_us)
        self.store.write(batch)
        return count

    def forget(self, *nodes):
        batch = self.store.batch()
        count = self.ledger.forget(batch, nodes)
        self.store.write(batch)
        self.vault.destroyed.update(nodes)
        return count

    def one(self, *nodes):
        self.ledger.changed(self.people.make_one(*nodes))

    def part(self, *nodes):
        self.ledger.changed(self.people.part(*nodes))

    def state(self, one, purpose="ads"):
        """granted, denied ..., or None where nobody said anything."""
        latest = self.ledger.standing(one).purposes.get(purpose)
        return None if latest is None else latest.state

    def rows(self, family):
        return list(self.store.items(family))


def shown(version="2", **fields):
    return Proof(policy="shop", policy_version=version, **fields)
