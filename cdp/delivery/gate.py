"""Whether one delivery may go to one destination: consent, and what the destination was set to.

Asked when a delivery is offered and before every attempt. The reasons are a closed set: those of
`cdp.consent.policy`, and the ones below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cdp.consent import policy
from cdp.delivery.owed import KINDS
from cdp.domain.change import RESOLVED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cdp.consent.rules import Use
    from cdp.delivery.owed import Owed
    from cdp.domain.consent import Standing
    from cdp.domain.event import Event

# Every reason for which a delivery is filtered, and what it says to a person.
REASONS: Final[dict[str, str]] = {
    **{code: text for code, text in policy.REASONS.items() if code != "granted"},
    "kind": "the destination does not receive merges, splits or renames",
    "type": "the destination is not configured for events of this type",
    "not_selected": "the sender's `integrations` exclude the destination",
    "no_event": "the event is no longer in the log",
    "erased": "the person was erased, and the event can no longer be read",
    "already_owed": "a replay came upon a delivery that waits or is a dead letter already",
}


class Standings(Protocol):
    """Where people stand now: the consent ledger."""

    @property
    def ready(self) -> bool:
        """Whether it is known who is who. While it is not, nothing is offered or attempted."""
        ...

    def standing(self, profile_id: bytes) -> Standing: ...

    def standing_apart(self, leaf: bytes, profile_id: bytes) -> Standing | None:
        """Where the person of an identifier stands; None where it is this profile's, or nobody's.

        An event was resolved to a profile; since then a split may have made it somebody else's.
        """
        ...

    def standing_of_device(self, event: Event) -> Standing:
        """Where the identifiers of an event stand that is nobody's: a shared device, above all."""
        ...


class Gate:
    """The rules of one destination. `now_us` gives the wall time: grants grow old."""

    def __init__(
        self,
        *,
        names: Collection[str],
        use: Use,
        receives: frozenset[str],
        event_types: Collection[str],
        standings: Standings,
        now_us: Callable[[], int],
    ) -> None:
        self._names = tuple(names)
        self._use = use
        self._standings = standings
        self._now_us = now_us
        self._receives = frozenset(code for code, kind in KINDS.items() if kind in receives)
        self._types = frozenset(event_types)

    def refusal(self, owed: Owed) -> str | None:
        """Why this delivery may not go now; None where it may. Its event must be joined."""
        if owed.kind not in self._receives:
            return "kind"
        event = owed.event
        if event is None:
            return "erased" if owed.erased else "no_event"
        if self._types and owed.kind == RESOLVED and event.type not in self._types:
            return "type"
        if event.integrations and not self._selected(event.integrations):
            return "not_selected"
        person = owed.profile_id
        standings = self._standings
        # Of the device where the event is about nobody who is known.
        standing = standings.standing(person) if person else standings.standing_of_device(event)
        # Looked up in its module each time: it is the one place to put a stricter policy.
        now_us = self._now_us()
        decision = policy.may(self._use, event.stamp, standing, now_us)
        if decision.allowed and (also := self._concerned(owed)) is not None:
            decision = policy.may(self._use, event.stamp, also, now_us)
        return None if decision.allowed else decision.reason

    def _concerned(self, owed: Owed) -> Standing | None:
        """Where somebody else stands whom the delivery tells of, too."""
        if owed.other_profile_id:  # a merge tells of both what their event told of one
            return self._standings.standing(owed.other_profile_id)
        if owed.leaf and owed.profile_id:
            return self._standings.standing_apart(owed.leaf, owed.profile_id)
        return None

    @property
    def ready(self) -> bool:
        """Whether it can be asked now."""
        return self._standings.ready

    def _selected(self, integrations: Mapping[str, object]) -> bool:
        for name in self._names:
            if name in integrations:
                return integrations[name] is not False
        return integrations.get("All") is not False
