"""Whether one delivery may go to one destination: consent, and what the destination was set to.

Asked when a delivery is offered and before every attempt. The reasons are a closed set: those of
`cdp.consent.policy`, and the ones below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from cdp.config_consent import Consent
from cdp.consent import policy
from cdp.consent.rules import Rules
from cdp.delivery.owed import KINDS
from cdp.domain.change import RESOLVED
from cdp.domain.consent import NOBODY

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from cdp.delivery.owed import Owed

# Every reason for which a delivery is filtered, and what it says to a person.
REASONS: Final[dict[str, str]] = {
    **{code: text for code, text in policy.REASONS.items() if code != "granted"},
    "kind": "the destination does not receive merges, splits or renames",
    "type": "the destination is not configured for events of this type",
    "not_selected": "the sender's `integrations` exclude the destination",
    "no_event": "the event is no longer in the log",
    "already_owed": "a replay came upon a delivery that waits or is a dead letter already",
}


class Gate:
    """The rules of one destination."""

    def __init__(
        self,
        *,
        names: Collection[str],
        purposes: frozenset[str],
        receives: frozenset[str],
        event_types: Collection[str],
        defaults: Mapping[str, str],
    ) -> None:
        self._names = tuple(names)
        self._use = Rules(msgspec.convert({"defaults": dict(defaults)}, Consent)).use(purposes)
        self._receives = frozenset(code for code, kind in KINDS.items() if kind in receives)
        self._types = frozenset(event_types)

    def refusal(self, owed: Owed) -> str | None:
        """Why this delivery may not go now; None where it may. Its event must be joined."""
        if owed.kind not in self._receives:
            return "kind"
        event = owed.event
        if event is None:
            return "no_event"
        if self._types and owed.kind == RESOLVED and event.type not in self._types:
            return "type"
        if event.integrations and not self._selected(event.integrations):
            return "not_selected"
        # Looked up in its module each time: it is the one place to put a stricter policy.
        decision = policy.may(self._use, event.stamp, NOBODY, 0)
        return None if decision.allowed else decision.reason

    def _selected(self, integrations: Mapping[str, object]) -> bool:
        for name in self._names:
            if name in integrations:
                return integrations[name] is not False
        return integrations.get("All") is not False
