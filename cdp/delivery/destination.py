"""The plugin contract: what an author of a destination writes, and what the host promises.

The host owns consent, suppression, retries, rate, timeouts, circuit, dead letters, metrics and
the masking of secrets. The author owns the request and what the answer means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import httpx
import msgspec

from cdp.config import Secret

__all__ = [
    "Delivered",
    "Delivery",
    "Destination",
    "Outcome",
    "Rejected",
    "Retry",
    "Secret",
    "Settings",
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a destination type can be configured with. Subclass it; give every field a unit."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One thing owed to one destination.

    `delivery_id` is the same over every attempt, restart, redrive and replay: send it as the
    idempotency key where the service takes one. `event` is the event in the tracking spec's own
    form (camelCase, RFC 3339 times) for kind `event`; for `merged`, `split` and `renamed` it is
    absent and `profile_id` / `other_profile_id` say who.
    """

    delivery_id: str
    kind: Literal["event", "merged", "split", "renamed"]
    profile_id: str | None
    event: dict[str, Any] | None = None
    other_profile_id: str | None = None
    attempt: int = 1


class Delivered(msgspec.Struct, frozen=True, tag=True):
    """The service has it."""


class Retry(msgspec.Struct, frozen=True, tag=True):
    """Not now; the host tries again, after `after_s` seconds at the earliest where given."""

    reason: str
    after_s: float | None = None


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """Never; the delivery becomes a dead letter with this reason."""

    reason: str


Outcome = Delivered | Retry | Rejected

S = TypeVar("S", bound=Settings)


class Destination(Generic[S]):
    """A destination type. Subclass it, set the class attributes, write `deliver`."""

    api_version: ClassVar[int] = 1
    settings_type: ClassVar[type[Settings]]
    purposes: ClassVar[frozenset[str]] = frozenset()
    batch_max: ClassVar[int] = 100
    batch_bytes_max: ClassVar[int] = 4 * 2**20
    rate_per_s_max: ClassVar[float] = float("inf")  # batches per second
    concurrency_max: ClassVar[int] = 1  # batches in flight; one profile is never in two
    receives: ClassVar[frozenset[str]] = frozenset({"event"})  # kinds of delivery it wants
    erases: ClassVar[bool] = False

    settings: S
    http: httpx.AsyncClient

    async def start(self) -> None:
        """Called once before the first `deliver`, and again after a crash. May open files."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """One outcome per delivery, in the same order."""
        raise NotImplementedError

    async def check(self) -> None:
        """Raises where the destination could not work now. Called by `cdp check --connect`."""

    async def close(self) -> None:
        """Called once, after the last `deliver`."""
