"""The resolver, through the binding, against its obvious twin."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp._matcher import Namer, Resolver
from cdp.app import rules_json
from cdp.config import Identity, NamespaceRule
from cdp.domain.identifier import NAMESPACE_CODE
from tests.unit.identity.slow_resolver import ALIAS, HOUR_US, SlowResolver

KEY = b"a key of the tests"
DEFAULT = rules_json(Identity())
TIGHT = rules_json(
    Identity(
        hull_nodes_max=6,
        rules={
            "email": NamespaceRule(priority=3, limit=1, persons_max=1),
            "phone": NamespaceRule(priority=4, limit=1, limit_window="weekly", persons_max=2),
            "device_id": NamespaceRule(priority=6, limit=1, limit_window="daily", persons_max=1),
        },
    )
)

VALUES = {
    "user_id": ["ann", "bob", "cid", "null"],
    "crm_id": ["c-1", "c-2"],
    "email": ["an.n@gmail.com", "ANN+x@gmail.com", "bob@shop.example", "info@shop.example"],
    "phone": ["+1 650 253 0000", "(650) 253-0000", "+442070313000", "911"],
    "device_id": ["device-1", "device-2"],
    "anonymous_id": ["a1", "a2", "ann"],
    "external_id": ["x:1"],
}

identifiers = st.sampled_from([(NAMESPACE_CODE[n], v) for n, vs in VALUES.items() for v in vs])
times_us = st.builds(
    lambda hours, rest: hours * 17 * HOUR_US + rest * HOUR_US // 3,
    st.integers(0, 20),
    st.integers(0, 2),
)
sources = st.integers(0, 31)
events = st.tuples(
    times_us,
    st.sampled_from([0, 0, 1, 1, 3, 4, 5, 6, 7]),
    sources,
    st.lists(identifiers, max_size=4),
)
aliases = st.builds(
    lambda time_us, source, new, old: (
        time_us,
        ALIAS,
        source,
        [
            (NAMESPACE_CODE["user_id"], new),
            (NAMESPACE_CODE["user_id"], old),
            (NAMESPACE_CODE["anonymous_id"], old),
        ],
    ),
    times_us,
    sources,
    st.sampled_from(["ann", "bob", "cid"]),
    st.sampled_from(["ann", "bob", "a1"]),
)
histories = st.lists(st.one_of(events, events, events, aliases), max_size=25)


def answers(resolver, nodes):
    return {
        node: (resolver.profile_of(node), resolver.state(node), resolver.is_shared(node))
        for node in nodes
    }


@pytest.mark.parametrize("rules", [DEFAULT, TIGHT])
@settings(max_examples=400, deadline=None)
@given(history=histories)
def test_it_decides_as_its_twin_does_after_every_observation(rules, history):
    resolver = Resolver(KEY, rules)
    twin = SlowResolver(json.loads(rules), resolver)
    for observation in history:
        resolution = resolver.resolve([observation])
        twin.tell(observation)
        expected = twin.resolve()
        assert answers(resolver, twin.first_us) == expected
        leaf, profile_id, state, shared, _ = resolution.events[0]
        assert (profile_id, state, shared) == (expected[leaf] if leaf else (b"", 0, False))
    assert resolver.statistics()["suppressed"] == len(twin.clusters()[1])
    assert resolver.statistics()["nodes"] == len(twin.first_us)


@pytest.mark.parametrize("rules", [DEFAULT, TIGHT])
@settings(max_examples=200, deadline=None)
@given(history=histories, rng=st.randoms(use_true_random=False), cut=st.integers(1, 7))
def test_order_copies_batches_and_restarts_leave_no_trace(rules, history, rng, cut):
    straight = Resolver(KEY, rules)
    straight.resolve(history)
    again = history + rng.sample(history, len(history) // 2)
    rng.shuffle(again)
    resolver, rows = Resolver(KEY, rules), {}
    for start in range(0, len(again), cut):
        resolution = resolver.resolve(again[start : start + cut])
        rows.update(resolution.records)
        stored = list(rows.items())
        rng.shuffle(stored)
        resolver = Resolver(KEY, rules)
        resolver.load(stored)
    assert resolver.digest() == straight.digest()


@pytest.mark.parametrize("rules", [DEFAULT, TIGHT])
@settings(max_examples=300, deadline=None)
@given(history=histories, later=histories, data=st.data())
def test_what_is_left_after_forgetting_is_what_its_twin_has(rules, history, later, data):
    resolver = Resolver(KEY, rules)
    twin = SlowResolver(json.loads(rules), resolver)
    resolver.resolve(history)
    for observation in history:
        twin.tell(observation)
    known = sorted(twin.first_us)
    gone = data.draw(st.sets(st.sampled_from(known)) if known else st.just(set()))
    if gone and data.draw(st.booleans(), "a whole profile"):
        gone = set(resolver.members(min(gone)))
    done = resolver.forget(sorted(gone))
    deleted = {key[1:] for key, value in done.records if value is None and key[:1] == b"n"}
    assert gone <= deleted
    assert not (deleted - gone) & twin.used, "only unused readings of an alias go along"
    twin.forget(deleted)
    assert answers(resolver, twin.first_us) == twin.resolve()
    assert all(resolver.profile_of(node) is None for node in gone)
    assert resolver.statistics()["suppressed"] == len(twin.clusters()[1])
    for observation in later:
        resolver.resolve([observation])
        twin.tell(observation)
        assert answers(resolver, twin.first_us) == twin.resolve()


@pytest.mark.parametrize("rules", [DEFAULT, TIGHT])
@settings(max_examples=200, deadline=None)
@given(history=histories)
def test_a_namer_names_whom_the_resolver_knows(rules, history):
    namer, resolver = Namer(KEY, rules), Resolver(KEY, rules)
    named = namer.nodes([observation[3] for observation in history])
    for nodes, observation in zip(named, history, strict=True):
        resolution = resolver.resolve([observation])
        assert (nodes or [b""])[0] == resolution.events[0][0]
        assert {node for node, *_ in resolution.new_identifiers} <= set(nodes)
        for code, value in observation[3]:
            assert namer.node(code, value) == resolver.node(code, value)
