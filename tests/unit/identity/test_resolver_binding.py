"""What crosses between Python and the resolver, and what is refused there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cdp import _matcher
from cdp._matcher import KIND_CO_OCCUR, KIND_IDENTIFY, Namer, Resolver, attribute
from cdp.app import rules_json
from cdp.config import Identity
from cdp.domain.identifier import NAMESPACE_CODE

KEY = b"a key of the tests"
RULES = rules_json(Identity(blocked_values=("Acme",)))
USER, EMAIL, PHONE, ANONYMOUS = (
    NAMESPACE_CODE[name] for name in ("user_id", "email", "phone", "anonymous_id")
)
CANONICAL = NAMESPACE_CODE["email_canonical"]
MINUTE_US = 60_000_000


@pytest.fixture
def resolver():
    return Resolver(KEY, RULES)


def test_a_batch_answers_for_each_observation_in_order(resolver):
    done = resolver.resolve(
        [
            (1, KIND_CO_OCCUR, 0, [(ANONYMOUS, "a1")]),
            (2, KIND_IDENTIFY, 0, [(USER, "ann"), (ANONYMOUS, "a1"), (EMAIL, "A.nn@gmail.com")]),
            (3, KIND_CO_OCCUR, 0, []),
        ]
    )
    device, user = resolver.node(ANONYMOUS, "a1"), resolver.node(USER, "ann")
    assert done.events == [
        (device, device, 0, False, ()),
        (user, device, 2, False, ()),
        (b"", b"", 0, False, ()),
    ]
    assert done.new_identifiers == [
        (device, ANONYMOUS, "a1", device),
        (user, USER, "ann", user),
        (resolver.node(EMAIL, "a.nn@gmail.com"), EMAIL, "a.nn@gmail.com", user),
        (resolver.node(CANONICAL, "ann@gmail.com"), CANONICAL, "ann@gmail.com", user),
    ]
    assert done.changes == []
    assert len(done.records) == 4 + 3
    assert (
        resolver.resolve([(2, KIND_IDENTIFY, 0, [(USER, "ann"), (ANONYMOUS, "a1")])]).records == []
    )


def test_what_merges_is_told_with_its_cause(resolver):
    done = resolver.resolve(
        [
            (1, KIND_CO_OCCUR, 0, [(ANONYMOUS, "a1")]),
            (2, KIND_CO_OCCUR, 0, [(USER, "ann")]),
            (3, KIND_CO_OCCUR, 0, [(USER, "ann"), (ANONYMOUS, "a1")]),
        ]
    )
    device, user = resolver.node(ANONYMOUS, "a1"), resolver.node(USER, "ann")
    assert done.changes == [(2, "merged", device, user)]
    assert resolver.profile_of(user) == device
    assert resolver.members(user) == [device, user]


def test_what_is_not_used_is_named_by_its_place_and_reason(resolver):
    named = [
        (USER, "null"),
        (USER, "ACME"),
        (EMAIL, "ann at home"),
        (EMAIL, "info@shop.example"),
        (EMAIL, "ann@mailinator.com"),
        (PHONE, "1-800-356-9377"),
        (99, "x"),
        (ANONYMOUS, "a1"),
    ]
    (event,) = resolver.resolve([(1, KIND_CO_OCCUR, 0, named)]).events
    assert event[0] == resolver.node(ANONYMOUS, "a1")
    assert event[4] == (
        (0, "blocked"),
        (1, "blocked"),
        (2, "invalid"),
        (3, "role"),
        (4, "disposable"),
        (5, "toll_free"),
        (6, "namespace"),
    )


def test_normalising_is_of_the_namespace(resolver):
    assert resolver.normalise(USER, " Ann ") == "Ann"
    assert resolver.normalise(EMAIL, " Ann@Shop.Example ") == "ann@shop.example"
    assert resolver.normalise(PHONE, "(650) 253-0000") == "+16502530000"
    assert resolver.normalise(PHONE, "911") is None
    assert resolver.node(PHONE, "911") is None
    german = Resolver(KEY, rules_json(Identity(default_region="DE")))
    assert german.normalise(PHONE, "030 123456") == "+4930123456"


def test_half_a_surrogate_pair_still_names_somebody(resolver):
    (event,) = resolver.resolve([(1, KIND_CO_OCCUR, 0, [(USER, "ann\ud800")])]).events
    assert len(event[0]) == 16


def test_who_was_never_seen_has_no_profile(resolver):
    node = resolver.node(USER, "ann")
    assert resolver.profile_of(node) is None
    assert resolver.members(node) == []
    assert not resolver.is_shared(node)
    assert resolver.shared_neighbours(node) == []
    assert resolver.profile_of(b"short") is None


def test_what_was_loaded_is_resolved_before_anybody_asks(resolver):
    seen = [(1, KIND_IDENTIFY, 0, [(USER, "ann"), (PHONE, "+41445550100")])]
    stored = [row for row in resolver.resolve(seen).records if row[1] is not None]
    loaded = Resolver(KEY, RULES)
    loaded.load(stored)
    loaded.finish_load()
    assert loaded.digest() == resolver.digest()
    loaded.finish_load()  # nothing is left to do


def test_rows_go_in_at_any_time_before_the_first_observation(resolver):
    resolver.resolve([])
    with pytest.raises(ValueError, match="load into a new resolver"):
        resolver.load([(b"n" + bytes(16), bytes(11))])
    with pytest.raises(ValueError, match="restore the store"):
        Resolver(KEY, RULES).load([(b"?", b"")])


@pytest.mark.parametrize(
    ("key", "rules", "text"),
    [
        (b"short", RULES, "5 bytes"),
        (KEY, "{}", "namespaces"),
        (KEY, '{"namespaces": {}, "default_region": "ZZ"}', "default_region"),
    ],
)
def test_a_key_or_a_rule_that_cannot_be_used_is_refused(key, rules, text):
    with pytest.raises(ValueError, match=text):
        Resolver(key, rules)


def test_an_observation_of_no_kind_is_refused(resolver):
    with pytest.raises(ValueError, match="kind 8"):
        resolver.resolve([(1, 8, 0, [])])
    with pytest.raises(ValueError, match="3 fields"):
        resolver.resolve([(1, 0, [])])
    with pytest.raises(TypeError):
        resolver.resolve([(1, 0, 0, [(USER, b"ann")])])


def test_every_kind_has_its_code():
    kinds = ["CO_OCCUR", "IDENTIFY", "ALIAS", "LOGIN", "CRM_ROW"]
    kinds += ["MANUAL_LINK", "MANUAL_UNLINK", "RETRACT"]
    assert [getattr(_matcher, f"KIND_{kind}") for kind in kinds] == list(range(8))


def test_an_explanation_names_what_joined_and_what_was_refused(resolver):
    phone = (PHONE, "+16502530000")
    resolver.resolve(
        [
            (1, KIND_IDENTIFY, 3, [(USER, "ann"), phone]),
            (2, KIND_IDENTIFY, 0, [(USER, "bob"), phone]),
        ]
    )
    ann, bob = resolver.node(USER, "ann"), resolver.node(USER, "bob")
    found = json.loads(resolver.explain(ann))
    assert found["profile"] == resolver.profile_of(ann).hex()
    assert [member["node"] for member in found["members"]] == [
        node.hex() for node in resolver.members(ann)
    ]
    (accepted,), (refused,) = found["accepted"], found["suppressed"]
    assert (accepted["kinds"], accepted["assurance"]) == (["identify"], 2)
    assert (accepted["sources"], accepted["first_us"]) == ([3], 1)
    assert refused["reason"]["rule"] == "limit"
    assert set(refused["reason"]["witness"]) == {ann.hex(), bob.hex()}
    assert json.loads(resolver.why_not(ann, bob))["reason"] == "a link between them was refused"


def test_a_shared_device_goes_to_who_was_signed_in():
    ann, bob = bytes(15) + b"\x01", bytes(15) + b"\x02"
    logins = [(60 * MINUTE_US, ann), (90 * MINUTE_US, bob)]
    assert attribute(logins, 89 * MINUTE_US) == (ann, "interval")
    assert attribute(logins, 90 * MINUTE_US) == (bob, "interval")
    assert attribute(logins, 59 * MINUTE_US) == (ann, "session")
    assert attribute(logins, 29 * MINUTE_US) == (b"", "none")
    assert attribute([], 0) == (b"", "none")


@pytest.mark.slow
def test_what_it_says_it_takes_is_what_it_takes():
    people = 400_000  # so many that what the allocator adds does not matter
    program = Path(__file__).with_name("resolver_memory.py")
    answer = subprocess.run(
        [sys.executable, program, str(people)], capture_output=True, text=True, check=True
    )
    counted, resident = map(float, answer.stdout.split())
    assert counted < 150
    assert resident < 150
    assert counted == pytest.approx(resident, rel=0.4)


def test_the_rows_of_the_forgotten_are_to_be_deleted(resolver):
    named = [(USER, "ann"), (ANONYMOUS, "a1")]
    written = resolver.resolve([(1, KIND_IDENTIFY, 0, named)]).records
    done = resolver.forget([resolver.node(*one) for one in named])
    assert sorted(done.records) == sorted((key, None) for key, _ in written)
    assert (done.events, done.new_identifiers, done.changes) == ([], [], [])
    assert resolver.statistics()["nodes"] == resolver.statistics()["edges"] == 0


def test_what_is_no_node_is_passed_over_when_forgetting(resolver):
    assert resolver.forget([b"", b"too short", b"never seen befor"]).records == []


def test_a_namer_names_an_address_and_its_canonical_form_and_nobody_by_a_placeholder():
    namer, resolver = Namer(KEY, RULES), Resolver(KEY, RULES)
    assert namer.nodes([[(USER, "null"), (EMAIL, "A.nn@gmail.com")], (), [(USER, "Acme")]]) == [
        [resolver.node(EMAIL, "a.nn@gmail.com"), resolver.node(CANONICAL, "ann@gmail.com")],
        [],
        [],
    ]
    assert namer.node(USER, "ann") == resolver.node(USER, "ann")
    assert namer.node(USER, "null") is None


@pytest.mark.parametrize("wrong", [[[(USER, 1)]], [[(-1, "ann")]], [["ann"]], [1], 1])
def test_a_namer_refuses_what_is_no_list_of_identifiers(wrong):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        Namer(KEY, RULES).nodes(wrong)


def test_a_namer_refuses_a_key_that_is_too_short():
    with pytest.raises(ValueError, match="give a secret"):
        Namer(b"short", RULES)
