"""The ledger: what is recorded, what decides, and what is left when people are forgotten."""

from __future__ import annotations

import errno
from random import Random

import pytest
from msgspec.structs import replace

from cdp.clock import HOUR_US
from cdp.consent.forgetting import rebuild
from cdp.consent.ledger import NotReady
from cdp.consent.records import decode_record, read_records, verify_chain
from cdp.domain.consent import NOBODY, Proof
from cdp.errors import StoreDamaged, StoreFull
from tests.unit.consent.ledger_world import T0_US, World, node, shown

A, B, U = node("anonymous"), node("browser"), node("user")


@pytest.fixture
def world():
    return World()


def records(world):
    return list(read_records(world.store))


def test_a_statement_is_recorded_about_each_identifier_and_holds_at_once(world):
    assert world.ledger.head == 1
    assert world.said(A, U, ads=True, mail=False) == 2
    assert world.ledger.head == 3
    assert [one.node for one in records(world)] == [A, U]
    assert [world.state(one, "mail") for one in (A, U)] == ["denied", "denied"]
    assert world.state(A) == "granted"
    assert world.state(A, "stats") is None
    assert world.ledger.standing(node("nobody")) == NOBODY


def test_an_echo_takes_no_record_however_often_it_comes_and_also_after_a_restart(world):
    world.said(A, ads=True)
    assert [world.said(A, ads=True) for _ in range(3)] == [0, 0, 0]
    world.open()
    assert world.said(A, ads=True) == 0
    assert world.ledger.head == 2


def test_an_echo_of_a_denial_counts_again_once_somebody_granted_in_between(world):
    world.said(A, ads=False)
    world.now_us += HOUR_US
    world.said(A, server=True, kind="api", ads=True)
    assert world.state(A) == "granted"
    world.now_us += HOUR_US
    assert world.said(A, ads=False) == 1
    assert world.state(A) == "denied"


def test_only_the_denials_of_a_key_whose_grants_do_not_count_are_recorded(world):
    assert world.said(A, grants_count=False, ads=True, mail=False) == 1
    assert records(world)[0].said == {"mail": False}
    assert world.state(A) is None
    assert world.said(B, grants_count=False, ads=True) == 0


def test_only_true_itself_is_a_grant(world):
    world.said(A, ads="true", mail=1)
    assert (world.state(A, "ads"), world.state(A, "mail")) == ("denied", "denied")


def test_purposes_that_nobody_uses_are_bounded_and_never_look_like_an_address(world):
    odd = {"ada@example.com": False, "+4912345": False, "x" * 65: False, "": False}
    world.said(A, **odd)
    assert records(world) == []
    world.said(A, **{f"C{number:04}": False for number in range(100)}, ads=False)
    said = records(world)[0].said
    assert len(said) == 65
    assert said["ads"] is False


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        ({"at": 0, "ads": True}, {"received": 0.01, "ads": False}, "denied"),
        ({"at": 0, "ads": False}, {"received": 0.01, "ads": True}, "granted"),
        # Said before, heard after: the newer one decides.
        ({"at": 0, "ads": True}, {"at": -0.01, "ads": False}, "granted"),
        ({"at": 0, "ads": False}, {"at": -0.01, "ads": True}, "denied"),
        # At the same moment a denial wins, whichever is heard first.
        ({"at": 0, "ads": True}, {"at": 0, "ads": False}, "denied"),
        ({"at": 0, "ads": False}, {"at": 0, "ads": True}, "denied"),
        # More than five minutes apart: a denial counts when it is heard, a grant when it was said.
        ({"at": 0, "ads": True}, {"at": -9, "ads": False}, "denied"),
        ({"at": 0, "ads": False}, {"at": -9, "ads": True}, "denied"),
        # No clock of a sender's makes a grant newer than it can be.
        ({"at": 0, "ads": True}, {"at": 9, "ads": False}, "denied"),
        ({"at": 9, "ads": True}, {"at": 0, "ads": False}, "denied"),
        # What is imported with its own times is as old as it says.
        ({"at": 0, "ads": True}, {"at": -9, "ads": False, "kind": "import"}, "granted"),
        ({"at": 0, "ads": False}, {"at": -9, "ads": True, "kind": "import"}, "denied"),
    ],
)
def test_what_was_said_last_decides_and_in_doubt_the_denial(world, first, second, state):
    world.said(A, **first)
    world.said(A, **second)
    assert world.state(A) == state


def test_an_older_statement_that_arrives_late_is_recorded_once_and_changes_nothing(world):
    world.said(A, ads=False)
    assert world.said(A, at=-9, ads=True) == 1
    assert [world.said(A, at=-9, ads=True) for _ in range(3)] == [0, 0, 0]
    assert world.state(A) == "denied"
    assert world.ledger.standing(A).purposes["ads"].seq == 1


def test_a_public_key_cannot_grant_what_a_server_denied_and_a_server_can(world):
    world.said(A, server=True, ads=False)
    world.now_us += HOUR_US
    world.said(A, ads=False, kind="api")
    world.now_us += HOUR_US
    world.said(A, ads=True)
    world.said(A, ads=True, kind="api")
    assert world.state(A) == "denied"
    world.said(A, server=True, ads=True)
    assert world.state(A) == "granted"
    world.now_us += HOUR_US
    world.said(A, ads=False)
    world.now_us += HOUR_US
    world.said(A, ads=True)
    assert world.state(A) == "granted"


def test_a_servers_denial_holds_against_a_public_grant_that_was_said_later(world):
    world.said(A, ads=True)
    world.said(A, at=-99, server=True, kind="import", ads=False)
    world.now_us += HOUR_US
    world.said(A, ads=True, kind="api")
    assert world.state(A) == "denied"


def test_no_sequence_of_public_statements_turns_a_servers_denial_into_a_grant():
    rng = Random(16)
    for _ in range(2_000):
        world = World()
        names = [node(f"n{number}") for number in range(3)]
        for _ in range(rng.randrange(4)):
            public_act(world, rng, names)
        world.said(names[0], server=True, at=rng.randrange(-5, 1), ads=False, kind="import")
        assert world.state(names[0]) == "denied"
        for _ in range(rng.randrange(1, 9)):
            public_act(world, rng, names)
            assert world.state(names[0]) == "denied"


def public_act(world, rng, names):
    act = rng.random()
    some = rng.sample(names, rng.randrange(1, 4))
    world.now_us += rng.choice([0, 1, HOUR_US])
    if act < 0.15:
        world.one(*some)
    elif act < 0.25:
        world.part(some[0])
    else:
        world.said(
            *some,
            verified=some[:1] if act < 0.6 else (),
            at=rng.choice([None, -3, 99]),
            kind=rng.choice(["event", "api", "tcf", "gpc", "import", "request"]),
            proof=rng.choice([Proof(), shown("1"), shown("2")]),
            ads=rng.random() < 0.8,
        )


def test_a_grant_for_a_text_that_changed_materially_is_superseded_until_the_new_one(world):
    world.said(A, ads=True, proof=shown("1"))
    assert world.state(A) == "superseded"
    assert world.said(A, ads=True, proof=shown("3")) == 1
    assert world.state(A) == "granted"
    assert world.ledger.standing(A).purposes["ads"].policy == "shop@3"


def test_a_grant_is_renewed_by_whatever_is_not_an_echo(world):
    world.said(A, ads=True)
    world.now_us += HOUR_US
    assert world.said(A, ads=True) == 0
    assert world.said(A, kind="api", ads=True) == 1
    assert world.ledger.standing(A).purposes["ads"].at_us == T0_US + HOUR_US
    assert world.said(A, ads=True, expires_at_us=T0_US + 9 * HOUR_US) == 1
    assert world.ledger.standing(A).purposes["ads"].expires_at_us == T0_US + 9 * HOUR_US


# ---------------------------------------------------------------- people


def test_one_denial_among_the_identifiers_of_a_person_is_a_denial(world):
    world.said(A, ads=True)
    world.said(U, ads=False)
    world.one(A, U)
    assert (world.state(A), world.state(U)) == ("denied", "denied")
    world.part(A)
    assert (world.state(A), world.state(U)) == ("granted", "denied")


def test_an_identifier_that_several_people_share_speaks_for_none_of_them(world):
    world.said(B, ads=False)
    world.said(A, ads=True)
    world.people.shared.add(B)
    world.one(A, B)
    assert world.state(A) == "granted"


def test_a_verified_grant_overrules_older_denials_while_they_are_one_person(world):
    world.said(A, ads=False)
    world.one(A, U)
    world.now_us += HOUR_US
    world.said(U, verified=[U], ads=True)
    assert world.state(A) == "granted"
    assert world.ledger.standing(A).purposes["ads"].lifts
    world.part(A)
    assert (world.state(A), world.state(U)) == ("denied", "granted")
    world.one(A, U)
    assert world.state(A) == "granted"
    world.now_us += HOUR_US
    world.said(U, ads=False)
    assert world.state(A) == "denied"


def test_a_grant_before_the_merge_overrules_nothing(world):
    world.said(A, ads=False)
    world.now_us += HOUR_US
    world.said(U, verified=[U], ads=True)
    world.one(A, U)
    assert world.state(U) == "denied"


@pytest.mark.parametrize(
    ("denied", "granted", "state"),
    [
        ({"server": True}, {}, "denied"),
        ({"server": True}, {"server": True}, "granted"),
        ({}, {}, "granted"),
        ({}, {"grants_count": False}, "denied"),
        ({}, {"at": -1}, "denied"),
    ],
)
def test_what_a_verified_grant_can_overrule(world, denied, granted, state):
    world.said(A, ads=False, **denied)
    world.one(A, U)
    world.now_us += HOUR_US
    world.said(U, verified=[U], ads=True, **granted)
    assert world.state(A) == state


def test_an_unverified_grant_overrules_nobody(world):
    world.said(A, ads=False)
    world.one(A, U)
    world.now_us += HOUR_US
    world.said(U, ads=True)
    assert world.state(U) == "denied"


def test_a_new_denial_after_it_was_overruled_holds(world):
    world.said(A, ads=False)
    world.one(A, U)
    world.now_us += HOUR_US
    world.said(U, verified=[U], ads=True)
    world.now_us += HOUR_US
    assert world.said(A, ads=False) == 0
    assert world.state(A) == "granted"
    assert world.said(A, ads=False, kind="api") == 1
    assert world.state(A) == "denied"


def test_a_denial_holds_again_where_the_text_of_the_overruling_grant_is_superseded(world):
    world.said(A, ads=False)
    world.one(A, U)
    world.now_us += HOUR_US
    world.said(U, verified=[U], ads=True, proof=shown("1"))
    assert world.state(A) == "denied"


def test_where_nobody_knows_who_is_who_nobody_stands_anywhere(world):
    world.said(A, ads=True)
    world.people.ready = False
    with pytest.raises(NotReady) as wait:
        world.ledger.standing(A)
    assert wait.value.retry_after_s == 1


def test_a_small_memory_changes_no_answer():
    worlds = [World(), World(cache_max=1)]
    rng = Random(1)
    names = [node(f"n{number}") for number in range(6)]
    for _ in range(400):
        act, some = rng.random(), rng.sample(names, 2)
        fields = {"ads": rng.random() < 0.5, "kind": rng.choice(["event", "api"])}
        for world in worlds:
            world.now_us += HOUR_US
            if act < 0.1:
                world.one(*some)
            elif act < 0.2:
                world.part(some[0])
            else:
                world.said(*some, verified=some[:1], **fields)
        first, second = ([one.ledger.standing(n) for n in names] for one in worlds)
        assert first == second


# ---------------------------------------------------------------- signals and restriction


def test_global_privacy_control_denies_what_sells_and_its_absence_changes_nothing(world):
    world.said(A, ads=True, mail=True)
    world.now_us += HOUR_US
    assert world.said(A, kind="gpc", regime="ccpa@1", ads=False) == 1
    assert world.said(A, kind="gpc", regime="ccpa@1", ads=False) == 0
    world.said(A, mail=True)
    standing = world.ledger.standing(A)
    assert standing.gpc
    assert (world.state(A, "ads"), world.state(A, "mail")) == ("denied", "granted")
    assert standing.purposes["ads"].kind == "gpc"


def test_where_the_law_does_not_honour_the_signal_it_is_only_remembered(world):
    world.said(A, ads=True)
    assert world.said(A, kind="gpc", regime="us_opt_out_of_all@1", ads=False) == 1
    assert world.state(A) == "granted"
    assert world.ledger.standing(A).gpc
    assert world.said(A, kind="gpc", regime="gdpr@1", ads=False) == 1
    assert world.state(A) == "denied"


def test_only_a_later_explicit_grant_ends_what_the_signal_began(world):
    world.said(A, kind="gpc", regime="ccpa@1")
    world.one(A, U)
    world.now_us += HOUR_US
    world.said(A, ads=True, grants_count=False)
    assert world.ledger.standing(U).gpc
    world.said(U, verified=[U], server=True, ads=True)
    assert (world.state(A), world.ledger.standing(A).gpc) == ("granted", False)
    world.now_us += HOUR_US
    assert world.said(A, kind="gpc", regime="ccpa@1") == 0
    world.part(A)
    assert (world.state(A), world.ledger.standing(A).gpc) == ("denied", True)


def test_ten_thousand_sequences_of_the_signal_never_opt_anybody_in():
    rng = Random(6)
    for _ in range(10_000):
        world = World()
        signalled = False
        for _ in range(rng.randrange(1, 5)):
            world.now_us += HOUR_US
            if rng.random() < 0.4:
                world.said(A, U, kind="gpc", regime="ccpa@1")
                signalled = True
            else:
                world.said(A, ads=True, mail=True, grants_count=False)
            standing = world.ledger.standing(A)
            assert standing.gpc is signalled
            assert (world.state(A) == "denied") is signalled
            assert (world.state(U) == "denied") is signalled


def test_processing_is_restricted_for_the_whole_person_until_it_no_longer_is(world):
    world.one(A, U)
    assert world.restrict(U) == 1
    assert world.restrict(U) == 0
    assert world.ledger.standing(A).restricted
    world.open()
    assert world.ledger.standing(A).restricted
    assert world.restrict(U, on=False) == 1
    assert not world.ledger.standing(A).restricted
    assert [one.action for one in records(world)] == ["restricted", "unrestricted"]


def test_whoever_listens_is_told_of_each_denial_and_not_of_grants(world):
    world.said(A, ads=True)
    assert world.restricted == []
    world.said(A, U, ads=False, kind="api")
    world.restrict(B)
    world.restrict(B, on=False)
    world.said(B, kind="gpc")
    assert world.restricted == [[A, U], [B], [B]]


def test_the_suppressed_are_suppressed_as_soon_as_the_ledger_is_told(world):
    world.one(A, U)
    assert not world.ledger.standing(A).suppressed
    world.suppressed.add(U)
    world.ledger.suppressed([U])
    assert world.ledger.standing(A).suppressed
    assert world.restricted == [[U]]
    assert world.ledger.standing_of([U]).suppressed


# ---------------------------------------------------------------- records


def test_the_history_of_a_person_has_every_record_with_its_proof(world):
    proof = shown("2", signal="the string", address="192.0.2.0", actor="ada")
    world.said(A, ads=True, proof=proof)
    world.said(U, mail=False)
    world.said(A, ads=False)
    history = world.ledger.history([A, U])
    assert [one.record.seq for one in history] == [1, 2, 3]
    assert history[0].proof == proof
    assert (history[0].record.policy, history[2].proof) == ("shop@2", Proof())
    assert world.ledger.record(2) == history[1]
    assert world.ledger.record(4) is None


def test_no_proof_stands_in_the_clear(world):
    world.vault.seal_row = lambda batch, subject, record, context: b"sealed"
    secret = {
        "signal": "CANARY1",
        "origin": "CANARY2",
        "request_id": "CANARY3",
        "notice": "CANARY4",
    }
    more = {"address": "CANARY5", "user_agent_sha256": "CANARY6", "actor": "CANARY7"}
    world.said(A, ads=True, proof=shown(**secret, **more))
    assert not any(
        b"CANARY" in row
        for family in ("consent", "standing")
        for row in [value for _, value in world.rows(family)]
    )


def test_a_batch_that_was_not_written_left_nothing(world):
    world.said(A, ads=True)
    before = world.rows("consent"), world.rows("standing"), world.ledger.head
    batch = world.store.batch()
    world.ledger.note(batch, [A], world.statement(ads=False))
    assert world.state(A) == "denied"
    world.store._write_fault = lambda: errno.ENOSPC
    with pytest.raises(StoreFull):
        world.store.write(batch)
    world.store._write_fault = lambda: 0
    world.ledger.forget_unwritten()
    assert world.state(A) == "granted"
    assert (world.rows("consent"), world.rows("standing"), world.ledger.head) == before
    world.said(A, ads=False)
    assert verify_chain(records(world)) == 2


def random_life(seed, *, steps=60):
    """A world in which much was said, merged and parted."""
    world, rng = World(), Random(seed)
    names = [node(f"n{number}") for number in range(6)]
    for _ in range(steps):
        act, some = rng.random(), rng.sample(names, rng.randrange(1, 4))
        world.now_us += rng.choice([0, HOUR_US])
        if act < 0.15:
            world.one(*some)
        elif act < 0.2:
            world.part(some[0])
        elif act < 0.25:
            world.restrict(*some, on=rng.random() < 0.5)
        else:
            world.said(
                *some,
                verified=some[:1],
                server=rng.random() < 0.4,
                at=rng.choice([None, -3]),
                kind=rng.choice(["event", "api", "gpc", "import"]),
                regime=rng.choice(["ccpa@1", "us_opt_out_of_all@1"]),
                proof=rng.choice([Proof(), shown("1")]),
                ads=rng.random() < 0.6,
                mail=rng.random() < 0.4,
            )
    return world, names


@pytest.mark.parametrize("seed", range(40))
def test_rows_that_are_made_anew_from_the_records_are_the_same_bytes(seed):
    world, names = random_life(seed)
    for forgets in ([], names[:1], names[1:3]):
        if forgets:
            world.forget(*forgets)
        rows = world.rows("standing")
        world.store.write(scribble(world.store))
        assert rebuild(world.store) == verify_chain(records(world))
        assert world.rows("standing") == rows


def scribble(store):
    """Rows that are not what the records say."""
    batch = store.batch()
    batch.put("standing", node("stranger"), b"\x90")
    for key, _ in store.items("standing"):
        batch.put("standing", key, b"\x96\x00\x00\x00\x00\x80\x80")
    return batch


@pytest.mark.parametrize("seed", range(20))
def test_of_the_forgotten_nothing_is_left_but_what_was_decided_and_when(seed):
    world, names = random_life(seed)
    before = records(world)
    gone = set(names[:2])
    others = {one: world.ledger.history([one]) for one in names[2:]}
    count = sum(record.node in gone for record in before)
    assert world.forget(*gone) == count > 0
    after = records(world)
    assert verify_chain(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert (old.said, old.at_us, old.received_at_us) == (
            new.said,
            new.at_us,
            new.received_at_us,
        )
        assert new.node == (b"" if old.node in gone else old.node)
    without_seals = [replace(record, sealed=b"") for record in after]
    stored = repr([without_seals, world.rows("standing")]).encode()
    assert not any(one.rstrip(b".") in stored for one in gone)
    assert world.ledger.history(gone) == []
    kept = {one: [said.record.seq for said in world.ledger.history([one])] for one in names[2:]}
    assert kept == {one: [said.record.seq for said in told] for one, told in others.items()}


def test_whoever_comes_back_after_being_forgotten_begins_anew(world):
    world.said(A, ads=False)
    world.forget(A)
    assert world.state(A) is None
    assert world.said(A, ads=True) == 1
    assert verify_chain(records(world)) == 2


@pytest.mark.parametrize("field", ["said", "at_us", "policy", "sealed", "seq", "chain"])
def test_a_record_that_was_changed_breaks_the_chain(world, field):
    for granted in (True, False, True):
        world.now_us += HOUR_US
        world.said(A, ads=granted)
    changed = {"said": {"ads": True}, "at_us": 5, "policy": "other@1", "sealed": b"x", "seq": 9}
    told = records(world)
    told[1] = replace(told[1], **{field: changed.get(field, b"x" * 32)})
    with pytest.raises(StoreDamaged, match="the chain of consent records breaks"):
        verify_chain(told)
    with pytest.raises(StoreDamaged):
        verify_chain(records(world)[1:])


def test_a_record_that_was_moved_to_another_identifier_is_not_believed(world):
    world.said(A, ads=True)
    world.said(U, ads=False)
    world.vault.open_row = lambda sealed, context: sealed[32:]
    batch = world.store.batch()
    first, second = world.rows("consent")
    batch.put("consent", second[0], first[1])
    world.store.write(batch)
    with pytest.raises(StoreDamaged):
        verify_chain(records(world))
    moved = replace(decode_record(first[1]), node=U)
    from cdp.consent.records import open_proof

    with pytest.raises(StoreDamaged, match="about another identifier"):
        open_proof(moved, world.vault)
