"""Types of the Rust extension: deterministic identity. One crossing per batch.

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
    "Observation",
    "Resolution",
    "Resolver",
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
class Resolution:
    """What one batch did. `events` has one entry an observation, in order."""

    # (leaf node, profile id, state, shared, rejected identifiers)
    #   leaf and profile id are b"" where no identifier was usable
    #   state: 0 anonymous, 1 transitioning, 2 identified
    #   shared: the leaf is a shared identifier: attribute by login interval (`attribute`)
    #   rejected: (position in identifiers, reason); reasons are blocked, invalid, role,
    #   disposable, toll_free, and namespace where none has the code
    events: list[tuple[bytes, bytes, int, bool, Sequence[tuple[int, str]]]]
    # nodes seen for the first time: (node, namespace code, normalised value)
    new_identifiers: list[tuple[bytes, int, str]]
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

    def load(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes stored rows, in any order and any number of calls, before the first `resolve`."""

    def resolve(self, observations: Sequence[Observation]) -> Resolution: ...
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
