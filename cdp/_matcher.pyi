"""Types of the Rust extension: deterministic identity, and sealing. One crossing per batch.

Namespaces are given by their code (`cdp.domain.identifier.NAMESPACE_CODE`). A node is the keyed
128-bit hash of (namespace, normalised value): 16 bytes. A profile id is the node of its founder.
"""

from collections.abc import Iterable, Sequence
from typing import final

__all__ = [
    "KIND_ALIAS",
    "KIND_CO_OCCUR",
    "KIND_CRM_ROW",
    "KIND_IDENTIFY",
    "KIND_LOGIN",
    "KIND_MANUAL_LINK",
    "KIND_MANUAL_UNLINK",
    "KIND_RETRACT",
    "Namer",
    "Needles",
    "Observation",
    "RecentSlots",
    "Resolution",
    "Resolver",
    "Sealer",
    "Tampered",
    "attribute",
]

# (time_us, kind, source, identifiers): the first identifier is the one the event is stored under.
# kind: KIND_* below; source: ordinal of the source (bit 0..31 of the evidence's source set).
Observation = tuple[int, int, int, Sequence[tuple[int, str]]]

KIND_CO_OCCUR: int  # ids on one track, page or screen event (a user_id there is a login)
KIND_IDENTIFY: int
KIND_ALIAS: int  # identifiers: (user_id, new), then the previous id in each namespace it may be of
KIND_LOGIN: int
KIND_CRM_ROW: int
KIND_MANUAL_LINK: int
KIND_MANUAL_UNLINK: int  # cannot-link
KIND_RETRACT: int  # of what was said about the pair until its time, and later within that hour

@final
class Namer:
    """Nodes of identifiers, as a `Resolver` of the same key and rules has them. No graph."""

    def __new__(cls, key: bytes, rules: str) -> Namer:
        """`key`: 16 to 64 bytes; `rules`: JSON, see matcher_rs/core/src/rules.rs.

        Raises:
            ValueError: the key or a rule cannot be used; the text says which and why.
        """

    def nodes(self, named: Sequence[Sequence[tuple[int, str]]]) -> list[list[bytes]]:
        """The nodes that each event names, of its usable identifiers in order.

        The first is the leaf. An e-mail is followed by the node of its canonical form where that
        differs. Empty where the event names nobody.
        """

    def node(self, namespace: int, value: str) -> bytes | None:
        """The node of an identifier after normalisation; None where its value is not usable."""

@final
class Resolution:
    """What one batch did. `events` has one entry an observation, in order."""

    # (leaf node, profile id, state, shared, rejected identifiers)
    #   leaf and profile id are b"" where no identifier was usable
    #   state: 0 anonymous, 1 transitioning, 2 identified
    #   shared: the leaf is a shared identifier: attribute by login interval (`attribute`)
    #   rejected: (position in identifiers, reason); reasons are blocked, invalid, role,
    #   disposable, toll_free, and namespace where none has the code
    events: list[tuple[bytes, bytes, int, bool, Sequence[tuple[int, str]]]]
    # nodes seen for the first time: (node, namespace code, normalised value, leaf of the event)
    new_identifiers: list[tuple[bytes, int, str, bytes]]
    # rows of the `identity` family to write in the same batch; None deletes
    records: list[tuple[bytes, bytes | None]]
    # (observation index, kind "merged" | "split" | "renamed", profile id, other profile id)
    #   merged: took in the other; split: identifiers of it are the other's now; renamed: was it
    changes: list[tuple[int, str, bytes, bytes]]

@final
class Resolver:
    """Deterministic profiles as a pure function of the evidence set and the rules."""

    def __new__(cls, key: bytes, rules: str) -> Resolver:
        """`key`: 16 to 64 bytes; `rules`: JSON, see matcher_rs/core/src/rules.rs.

        Raises:
            ValueError: the key or a rule cannot be used; the text says which and why.
        """

    def load(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Takes stored rows, in any order and any number of calls, before the first `resolve`.

        Returns how many there were.
        """

    def finish_load(self) -> None:
        """Resolves what was loaded, with the GIL released; else whoever asks first waits for it.

        Raises:
            ValueError: an edge names a node that has no row.
        """

    def resolve(self, observations: Sequence[Observation]) -> Resolution: ...
    def forget(self, nodes: Sequence[bytes]) -> Resolution:
        """Removes nodes with everything that was ever said about them, as if never named.

        A reading of an alias that no event used goes with the other reading. The rows that are
        deleted are those whose value is None; `events` and `new_identifiers` are empty, and the
        changes are those of the profiles that are left, with observation 0. A profile of which
        nothing is left has no change. Nodes that are not there are passed over.
        """
    def node(self, namespace: int, value: str) -> bytes | None:
        """The node of an identifier after normalisation; None where its value is not usable."""

    def normalise(self, namespace: int, value: str) -> str | None: ...
    def profile_of(self, node: bytes) -> bytes | None:
        """The current profile of a node, or of any profile id ever issued. None: never seen."""

    def members(self, profile: bytes) -> list[bytes]:
        """The nodes of the profile that this node belongs to; empty where never seen.

        Oldest first. The reading of an alias that no event used is left out where the other
        reading was used.
        """

    def state(self, profile: bytes) -> int: ...
    def is_shared(self, node: bytes) -> bool: ...
    def shared_neighbours(self, profile: bytes) -> list[bytes]:
        """Shared identifiers that members of this profile were seen with."""

    def seen_with(self, nodes: Sequence[bytes]) -> list[bytes]:
        """Every other node that anything was ever said about together with one of these."""

    def explain(self, profile: bytes) -> str:
        """What holds a profile together, and what was kept out of it.

        JSON: members, accepted edges in the order they were accepted, suppressed edges with
        reason and witness, shared neighbours. Nodes in hexadecimal.
        """

    def why_not(self, a: bytes, b: bytes) -> str:
        """Why two nodes are not one profile.

        JSON: the path of evidence between them, and what became of each edge on it.
        """

    def statistics(self) -> dict[str, int]:
        """nodes, edges, profiles, shared, suppressed, memory_bytes."""

    def digest(self) -> str:
        """A hash of the canonical dump of evidence and result: equal for equal evidence sets."""

def attribute(logins: Sequence[tuple[int, bytes]], time_us: int) -> tuple[bytes, str]:
    """Who was on a shared device at a time, and by which rule: interval, session or none.

    `logins` are (time_us, user node) in time order. The person is b"" by the rule none.
    """

class Tampered(ValueError):
    """What was found in a store is not what was sealed there. The text names the place."""

@final
class Sealer:
    """Seals and opens records under data keys that a master key wraps; see matcher_rs/seal.

    A slot is 64 bytes of the key file: a wrapped data key, or zeros where it was destroyed. The
    keys used last are kept in memory, overwritten when let go. A call that needs others raises
    KeyError with the list of their slots, and has done nothing: admit these, and call again.
    """

    def __new__(cls, master: bytes, epoch: int, seed: bytes, keys_max: int) -> Sealer:
        """`master` and `seed`: 32 bytes each; a seed must be fresh, or nonces repeat.

        Raises:
            ValueError: an argument has the wrong size; the text says what to give.
        """

    def make_slots(self, first: int, count: int) -> bytes:
        """New slots from number `first` on, as they are to lie in the key file."""

    def admit(self, slots: Sequence[int], wrapped: bytes) -> None:
        """Takes in slots as they lie in the key file, 64 bytes each, one after the other.

        Raises:
            Tampered: a slot holds nothing that the master key wraps.
        """

    def missing(self, slots: Sequence[int]) -> list[int]:
        """The slots whose keys are not in memory, each once, in order."""

    def live(self, slots: Sequence[int]) -> list[bool]:
        """Of each slot, whether its key is there to be used. Raises KeyError, see above."""

    def seal(
        self, slots: Sequence[int], records: Sequence[bytes], contexts: Sequence[bytes]
    ) -> list[bytes]:
        """Seals each record with the key in its slot, for the place where it will lie.

        Raises:
            KeyError: keys are not in memory, see above.
            ValueError: a key is destroyed, or a record is empty.
        """

    def open(self, sealed: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]:
        """Opens each record where it was found; b"" where its key is destroyed.

        Raises:
            KeyError: keys are not in memory, see above.
            Tampered: a record is not what was sealed there.
        """

    def seal_run(
        self, slots: Sequence[int], records: Sequence[bytes], prefix: bytes, first: int
    ) -> list[bytes]:
        """`seal` for records that lie one after the other.

        The context of each is `prefix` and its number, counted from `first`, as 8 bytes.
        """

    def open_run(self, sealed: Sequence[bytes], prefix: bytes, first: int) -> list[bytes]:
        """`open` for what `seal_run` sealed, from number `first` on."""

    def forget(self, slots: Sequence[int]) -> None:
        """Overwrites and forgets keys."""

    def rewrap(self, other_master: bytes, first: int, wrapped: bytes) -> bytes:
        """Slots that another master key wraps, wrapped under this one. Raises Tampered."""

    def survey(self, first: int, wrapped: bytes) -> tuple[int, int]:
        """How many slots hold a key of this master, and how many are destroyed. Raises Tampered."""

    def keys_at_hand(self) -> int:
        """How many keys are in memory."""

@final
class Needles:
    """Strings of bytes to look for, all of them in one pass."""

    def __new__(cls, needles: Sequence[bytes]) -> Needles:
        """Raises ValueError where one is empty."""

    def count(self, data: bytes) -> tuple[int, int]:
        """How many there are, none overlapping, and where the last one ends; (0, 0) for none.

        The longest of those that begin at one place counts. The GIL is released meanwhile.
        """

@final
class RecentSlots:
    """Slots of the subjects (16 bytes) that were used last, at most about `subjects_max`."""

    def __new__(cls, subjects_max: int) -> RecentSlots: ...
    def find(self, subjects: Sequence[bytes]) -> list[int] | None:
        """The slot of each; None where one of them is not known."""

    def get(self, subject: bytes) -> int | None:
        """The slot of one; None where it is not known."""

    def add(self, subject: bytes, slot: int) -> None:
        """Takes in a slot. Raises ValueError unless the subject has 16 bytes."""

    def clear(self) -> None: ...
    def __len__(self) -> int: ...
