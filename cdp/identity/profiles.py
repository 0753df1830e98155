"""Reads profiles: who an identifier belongs to, what is known of that person, since when.

A profile is not stored. It is the fold over the fragments of its members, made when it is asked
for; its members are the resolver's. So a read always shows the merges and splits of the moment.
What happened and when is read in `cdp.identity.history`, why in `cdp.identity.why`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cdp.domain.identifier import NAMESPACE_CODE, parse_profile_id
from cdp.domain.naming import external_identifier
from cdp.domain.profile import Fragment, ProfileView, fold
from cdp.errors import Overloaded
from cdp.identity.evidence import first_seen
from cdp.identity.fragments import decode_fragment, group_node
from cdp.identity.rows import decode_identifier
from cdp.identity.sealing import SealedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cdp._matcher import Resolver
    from cdp.domain.identifier import Identifier
    from cdp.identity.sealing import Vault
    from cdp.storage.store import Store

PROFILE_ID: Final = "profile_id"  # as a namespace in a question: any profile id ever issued
STATES: Final = ("anonymous", "transitioning", "identified")


class Profile(msgspec.Struct, frozen=True):
    """One person, at the moment of the question.

    `shared`: the identifier that was asked for belongs to several people, so this is the device
    (or mailbox) and nobody's profile.
    """

    profile_id: bytes
    members: tuple[bytes, ...]
    state: str
    shared: bool
    view: ProfileView


class Known(msgspec.Struct, frozen=True):
    """An identifier of a profile.

    `first_message` is the first event that was stored under it, where one was; an e-mail, for
    one, is only ever named beside another identifier. `first_us` is when it was first named; None
    for a shared identifier, which is not this profile's alone.
    """

    node: bytes
    identifier: Identifier
    shared: bool
    first_us: int | None
    first_message: tuple[int, str, str] | None  # event time, message id, source


class Profiles:
    """The read side of identity.

    `resolver` gives the one that the fold uses now, or None while the graph is being loaded.
    """

    def __init__(
        self,
        store: Store,
        resolver: Callable[[], Resolver | None],
        *,
        key: bytes,
        vault: Vault | None = None,
    ) -> None:
        self._rows = SealedRows(store, vault)
        self._resolver = resolver
        self._key = key

    @property
    def resolver(self) -> Resolver:
        """The identity graph. Raises Overloaded while it is being loaded."""
        resolver = self._resolver()
        if resolver is None:
            raise Overloaded("the identity graph is being loaded, ask again", retry_after_s=1)
        return resolver

    def node(self, namespace: str, value: str) -> bytes | None:
        """The node of an identifier or of a profile id; None where the value cannot be one."""
        if namespace == PROFILE_ID:
            return parse_profile_id(value)
        if namespace in NAMESPACE_CODE:
            return self.resolver.node(NAMESPACE_CODE[namespace], value)
        return self.resolver.node(*external_identifier(namespace, value))

    def find(self, namespace: str, value: str) -> Profile | None:
        """The profile that has this identifier; None where nobody ever had it."""
        node = self.node(namespace, value)
        return None if node is None else self.of_node(node)

    def of_node(self, node: bytes) -> Profile | None:
        """The profile of a node, or of any profile id ever issued."""
        resolver = self.resolver
        profile_id = resolver.profile_of(node)
        if profile_id is None:
            return None
        members = tuple(resolver.members(profile_id))
        shared = resolver.is_shared(node)
        state = STATES[resolver.state(profile_id)]
        return Profile(profile_id, members, state, shared, fold(self.fragments(members)))

    def fragments(self, nodes: Sequence[bytes]) -> list[Fragment]:
        """The fragments that are stored under these nodes, where there are any."""
        rows = self._rows.get_many("fragments", nodes)
        return [decode_fragment(row) for row in rows if row is not None]

    def group(self, group_id: str) -> ProfileView | None:
        """What is known of a group; None where no event was about it."""
        row = self._rows.get("fragments", group_node(self._key, group_id))
        return None if row is None else fold([decode_fragment(row)])

    def identifiers(self, profile: Profile) -> list[Known]:
        """What the person is known by, shared identifiers last, each by first use."""
        first_us = first_seen(self, profile)
        shared = self.resolver.shared_neighbours(profile.profile_id)
        known = self._known(profile.members, first_us, shared=False)
        return sorted(known + self._known(shared, {}, shared=True), key=_by_use)

    def values(self, nodes: Sequence[bytes]) -> dict[bytes, Identifier]:
        """The identifiers behind nodes. One that was erased is not in the answer."""
        rows = self._rows.get_many("identifiers", nodes)
        pairs = zip(nodes, rows, strict=True)
        return {node: decode_identifier(row) for node, row in pairs if row is not None}

    def _known(
        self, nodes: Sequence[bytes], first_us: Mapping[bytes, int], *, shared: bool
    ) -> list[Known]:
        fragments = self._rows.get_many("fragments", nodes)
        values = self.values(nodes)
        return [
            Known(node, values[node], shared, first_us.get(node), _first_message(row))
            for node, row in zip(nodes, fragments, strict=True)
            if node in values
        ]


def _first_message(row: bytes | None) -> tuple[int, str, str] | None:
    return None if row is None else decode_fragment(row).first_message


def _by_use(known: Known) -> tuple[bool, int, str, str]:
    identifier = known.identifier
    return (known.shared, known.first_us or 0, identifier.namespace, identifier.value)
