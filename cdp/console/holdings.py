"""What the stores hold about a person, gathered for `cdp.consent.access` from the subsystems.

Reads identity, history, outcomes, the ledger and the requests; decides nothing. Rows of the
ledger and of requests come as JSON values from whoever keeps them (`Records`), because what they
look like is their keeper's matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import trio

from cdp.consent.access import HeldEvent, HeldFate, HeldIdentifier, HeldPerson, Step
from cdp.delivery.outcomes import explain_events, explain_waiting
from cdp.identity.history import Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.delivery.outcomes import Explanation
    from cdp.identity.history import History, Past, Place
    from cdp.identity.profiles import Known, Profiles
    from cdp.storage.store import Store

Json = dict[str, Any]

PENDING_READ: Final = 512  # rows between two chances for other tasks


class Records(Protocol):
    """What is kept about a person's rights, as JSON values. `nodes`: the profile's members."""

    def standing(self, profile_id: bytes) -> Json:
        """Where the person stands now: {purpose: {"state": ..., ...}, ...}."""
        ...

    def consent(self, nodes: Sequence[bytes]) -> list[Json]:
        """The consent records of these identifiers, oldest first, with opened proofs."""
        ...

    def recipients(self, profile_id: bytes) -> list[Json]:
        """The destinations that ever got something of the profile."""
        ...

    def requests(self, nodes: Sequence[bytes]) -> list[Json]:
        """The requests that were made about these identifiers."""
        ...


class _Cursor(NamedTuple):
    """Where to go on, and what waited when the reading began."""

    place: Place | None
    waiting: dict[int, list[Explanation]]


class StoredHoldings:
    """`cdp.consent.access.Holdings` over the store."""

    def __init__(
        self, store: Store, profiles: Profiles, history: History, records: Records
    ) -> None:
        self._store = store
        self._profiles = profiles
        self._history = history
        self._records = records

    def person(self, profile_id: bytes) -> HeldPerson | None:
        """Who it is; None where nothing is held. Raises Overloaded while the graph is loaded.

        A shared device is nobody: what is held under it is of several people.
        """
        profile = self._profiles.of_node(profile_id)
        if profile is None or profile.shared:
            return None
        known = self._profiles.identifiers(profile)
        return HeldPerson(
            profile.profile_id,
            profile.members,
            profile.state,
            [_identifier(one) for one in known],
            profile.view,
        )

    async def events(self, person: HeldPerson, after: _Cursor | None, limit: int) -> Step:
        """The events after a place, oldest first, with what became of each."""
        profile = self._profiles.of_node(person.profile_id)
        if profile is None or profile.shared:  # since the reading began
            return Step([], None)
        cursor = after or _Cursor(None, await self._waiting())
        question = Question(newest_first=False, after=cursor.place, limit=limit)
        page = await self._history.page(profile, question)
        fates = explain_events(self._store, [past.moment.offset for past in page.events])
        events = []
        for past in page.events:
            offset = past.moment.offset
            events.append(_event(past, [*fates[offset], *cursor.waiting.get(offset, [])]))
        return Step(events, None if page.next is None else cursor._replace(place=page.next))

    async def _waiting(self) -> dict[int, list[Explanation]]:
        """What waits in `pending`, by event, read a part at a time."""
        found: dict[int, list[Explanation]] = {}
        start = b""
        while rows := self._store.scan("pending", start, limit=PENDING_READ):
            for offset, explained in explain_waiting(rows).items():
                found.setdefault(offset, []).extend(explained)
            start = rows[-1][0] + b"\x00"
            await trio.lowlevel.checkpoint()
        return found

    def standing(self, person: HeldPerson) -> Json:
        """Where the person stands now, by purpose."""
        return self._records.standing(person.profile_id)

    def consent(self, person: HeldPerson) -> list[Json]:
        """Every consent record, oldest first, with its proof."""
        return self._records.consent(person.members)

    def recipients(self, person: HeldPerson) -> list[Json]:
        """Every destination that ever got something of the person, and since when."""
        return self._records.recipients(person.profile_id)

    def requests(self, person: HeldPerson) -> list[Json]:
        """What was asked in the person's name, and how far it is."""
        return self._records.requests(person.members)

    def audiences(self, _: HeldPerson) -> list[Json]:
        """There are no audiences yet."""
        return []


def _identifier(known: Known) -> HeldIdentifier:
    first = known.first_message
    return HeldIdentifier(
        known.identifier, known.shared, known.first_us, None if first is None else first[2]
    )


def _event(past: Past, explained: Sequence[Explanation]) -> HeldEvent:
    fates = [
        HeldFate(
            one.destination, one.kind, one.state, one.reason, one.at_us, one.attempts, one.replay
        )
        for one in explained
    ]
    return HeldEvent(past.moment.time_us, past.moment.type, past.event, past.rule, fates)
