"""What the control plane can ask of the daemon, and order. `cdp.app` provides it.

The console turns HTTP into these calls and their answers into JSON; it decides nothing. Answers
are plain JSON values (texts, numbers, lists, dicts) unless a type says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cdp.errors import CdpError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cdp.identity.history import History
    from cdp.identity.profiles import Profiles
    from cdp.identity.why import Why


class NotFound(CdpError):
    """What was asked for does not exist: 404."""


class Refused(CdpError):
    """The order makes no sense as it was given: 400, with a text that says what to change."""


class Listing(NamedTuple):
    """A part of a list, and what to pass as `after` for the next part; None at the end."""

    items: list[dict[str, Any]]
    next: str | None


class ControlSurface(Protocol):
    """The daemon, as the control plane sees it."""

    @property
    def profiles(self) -> Profiles: ...

    @property
    def history(self) -> History: ...

    @property
    def why(self) -> Why: ...

    def waits_for(self) -> Sequence[str]:
        """What is not ready yet, in words; empty where events are taken and resolved."""
        ...

    def metrics(self) -> str:
        """Every metric, in the text format of Prometheus."""
        ...

    def status(self) -> dict[str, Any]:
        """Rates, lags, and the conservation law of each source and destination."""
        ...

    def offset_of(self, message_id: str) -> int | None:
        """The place of an event in the event log, by its sender's id."""
        ...

    def rejected_events(self, after: str | None, limit: int) -> Listing:
        """Events that were refused, with the reason, oldest first; each item has an `id`."""
        ...

    async def resubmit(self, rejected_id: str, event: dict[str, Any] | None) -> dict[str, Any]:
        """Sends a rejected event again, as it was or as corrected. Raises NotFound."""
        ...

    def dead_letters(self, destination: str | None, after: str | None, limit: int) -> Listing:
        """Deliveries that were given up, with the reason; each item has an `id`."""
        ...

    async def redrive(
        self, destination: str, ids: Sequence[str] | None, reason: str | None
    ) -> dict[str, Any]:
        """Sends dead letters again: all, or those of `ids`, or with a text in their reason.

        Raises NotFound, Refused.
        """
        ...

    async def replay(
        self, destination: str, *, from_offset: int | None, from_time_us: int | None
    ) -> dict[str, Any]:
        """Offers a destination what it was offered since then again. Raises NotFound, Refused."""
        ...

    async def backup(self, directory: Path) -> dict[str, Any]:
        """Copies the store, which goes on, without the keys. Raises Refused."""
        ...
