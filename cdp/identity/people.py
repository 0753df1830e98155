"""Who belongs together, for those who keep something about each identifier: consent, above all.

A shared identifier belongs to several people, so nothing that it says holds for any one of them:
it is nobody's member here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdp.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cdp._matcher import Resolver


class People:
    """The people of the graph that is in use now.

    `resolver` gives it, or None while it is being loaded; then `ready` is False, and every other
    question raises Overloaded: nobody may take somebody whom it does not know for nobody.
    """

    def __init__(self, resolver: Callable[[], Resolver | None]) -> None:
        self._resolver = resolver

    @property
    def ready(self) -> bool:
        """Whether the graph is there to be asked."""
        return self._resolver() is not None

    def members(self, profile_id: bytes) -> Sequence[bytes]:
        """The nodes that are this person's alone; empty for a shared identifier and for nobody."""
        resolver = self._loaded()
        members = resolver.members(profile_id)
        if len(members) == 1 and resolver.is_shared(members[0]):
            return []  # a shared identifier joins nobody, so it is alone
        return members

    def profile_of(self, node: bytes) -> bytes | None:
        """The profile of a node, or of any profile id ever issued; None: never seen, or erased."""
        return self._loaded().profile_of(node)

    def is_shared(self, node: bytes) -> bool:
        """Whether a node belongs to several people."""
        return self._loaded().is_shared(node)

    def _loaded(self) -> Resolver:
        resolver = self._resolver()
        if resolver is None:
            raise Overloaded("the identity graph is being loaded, ask again", retry_after_s=1)
        return resolver
