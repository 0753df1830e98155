"""Types of the Rust extension: deterministic identity. One crossing per batch.

Namespaces are given by their code (`cdp.domain.identifier.NAMESPACE_CODE`). A node is the keyed
128-bit hash of (namespace, normalised value): 16 bytes. A profile id is the node of its founder.
"""

from collections.abc import Iterable, Sequence
from typing import final

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
KIND_RETRACT: int

@final
class Resolution:
    """What one batch did. `events` has one entry an observation, in order."""

    # (leaf node, profile id, state, shared, rejected identifiers)
    #   leaf and profile id are b"" where no identifier was usable
    #   state: 0 anonymous, 1 transitioning, 2 identified
    #   shared: the leaf is a shared identifier: attribute by login interval (`attribute`)
    #   rejected: [(position in identifiers, reason)] for blocked, invalid, role or disposable values
    events: list[tuple[bytes, bytes, int, bool, list[tuple[int, str]]]]
    # nodes seen for the first time: (node, namespace code, normalised value)
    new_identifiers: list[tuple[bytes, int, str]]
    # rows of the `identity` family to write in the same batch; None deletes
    records: list[tuple[bytes, bytes | None]]
    # (observation index, kind "merged" | "split" | "renamed", profile id, other profile id)
    changes: list[tuple[int, str, bytes, bytes]]

@final
class Resolver:
    """Deterministic profiles as a pure function of the evidence set and the rules."""

    def __new__(cls, key: bytes, rules: str) -> Resolver:
        """`key`: 16 to 64 bytes; `rules`: JSON, see matcher_rs/core/src/rules.rs. Raises ValueError."""

    def load(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Takes stored rows, in any order and any number of calls, before the first `resolve`."""

    def resolve(self, observations: Sequence[Observation]) -> Resolution: ...
    def node(self, namespace: int, value: str) -> bytes | None:
        """The node of an identifier after normalisation; None where its value is not usable."""

    def normalise(self, namespace: int, value: str) -> str | None: ...
    def profile_of(self, node: bytes) -> bytes | None:
        """The current profile of a node, or of any profile id ever issued. None: never seen."""

    def members(self, profile: bytes) -> list[bytes]:
        """The nodes of the profile that this node belongs to; empty where never seen."""

    def state(self, profile: bytes) -> int: ...
    def is_shared(self, node: bytes) -> bool: ...
    def shared_neighbours(self, profile: bytes) -> list[bytes]:
        """Shared identifiers that members of this profile were seen with."""

    def explain(self, profile: bytes) -> str:
        """JSON: members, accepted edges in the order they were accepted, suppressed edges with reason
        and witness, shared neighbours. Nodes in hexadecimal."""

    def why_not(self, a: bytes, b: bytes) -> str:
        """JSON: why two nodes are not one profile: the evidence path and the edges suppressed on it."""

    def statistics(self) -> dict[str, int]:
        """nodes, edges, profiles, shared, suppressed, memory_bytes."""

    def digest(self) -> str:
        """A hash of the canonical dump of evidence and result: equal for equal evidence sets."""

def attribute(logins: Sequence[tuple[int, bytes]], time_us: int) -> tuple[bytes, str]:
    """Who was on a shared device at a time: (user node or b"", rule "interval" | "session" | "none").

    `logins` are (time_us, user node) in time order.
    """
