"""Which destinations ever got something of a person: what an erasure has to reach.

One row in `recipients` a destination and profile id, and one a destination and identifier that an
event is stored under. Rows are on disk before the first attempt, not after it: nobody knows what
became of an attempt that was never answered. Profile ids stay valid over merges, and the identifier
is still the person's after a split, when the profile id may have become somebody else's: so all
rows of a person are those of the nodes that make up the profile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.domain.identifier import NODE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.delivery.owed import Owed
    from cdp.storage.store import Store

KNOWN_MAX: Final = 100_000  # profile ids and identifiers of one destination that are kept in memory


class Recipients:
    """Keeps the rows of one destination."""

    def __init__(self, store: Store, destination: str) -> None:
        self._store = store
        self._name = destination.encode()
        self._known: set[bytes] = set()

    def note(self, owed: Iterable[Owed], now_us: int) -> bool:
        """Writes rows for the people of a batch; whether to sync before it is attempted."""
        known = self._known
        people = {one for each in owed for one in (each.profile_id, each.leaf)}
        people.update(one.other_profile_id for one in owed)
        people.discard(b"")
        unknown = sorted(one for one in people if one not in known)
        if not unknown:
            return False
        if len(known) >= KNOWN_MAX:
            known.clear()
        keys = [person + self._name for person in unknown]
        batch = self._store.batch()
        for key, row in zip(keys, self._store.get_many("recipients", keys), strict=True):
            if row is None:
                batch.put("recipients", key, now_us.to_bytes(8, "big"))
        is_new = len(batch) > 0
        if is_new:
            self._store.write(batch)
        known.update(unknown)
        return is_new

    def forget(self, nodes: Iterable[bytes]) -> None:
        """To be called when the rows of these people are deleted."""
        self._known.difference_update(nodes)


def recipients_of(store: Store, nodes: Iterable[bytes]) -> dict[str, int]:
    """Destinations that ever got something of these profiles, and since when (microseconds)."""
    found: dict[str, int] = {}
    for node in nodes:
        for key, value in store.scan("recipients", node, node + b"\xff"):
            name, since_us = key[NODE_BYTES:].decode(), int.from_bytes(value, "big")
            found[name] = min(since_us, found.get(name, since_us))
    return found
