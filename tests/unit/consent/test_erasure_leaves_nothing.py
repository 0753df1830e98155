"""An erasure from the request to the receipt: what goes, what stays, and what is told."""

from __future__ import annotations

import pytest
import trio

from cdp.consent.byte_scan import scan
from cdp.consent.requests import RequestRefused
from cdp.domain.consent import Statement
from tests.unit.consent.erasure_world import (
    ADA,
    BOB,
    SHARED,
    T0_US,
    TABLET,
    World,
    node,
    nodes,
)


@pytest.fixture
def world():
    world = World()
    world.settle(ADA)
    world.settle(BOB)
    return world


async def test_every_store_forgets_the_person_and_nobody_else(world, autojump_clock):
    slots, kept = world.slots_of(ADA), world.traces_of(BOB)
    receipt = await world.erase(ADA[:1])
    assert receipt["state"] == "complete"
    assert world.traces_of(ADA) == []
    assert world.traces_of(BOB) == kept
    assert len(world.readable_events(BOB)) == 3
    assert slots
    assert world.live_slots(slots) == []


async def test_the_planted_person_is_found_everywhere_before(world):
    """What the other tests find to be empty was not empty."""
    found = set(world.traces_of(ADA))
    families = ("identity", "identifiers", "fragments", "timeline", "logins", "standing", "dead")
    assert {f"node in {family}" for family in families} <= found
    assert {"message id", "rejected event"} <= found
    assert world.readable_events(ADA) == [0, 1, 2]


async def test_sealing_suppresses_every_identifier_of_the_profile_at_once(world, autojump_clock):
    request_id = await world.ask([ADA[1]])
    approved = trio.current_time()
    await world.run(lambda: world.suppression.nodes)
    assert world.suppression.nodes == set(nodes(ADA))
    assert trio.current_time() - approved <= 0.25  # one look of this test
    assert world.recalled == [set(nodes(ADA))]
    rows = {key for key, _ in world.store.items("suppressed")}
    assert rows == world.suppression.nodes
    await world.run_to_end(request_id)
    assert world.suppression.nodes == set(nodes(ADA))


async def test_the_request_keeps_nothing_of_the_person_once_it_is_over(world, autojump_clock):
    request_id = await world.ask(ADA, external_id="ticket 9")
    key = bytes.fromhex(request_id)
    slots = world.vault.slots_of(key)
    assert world.book.secret(world.book.get(request_id)) is not None
    await world.run_to_end(request_id)
    assert world.book.get(request_id).sealed == b""
    assert world.store.get("subjects", key) is None
    assert world.live_slots(slots) == []
    everything = repr([list(world.store.items(family)) for family in ("requests", "erasures")])
    assert not any(value in everything for _, value in ADA)


async def test_while_it_runs_whom_it_is_about_stands_nowhere_in_the_clear(world, autojump_clock):
    await world.ask(ADA, external_id="ticket 9")
    stored = b"".join(value for _, value in world.store.items("requests"))
    assert not any(value.encode() in stored for _, value in ADA)
    assert not any(one in stored for one in nodes(ADA))


async def test_erasing_twice_finds_nothing_the_second_time(world, autojump_clock):
    first = await world.erase(ADA)
    second = await world.erase(ADA)
    assert (first["state"], second["state"]) == ("complete", "complete")
    erased = {one["store"]: one["erased"] for one in second["stores"]}
    assert {name: count for name, count in erased.items() if count} == {"identity": 3}
    assert world.suppression.nodes == set(nodes(ADA))


async def test_two_erasures_of_one_person_at_once_both_end(world, autojump_clock):
    ids = [await world.ask(ADA), await world.ask([ADA[1]])]
    told = await world.run_to_end(*ids)
    assert [one["state"] for one in told] == ["complete", "complete"]
    assert world.traces_of(ADA) == []


async def test_erasing_somebody_nobody_knows_only_suppresses(world, autojump_clock):
    stranger = (("email", "stranger@example.com"),)
    receipt = await world.erase(stranger)
    assert receipt["state"] == "complete"
    assert world.suppression.nodes == set(nodes(stranger))
    assert [one["state"] for one in receipt["destinations"]] == ["not_needed", "not_needed"]


async def test_identifiers_of_two_people_erase_both(world, autojump_clock):
    receipt = await world.erase([ADA[1], BOB[1]])
    assert receipt["state"] == "complete"
    assert world.traces_of(ADA) + world.traces_of(BOB) == []
    assert world.suppression.nodes == {*nodes(ADA), *nodes(BOB)}


async def test_identifiers_that_merge_while_it_runs_are_erased_too(world, autojump_clock):
    phone = ("phone", "+4915112345678")

    async def settled():
        if world.graph.row(node(*phone)) is None:
            world.merge(ADA[0], phone)  # by an event that was stored before the seal
        await trio.lowlevel.checkpoint()

    world.instead(settled=settled)
    receipt = await world.erase(ADA)
    assert receipt["state"] == "complete"
    assert world.suppression.nodes == {*nodes(ADA), node(*phone)}
    assert world.traces_of((*ADA, phone)) == []


async def test_a_device_of_several_people_is_neither_suppressed_nor_erased(world, autojump_clock):
    world.settle((*ADA, TABLET))
    world.share(TABLET)
    receipt = await world.erase([*ADA, TABLET])
    assert receipt["state"] == "complete"
    assert node(*TABLET) not in world.suppression.nodes
    assert world.graph.row(node(*TABLET)) == SHARED
    assert world.traces_of(ADA) == []


async def test_an_identifier_that_turns_out_to_be_shared_is_let_go_again(world, autojump_clock):
    world.settle((*ADA, TABLET))

    async def settled():
        world.share(TABLET)  # by an event of somebody else, stored before the seal
        await trio.lowlevel.checkpoint()

    world.instead(settled=settled)
    receipt = await world.erase(ADA)
    assert receipt["state"] == "complete"
    assert world.suppression.nodes == set(nodes(ADA))
    assert world.graph.row(node(*TABLET)) == SHARED
    assert world.live_slots(world.vault.slots_of(node(*TABLET)))


async def test_only_shared_identifiers_are_nobodys_request(world, autojump_clock):
    world.settle((*ADA, TABLET))
    world.share(TABLET)
    receipt = await world.erase([TABLET])
    assert receipt["state"] == "partially_complete"
    assert receipt["problems"] == ["shared_identifiers"]
    assert world.suppression.nodes == set()
    assert len(world.readable_events(ADA)) == 6


async def test_without_suppression_the_person_may_come_back(world, autojump_clock):
    receipt = await world.erase(ADA, suppress=False)
    assert receipt["state"] == "complete"
    assert world.traces_of(ADA) == []
    assert world.suppression.nodes == set()
    assert list(world.store.items("suppressed")) == []
    world.settle(ADA)
    assert world.readable_events(ADA) == [6, 7, 8]


async def test_one_that_lets_people_back_does_not_lift_what_another_holds(world, autojump_clock):
    await world.erase(ADA)
    await world.erase(ADA, suppress=False)
    assert world.suppression.nodes == set(nodes(ADA))


async def test_a_suppression_keeps_what_is_there_and_lets_nothing_in(world, autojump_clock):
    request_id = await world.ask(ADA, kind="suppression", downstream=False)
    (told,) = await world.run_to_end(request_id)
    assert told["state"] == "complete"
    assert world.suppression.nodes == set(nodes(ADA))
    assert world.readable_events(ADA) == [0, 1, 2]
    assert world.services.orders == []


async def test_the_consent_of_the_erased_is_no_longer_about_anybody(world, autojump_clock):
    await world.erase(ADA)
    assert world.ledger.history(nodes(ADA)) == []
    assert len(world.ledger.history(nodes(BOB))) == 3
    assert world.ledger.standing(node(*ADA[0])).suppressed


async def test_everything_that_was_done_is_in_the_audit_log(world, autojump_clock):
    await world.erase(ADA)
    actions = world.audit_actions()
    assert actions[:8] == [
        "request_received",
        "request_verified",
        "request_approved",
        "erasure_sealed",
        "erasure_shredding",
        "key_destroyed",
        "erasure_purging",
        "erasure_verifying",
    ]
    assert actions[8] == "erasure_downstream"
    assert sorted(set(actions[9:])) == ["erasure_complete", "erasure_destination"]


async def test_the_receipt_says_when_and_how_much(world, autojump_clock):
    receipt = await world.erase(ADA, regulation="gdpr", external_id="ticket 9")
    times = receipt["times"]
    order = ["t_request", "t_sealed", "t_shredded", "t_purged", "t_verified", "t_completed"]
    assert list(times) == order
    assert [times[name] for name in order] == sorted(times.values())
    erased = {one["store"]: one["erased"] for one in receipt["stores"] if one["erased"]}
    assert erased == {
        **{"consent": 3, "deliveries": 1, "exports": 1, "identity": 3},
        **{"keys": 3, "rejected": 1, "seen": 3},
    }
    assert all(not one["left"] for one in receipt["stores"])
    stages = {"sealed", "shredded", "purged", "verified", "completed"}
    assert set(receipt["durations_s"]) == stages
    assert "ada" not in str(receipt)


async def test_the_stages_are_measured(world, autojump_clock):
    await world.erase(ADA)
    page = world.metrics.exposition()
    for stage in ("sealed", "shredded", "purged", "verified", "completed"):
        assert f'cdp_erasure_stage_seconds_count{{stage="{stage}"}} 1' in page


async def test_what_cannot_be_removed_is_named_in_the_end(world, autojump_clock):
    async def erase_nothing(_):
        await trio.lowlevel.checkpoint()

    world.instead(identity_erase=erase_nothing)
    receipt = await world.erase(ADA)
    assert receipt["state"] == "partially_complete"
    assert receipt["purged_again"] == 3
    families = ("fragments", "identifiers", "identity", "logins", "timeline")
    assert receipt["problems"] == [f"still_found:{family}" for family in families]
    left = {one["store"]: one["left"] for one in receipt["stores"] if one["left"]}
    assert left == {
        **{"fragments": 3, "identifiers": 3, "identity": 3},
        **{"logins": 3, "timeline": 1},
    }
    assert world.live_slots(world.vault.slots_of(node(*ADA[0]))) == []


async def test_what_was_left_once_is_purged_again(world, autojump_clock):
    erase, calls = world.identity_erase, []

    async def erase_the_second_time(some):
        calls.append(some)
        if len(calls) > 1:
            await erase(some)

    world.instead(identity_erase=erase_the_second_time)
    receipt = await world.erase(ADA)
    assert (receipt["state"], receipt["purged_again"]) == ("complete", 1)
    assert world.traces_of(ADA) == []


async def test_a_file_that_names_the_person_is_found(tmp_path, autojump_clock):
    world = World(data_dir=tmp_path)
    world.settle(ADA)
    world.settle(BOB)
    (tmp_path / "notes.txt").write_text(f"call {ADA[1][1]} back")
    receipt = await world.erase([ADA[0]])
    assert receipt["state"] == "partially_complete"
    assert receipt["problems"] == ["still_found:files"]
    assert receipt["scan"]["hits"] == {"notes.txt": 1}
    assert "ada" not in str(receipt)
    (tmp_path / "notes.txt").unlink()
    assert (await world.erase([BOB[0]]))["state"] == "complete"


async def test_people_who_are_verified_together_are_told_apart(tmp_path, autojump_clock):
    world = World(data_dir=tmp_path)
    world.settle(ADA)
    world.settle(BOB)
    (tmp_path / "notes.txt").write_text(BOB[1][1])
    ids = [await world.ask(ADA), await world.ask(BOB)]
    told = await world.run_to_end(*ids, within_s=600)
    assert [one["state"] for one in told] == ["complete", "partially_complete"]


async def test_the_checkpoint_of_a_store_holds_nothing_that_can_be_searched(
    tmp_path, autojump_clock
):
    """The files of a backup from before the erasure: ciphertext only, at any time."""
    world = World()
    world.settle(ADA)
    await world.store.checkpoint(tmp_path / "backup")
    assert scan(tmp_path, [value for _, value in ADA]).hits == {}


async def test_a_step_that_cannot_be_taken_now_keeps_nobody_waiting(world, autojump_clock):
    purge, failures = world.purge_rejected, []

    async def fail_for_ada(identifiers):
        if ADA[0] in identifiers and len(failures) < 5:
            failures.append(trio.current_time())
            raise OSError("the disk is away")
        return await purge(identifiers)

    world.instead(purge_rejected=fail_for_ada)
    ada, bob = await world.ask(ADA), await world.ask(BOB)
    await world.run_to_end(bob, within_s=5)
    assert world.erasures.get(ada)["state"] == "purging"
    (told,) = await world.run_to_end(ada, within_s=120)
    assert told["state"] == "complete"
    assert len(failures) == 5


async def test_restriction_is_a_state_of_the_person_and_can_be_lifted(world, autojump_clock):
    await world.run_to_end(await world.ask([ADA[1]], kind="restriction"))
    assert world.ledger.standing(node(*ADA[0])).restricted
    assert not world.ledger.standing(node(*BOB[0])).restricted
    await world.run_to_end(await world.ask([ADA[1]], kind="restriction", lift=True))
    assert not world.ledger.standing(node(*ADA[0])).restricted
    assert world.audit_actions().count("unrestricted") == 1


async def test_access_makes_one_document_and_waits_where_it_would_be_of_two(world, autojump_clock):
    request_id = await world.ask([ADA[1]], kind="access")
    (told,) = await world.run_to_end(request_id)
    assert (told["state"], told["exports"]) == ("complete", ["json"])
    both = await world.ask([ADA[1], BOB[1]], kind="portability")
    await world.run(lambda: world.erasures.get(both)["state"] == "on_hold")
    assert world.erasures.get(both)["hold"] == "the identifiers are those of several people"


async def test_access_of_somebody_nobody_knows_says_so(world, autojump_clock):
    request_id = await world.ask([("email", "stranger@example.com")], kind="access")
    (told,) = await world.run_to_end(request_id)
    assert (told["state"], told["reason"], told["exports"]) == ("complete", "nothing is held", [])


async def test_it_waits_until_it_is_known_who_is_who(world, autojump_clock):
    world.graph.ready = False
    request_id = await world.ask([ADA[1]])
    with trio.move_on_after(60):
        await world.run(lambda: False)
    assert world.erasures.get(request_id)["state"] == "approved"
    assert world.suppression.nodes == set()
    world.graph.ready = True
    await world.run_to_end(request_id)
    assert world.suppression.nodes == set(nodes(ADA))


async def test_nothing_is_asked_of_whom_no_identifier_can_be_used(world):
    with pytest.raises(RequestRefused, match="none of the identifiers can tell people apart"):
        await world.ask([("email", "nobody")])
    assert list(world.store.items("requests")) == []


async def test_nothing_said_after_the_seal_is_recorded_about_the_person(world, autojump_clock):
    """The log writer asks the same set that the seal fills; here it is the ledger's own answer."""
    await world.erase(ADA)
    statement = Statement(
        purposes={"ads": True},
        kind="event",
        authority="server",
        source="test",
        at_us=T0_US,
        received_at_us=T0_US,
    )
    assert world.suppression.any_of(nodes(ADA))
    batch = world.store.batch()
    world.ledger.note(batch, nodes(BOB), statement)
    world.store.write(batch)
    assert world.ledger.standing(node(*ADA[0])).suppressed
    assert not world.ledger.standing(node(*BOB[0])).suppressed


async def test_lifting_waits_for_the_erasure_that_runs(world, autojump_clock):
    """Nothing new may come in while it destroys and looks."""
    request_id = await world.ask(ADA)
    lifted = []

    async def settled():
        with world.book.change() as batch:
            lifted.append(world.suppression.lift(batch, nodes(ADA)))
        assert world.suppression.nodes == set(nodes(ADA))
        await trio.lowlevel.checkpoint()

    world.instead(settled=settled)
    (told,) = await world.run_to_end(request_id)
    assert told["state"] == "complete"
    assert lifted == [0]
    assert world.suppression.nodes == set()
    assert list(world.store.items("suppressed")) == []


async def test_rejected_events_of_the_person_are_compacted_away(world, autojump_clock):
    """Their key is that of a day, which others' events share: it cannot be destroyed yet."""
    reclaimed = []
    reclaim = world.store.reclaim

    async def note(family, start, end):
        reclaimed.append(family)
        await reclaim(family, start, end)

    world.store.reclaim = note
    await world.erase(ADA)
    assert reclaimed == ["rejected"]
