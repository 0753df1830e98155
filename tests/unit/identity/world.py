"""A small world for tests of identity: a store in memory, logs, and the fold that connects them."""

from hypothesis import strategies as st

from cdp._matcher import Namer, Resolver
from cdp.app import rules_json
from cdp.config import Identity
from cdp.domain.change import RESOLVED, decode_change
from cdp.domain.event import Event, encode_event
from cdp.identity.actor import READER, IdentityFold
from cdp.identity.history import History
from cdp.identity.profiles import Profiles
from cdp.storage.cursors import Cursors
from cdp.storage.keyfile import MemoryKeys
from cdp.storage.log import Entry, Log
from cdp.storage.memory import MemoryStore
from cdp.storage.vault import Vault

KEY = b"a key of the tests"
RULES = rules_json(Identity())
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START = 1_700_000_000 * SECOND

FOLDED = ("identity", "identifiers", "fragments", "timeline", "logins")


class Crash(Exception):
    """A planted one."""


class Suppressed:
    """Of whom nothing may be kept."""

    def __init__(self):
        self.nodes = set()


class World:
    """Feeds events to the fold as `run_fold` would, batch by batch."""

    def __init__(self, store=None, *, cache_max=100, sealed=False):
        self.store = store or MemoryStore()
        self.cache_max = cache_max
        self.keys = MemoryKeys()
        self.vault = (
            Vault(self.keys, self.store, master=b"m" * 32, seed=b"s" * 32) if sealed else None
        )
        self.suppressed = Suppressed()
        self.erased = set()  # offsets of events whose keys are destroyed
        self.open()

    def open(self):
        """A new process over the same store."""
        self.events = Log(self.store, "events")
        self.changes = Log(self.store, "changes")
        self.cursors = Cursors(self.store)
        self.start()

    def start(self):
        """A new run of the actor."""
        self.resolver = Resolver(KEY, RULES)
        self.resolver.load(list(self.store.items("identity")))
        self.fold = IdentityFold(
            self.store,
            self.changes,
            self.resolver,
            key=KEY,
            fragment_cache_max=self.cache_max,
            vault=self.vault,
            suppression=self.suppressed,
            namer=Namer(KEY, RULES),
        )
        self.profiles = Profiles(self.store, lambda: self.resolver, key=KEY, vault=self.vault)
        self.history = History(self.store, self.events, self.profiles)

    def accept(self, events):
        """What ingestion does."""
        batch = self.store.batch()
        self.events.append(batch, [encode_event(event) for event in events])
        self.store.write(batch)
        self.events.publish()

    def resolve(self, *, batch_max=100, crash_after=None):
        """Folds what waits. `crash_after` batches, one crashes between step and write."""
        batches = 0
        while entries := self.events.read(self.cursors.get(READER), batch_max)[:batch_max]:
            batch = self.store.batch()
            erased = self.erased
            self.fold.step(batch, [Entry(n, b"" if n in erased else r) for n, r in entries])
            if batches == crash_after:
                raise Crash
            self.cursors.set(batch, READER, entries[-1].offset + 1)
            self.store.write(batch)
            self.changes.publish()
            batches += 1

    def feed(self, events, **how):
        self.accept(events)
        self.resolve(**how)
        return self

    def decisions(self):
        """The change log."""
        entries = self.changes.read(0, 1_000_000)
        return [decode_change(entry.record) for entry in entries]

    def resolved(self):
        return [change for change in self.decisions() if change.kind == RESOLVED]

    def rows(self, *families):
        return {family: list(self.store.items(family)) for family in families or FOLDED}

    def people(self):
        """Every profile as people would describe it, by its identifiers."""
        nodes = [key for key, _ in self.store.items("identifiers")]
        found = {}
        for node in nodes:
            profile = self.profiles.of_node(node)
            known = self.profiles.identifiers(profile)
            name = tuple(sorted((k.identifier.namespace, k.identifier.value) for k in known))
            found[name] = (profile.profile_id, profile.state, in_order(profile.view))
        return found


def in_order(view):
    """A view without the order in which its dictionaries were filled."""
    return {
        name: sorted(getattr(view, name).items())
        if isinstance(getattr(view, name), dict)
        else getattr(view, name)
        for name in view.__struct_fields__
    }


def event(n, type="track", *, at=None, source="web", **fields):
    """The nth event; a second after the one before unless `at` (microseconds) says otherwise."""
    time_us = START + (n * SECOND if at is None else at)
    if type == "track":
        fields.setdefault("event", "Viewed")
    return Event(1, type, f"m{n}", source, time_us, time_us + 5 * SECOND, **fields)


@st.composite
def histories(draw, events_max=14):
    """Events of a few people on a few devices, with all that makes identity hard."""
    users, devices = st.sampled_from(["u1", "u2", "u3"]), st.sampled_from(["a1", "a2", "a3"])
    emails = st.sampled_from(["one@b.test", "two@b.test", "not an email"])
    count = draw(st.integers(1, events_max))
    found = []
    for n in range(count):
        type = draw(st.sampled_from(["track", "track", "identify", "alias", "group", "page"]))
        fields = {"at": draw(st.integers(0, 8)) * 20 * MINUTE}
        if type == "alias":
            fields |= {"user_id": draw(users), "previous_id": draw(users | devices)}
        else:
            who = draw(st.sampled_from(["user", "device", "both"]))
            fields |= {} if who == "device" else {"user_id": draw(users)}
            fields |= {} if who == "user" else {"anonymous_id": draw(devices)}
        if type == "identify":
            fields["traits"] = draw(
                st.fixed_dictionaries({}, optional={"email": emails, "plan": st.integers(0, 3)})
            )
        if type == "group":
            fields |= {"group_id": draw(st.sampled_from(["g1", "g2"])), "traits": {"seats": n}}
        found.append(event(n, type, **fields))
    return found
