"""Proofs are sealed with the real keys: who destroys a key destroys the proof, and nothing else."""

from __future__ import annotations

import pytest
import trio

from cdp.consent.forgetting import rebuild
from cdp.consent.ledger import ConsentLedger
from cdp.consent.records import read_records, verify_chain
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.vault import Vault
from tests.unit.consent.ledger_world import World, node, shown

ADA, BOB = node("ada"), node("bob")
PROOF = shown("2", signal="CANARY-of-ada", address="192.0.2.0")


class SealedWorld(World):
    """A world with keys."""

    def open(self):
        if not isinstance(self.vault, Vault):
            self.vault = Vault(MemoryKeys(), self.store, master=b"m" * 32, seed=bytes(32))
        super().open()


@pytest.fixture
def world():
    return SealedWorld()


async def in_thread(function, *arguments):
    await trio.lowlevel.checkpoint()
    return function(*arguments)


async def shred(world, *nodes):
    """Forgets people, and destroys their keys."""
    slots = [slot for one in nodes for slot in world.vault.slots_of(one)]
    batch = world.store.batch()
    world.ledger.forget(batch, nodes)
    world.store.write(batch)
    await world.vault.destroy(slots, in_thread)


def stored(world):
    return repr([world.rows(family) for family in ("consent", "standing")]).encode()


async def test_a_proof_is_read_until_its_key_is_destroyed_and_never_stands_in_the_clear(world):
    world.said(ADA, ads=True, proof=PROOF)
    world.said(BOB, ads=False, proof=PROOF)
    assert b"CANARY" not in stored(world)
    assert [said.proof for said in world.ledger.history([ADA])] == [PROOF]
    await world.vault.destroy(world.vault.slots_of(ADA), in_thread)
    assert [said.proof for said in world.ledger.history([ADA, BOB])] == [None, PROOF]
    assert world.state(ADA) == "granted"


async def test_the_chain_and_the_rows_of_the_others_outlive_the_keys_of_the_forgotten(world):
    world.one(ADA, BOB)
    world.said(BOB, ads=False)
    world.now_us += 1
    world.said(ADA, verified=[ADA], ads=True, proof=PROOF)
    await shred(world, ADA)
    assert ADA not in stored(world)
    assert verify_chain(read_records(world.store)) == 2
    rows = world.rows("standing")
    assert rebuild(world.store) == 2
    assert world.rows("standing") == rows
    assert world.state(BOB) == "denied"


def test_a_restart_goes_on_with_the_chain(world):
    world.said(ADA, ads=True, proof=PROOF)
    world.open()
    assert isinstance(world.ledger, ConsentLedger)
    assert world.said(ADA, ads=False, kind="api") == 1
    assert verify_chain(read_records(world.store)) == 2
    assert [said.record.seq for said in world.ledger.history([ADA])] == [1, 2]
