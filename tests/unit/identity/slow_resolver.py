"""The resolver's obvious twin: from the whole history at once, by sets, without any short cut.

It borrows only normalisation and the keys of identifiers from the resolver under test, because
ties are decided by key.
"""

from dataclasses import dataclass, field

from cdp.domain.identifier import NAMESPACES

HOUR_US = 3_600_000_000
WINDOW_US = {"annually": 365, "monthly": 30, "weekly": 7, "daily": 1}
CO_OCCUR, IDENTIFY, ALIAS, LOGIN, CRM_ROW, LINK, UNLINK, RETRACT = range(8)
PERSONS = {"user_id", "crm_id"}
CONTACTS = {"email", "email_canonical", "phone", "external_id"}
NEVER = float("-inf")


@dataclass
class Evidence:
    """All that was said about a pair."""

    kinds: set = field(default_factory=set)
    first_us: float = float("inf")
    told_us: float = NEVER  # the hour of the last event
    said_us: dict = field(default_factory=lambda: {LINK: NEVER, UNLINK: NEVER, RETRACT: NEVER})

    @property
    def linked(self):
        return self.said_us[LINK] > max(self.said_us[UNLINK], self.said_us[RETRACT])

    @property
    def parted(self):
        unlink_us = self.said_us[UNLINK]
        return unlink_us > self.said_us[RETRACT] and unlink_us >= self.said_us[LINK]

    @property
    def told(self):
        return self.told_us > self.said_us[RETRACT]

    @property
    def live(self):
        return self.told or self.linked

    @property
    def declared_one(self):
        return not self.parted and (self.linked or (self.told and ALIAS in self.kinds))


class SlowResolver:
    """Remembers what it is told; everything else is worked out when asked."""

    def __init__(self, rules, keys):
        self.rules, self.keys = rules, keys
        self.namespace, self.first_us, self.used, self.pairs = {}, {}, set(), {}

    def rule(self, node):
        return self.rules["namespaces"][self.namespace[node]]

    def tell(self, observation):
        time_us, kind, _, named = observation
        leaf = leaf_value = None
        for code, raw in named:
            value = self.keys.normalise(code, raw)
            if value is None or (kind == ALIAS and value == leaf_value):
                continue
            node = self._name(code, raw, observation, used=kind != ALIAS or leaf is None)
            if leaf is None:
                leaf, leaf_value = node, value
            else:
                self._pair(leaf, node, kind, time_us)
            if NAMESPACES[code] == "email" and kind not in (UNLINK, RETRACT) and "gmail" in value:
                code = NAMESPACES.index("email_canonical")
                canonical = self._name(code, value, observation, used=kind != ALIAS)
                self._pair(node, canonical, CO_OCCUR if kind == LINK else kind, time_us)

    def _name(self, code, value, observation, *, used):
        node = self.keys.node(code, value)
        self.namespace[node] = NAMESPACES[code]
        self.first_us[node] = min(observation[0], self.first_us.get(node, observation[0]))
        if used and observation[1] < LINK:
            self.used.add(node)
        return node

    def _pair(self, a, b, kind, time_us):
        if a == b:
            return
        evidence = self.pairs.setdefault((min(a, b), max(a, b)), Evidence())
        evidence.kinds.add(kind)
        if kind < LINK:
            evidence.told_us = max(evidence.told_us, time_us // HOUR_US * HOUR_US)
        else:
            evidence.said_us[kind] = max(evidence.said_us[kind], time_us)
        if kind <= LINK:
            evidence.first_us = min(evidence.first_us, time_us)

    def forget(self, nodes):
        """As if nobody had ever named these."""
        gone = set(nodes)
        self.first_us = {n: at for n, at in self.first_us.items() if n not in gone}
        self.pairs = {pair: said for pair, said in self.pairs.items() if not gone & set(pair)}
        self.used -= gone

    def classes(self):
        """Each node's class: values of one namespace that were declared to be one."""
        classes = {node: {node} for node in self.first_us}
        for (a, b), evidence in self.pairs.items():
            if self.namespace[a] == self.namespace[b] and evidence.declared_one:
                both = classes[a] | classes[b]
                classes.update(dict.fromkeys(both, both))
        return {node: min(members) for node, members in classes.items()}

    def neighbours(self, node):
        live = [pair for pair, evidence in self.pairs.items() if evidence.live]
        return {a if b == node else b for a, b in live if node in (a, b)}

    def shared(self):
        classes = self.classes()
        return {node for node in self.first_us if self._persons_exceed(node, classes)}

    def _persons_exceed(self, node, classes):
        most, around = self.rule(node)["persons_max"], self.neighbours(node)
        return most > 0 and any(
            len({classes[other] for other in around if self.namespace[other] == name}) > most
            for name in PERSONS
        )

    def assurance(self, pair):
        evidence, names = self.pairs[pair], {self.namespace[node] for node in pair}
        if evidence.linked:
            return 5
        if names & CONTACTS:
            return 3 if names & PERSONS and evidence.kinds & {LOGIN, CRM_ROW} else 2
        return 4 if names & PERSONS else 1

    def clusters(self):
        """Each node's cluster, and the live pairs that were refused."""
        most, classes, apart = self.rules["hull_nodes_max"], self.classes(), self.shared()
        apart |= {node for node in self.first_us if len(self.neighbours(node)) > most}
        cluster = {node: frozenset([node]) for node in self.first_us}
        parted = [pair for pair, evidence in self.pairs.items() if evidence.parted]
        live = [pair for pair, evidence in self.pairs.items() if evidence.live]
        live = sorted((pair for pair in live if not apart & set(pair)), key=self._order)
        for a, b in live:
            both = cluster[a] | cluster[b]
            meets = any({cluster[p], cluster[q]} == {cluster[a], cluster[b]} for p, q in parted)
            if cluster[a] == cluster[b] or meets or len(both) > most or self._over(both, classes):
                continue
            cluster.update(dict.fromkeys(both, both))
        return cluster, {(a, b) for a, b in live if cluster[a] != cluster[b]}

    def _order(self, pair):
        priority = sum(self.rule(node)["priority"] for node in pair)
        return (-self.assurance(pair), priority, self.pairs[pair].first_us, pair)

    def _over(self, members, classes):
        for name, rule in self.rules["namespaces"].items():
            first = {}
            for node in members:
                if self.namespace[node] == name:
                    one = classes[node]
                    first[one] = min(self.first_us[node], first.get(one, self.first_us[node]))
            days = WINDOW_US.get(rule["limit_window"], 10**9)
            window_us = days * 24 * HOUR_US
            for start in first.values():
                within = sum(0 <= at - start < window_us for at in first.values())
                if 0 < rule["limit"] < within:
                    return True
        return False

    def resolve(self):
        """node -> (profile id, state, shared), as the resolver should answer."""
        cluster, refused = self.clusters()
        shared = self.shared()
        return {
            node: (self._founder(members), self._state(members, refused), node in shared)
            for node, members in cluster.items()
        }

    def _founder(self, members):
        return min(members, key=lambda node: (node not in self.used, self.first_us[node], node))

    def _state(self, members, refused):
        names = {self.namespace[node] for node in members}
        if names & PERSONS:
            return 2
        waiting = any(
            other in PERSONS
            for pair in refused
            for node, other in zip(pair, map(self.namespace.get, reversed(pair)), strict=True)
            if node in members
        )
        return int(bool(names & CONTACTS) or waiting)
