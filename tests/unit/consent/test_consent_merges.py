"""Merging people never widens what may be done with their data, and un-merging takes nothing along.

Random lives are held against a model that knows the rules in other words, from the list of all that
was ever said, and against what must hold whatever the rules are.
"""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from cdp.clock import HOUR_US
from tests.unit.consent.ledger_world import World, node

NAMES = [node(f"n{number}") for number in range(5)]
SEQUENCES = 100_000
STEPS_MAX = 8


class Model:
    """All that was said, in order, and the answer from that alone."""

    def __init__(self):
        self.now = 0
        self.heard = []  # (who, granted, server): one after the other, an hour apart
        self.overruled = []  # (whose denial, by whom, when, by a server)

    def of(self, who):
        """What decides for one identifier: (when, granted, server), or None."""
        holds = None
        for when, (speaker, granted, server) in enumerate(self.heard):
            if speaker != who or (holds and holds[1] == granted and (holds[2] or not server)):
                continue  # of somebody else, or the same again
            if holds and granted and not holds[1] and holds[2] and not server:
                continue  # a server denied it
            holds = (when, granted, server)
        return holds

    def say(self, who, granted, server, verified, person):
        before = self.of(who)
        self.heard.append((who, granted, server))
        when = len(self.heard) - 1
        took = self.of(who) != before
        if granted and took and verified:
            for member in person - {who}:
                holds = self.of(member)
                if holds and not holds[1] and (server or not holds[2]):
                    self.overruled.append((member, who, when, server))

    def stands(self, person):
        """granted, denied or None, of these identifiers as one person."""
        told = {who: holds for who in person if (holds := self.of(who))}
        if any(not holds[1] and not self.is_overruled(who, told) for who, holds in told.items()):
            return "denied"
        return "granted" if told else None

    def is_overruled(self, who, told):
        denied_at, _, by_server = told[who]
        return any(
            whose == who
            and when > denied_at
            and sayer in told
            and told[sayer][1]
            and told[sayer][0] >= when
            and (server or not by_server)
            for whose, sayer, when, server in self.overruled
        )


class Life:
    """One random life in the ledger and in the model."""

    def __init__(self, rng):
        self.rng = rng
        self.world = World()
        self.model = Model()
        self.met = set()  # pairs that were one person at some time

    def person(self, who):
        return frozenset(self.world.people.members(self.world.people.profile_of(who)))

    def persons(self):
        return {self.person(who) for who in NAMES}

    def state(self, person):
        return self.world.state(min(person))

    def step(self):
        act = self.rng.random()
        if act < 0.55:
            self.say()
        elif act < 0.8:
            self.merge()
        else:
            self.part()
        for person in self.persons():
            assert self.state(person) == self.model.stands(person)

    def say(self):
        who, rng = self.rng.choice(NAMES), self.rng
        granted, server, verified = rng.random() < 0.6, rng.random() < 0.5, rng.random() < 0.6
        self.world.now_us += HOUR_US
        self.model.say(who, granted, server, verified, self.person(who))
        self.world.said(who, server=server, verified=[who] if verified else (), ads=granted)

    def merge(self):
        one, other = (self.person(who) for who in self.rng.sample(NAMES, 2))
        if one == other:
            return
        before = self.state(one), self.state(other)
        self.world.one(min(one), min(other))
        after = self.state(one)
        strangers = not any((a, b) in self.met for a in one for b in other)
        if strangers:
            assert "denied" not in before or after == "denied"
        assert after != "granted" or "granted" in before
        self.world.part(*one)
        assert (self.state(one), self.state(other)) == before
        self.world.one(min(one), min(other))
        assert self.state(one) == after
        for a, b in combinations(one | other, 2):
            self.met |= {(a, b), (b, a)}

    def part(self):
        who = self.rng.choice(NAMES)
        rest = self.person(who) - {who}
        self.world.part(who)
        assert self.state({who}) == self.model.stands({who})
        assert not rest or self.state(rest) == self.model.stands(rest)


@pytest.mark.slow
def test_merging_never_widens_and_unmerging_restores_exactly():
    rng = Random(16)
    for _ in range(SEQUENCES):
        life = Life(rng)
        for _ in range(rng.randrange(3, STEPS_MAX + 1)):
            life.step()
