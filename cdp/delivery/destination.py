"""The plugin contract: what an author of a destination writes, and what the host promises.

The host owns consent, suppression, retries, rate, timeouts, circuit, dead letters, metrics and
the masking of secrets. The author owns the request and what the answer means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

import msgspec

from cdp.config import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import httpx

    from cdp.clock import Clock
    from cdp.environment import RunInThread

__all__ = [
    "Delivered",
    "Delivery",
    "Destination",
    "Erased",
    "Erasure",
    "ErasureAccepted",
    "ErasureOutcome",
    "ErasureRetry",
    "ErasureUnsupported",
    "Host",
    "Outcome",
    "Rejected",
    "Retry",
    "Secret",
    "Settings",
]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a destination type can be configured with. Subclass it; give every field a unit.

    A field of type `Secret` is written in the configuration as `env:NAME` or `file:PATH`; one of
    type `Path` is relative to the configuration file.
    """


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing owed to one destination.

    `delivery_id` is the same over every attempt, restart, redrive and replay: send it as the
    idempotency key where the service takes one. `event` is the event in the tracking spec's own
    form (camelCase, RFC 3339 times) for kind `event`; for `merged`, `split` and `renamed` it is
    absent and `profile_id` / `other_profile_id` say who. Do not change `event`: it is not copied.
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
    """Not now; the host tries again, after `after_s` seconds at the earliest where given.

    `reason` is a short code for people and counters, never a part of the event.
    """

    reason: str
    after_s: float | None = None


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """Never; the delivery becomes a dead letter with this reason."""

    reason: str


Outcome = Delivered | Retry | Rejected


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """A person whom the service must forget, because it was once told of them.

    `erasure_id` is the same over every attempt: send it as the idempotency key. `profile_ids` are
    all ids under which the service may know the person, as they stood in deliveries;
    `identifiers` are (namespace, value) pairs, `user_id`, `email` and the like. `requested_at` is
    RFC 3339.
    """

    erasure_id: str
    profile_ids: tuple[str, ...]
    identifiers: tuple[tuple[str, str], ...]
    requested_at: str


class Erased(msgspec.Struct, frozen=True, tag=True):
    """The service no longer has the person. `evidence`: what shows it, without personal data."""

    evidence: str | None = None


class ErasureAccepted(msgspec.Struct, frozen=True, tag=True):
    """The service will do it; `erasure_status(remote_id)` tells when it is done."""

    remote_id: str


class ErasureUnsupported(msgspec.Struct, frozen=True, tag=True):
    """The service has no call for it: `instructions` tell a person how to do it by hand."""

    instructions: str


class ErasureRetry(msgspec.Struct, frozen=True, tag=True):
    """Not now; asked again, after `after_s` seconds at the earliest where given."""

    reason: str
    after_s: float | None = None


ErasureOutcome = Erased | ErasureAccepted | ErasureUnsupported | ErasureRetry

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Host:
    """What a destination may ask of its host, besides `http`."""

    name: str  # of the destination, as configured
    clock: Clock  # the wall time; never read a clock of your own
    resolve: Callable[[str, int], Awaitable[Sequence[str]]]  # every address of a host name
    run_in_thread: RunInThread  # for calls that block: files, databases, vendors' libraries


class Destination(Generic[S]):
    """A destination type. Subclass it, set the class attributes, write `deliver`.

    Everything of a profile reaches `deliver` in the order of the log, one profile is never in two
    batches at a time, and a delivery that waits for a retry holds back what follows it for that
    profile. `batch_atomic` says that a batch is taken or refused as a whole; then one profile may
    be in it several times, and a batch that is refused is tried again in halves until the culprit
    stands alone. Leave it False where the service answers for each item.
    """

    api_version: ClassVar[int] = 1
    settings_type: ClassVar[type[Settings]]
    purposes: ClassVar[frozenset[str]] = frozenset()
    batch_max: ClassVar[int] = 100
    batch_bytes_max: ClassVar[int] = 4 * 2**20  # of events, by the host's estimate
    batch_atomic: ClassVar[bool] = False
    rate_per_s_max: ClassVar[float] = float("inf")  # batches per second
    concurrency_max: ClassVar[int] = 1  # batches in flight; one profile is never in two
    receives: ClassVar[frozenset[str]] = frozenset({"event"})  # kinds of delivery it wants
    linger_s: ClassVar[float] = 0.0  # a batch that is not full waits this long after the last one
    tick_s: ClassVar[float] = float("inf")  # how often `tick` is called
    erases: ClassVar[bool] = False  # whether `erase` can do more than say how to do it by hand

    settings: S
    http: httpx.AsyncClient
    host: Host

    async def start(self) -> None:
        """Called once before the first `deliver`, and again after a crash. May open files."""

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """One outcome per delivery, in the same order.

        Cancelled when it takes longer than `deliver_timeout_s`: the host then does not know
        whether the service has it, and asks again with the same delivery ids. An exception, or
        another number of outcomes, is a failed attempt of every delivery in the batch.
        """
        raise NotImplementedError

    async def erase(self, erasure: Erasure) -> ErasureOutcome:
        """Makes the service forget a person. May be asked again: the second time changes nothing.

        Called after everything about the person has landed, never while `tick` runs; it may run
        beside a `deliver` about others. An exception or a timeout counts as `ErasureRetry`. A
        person whom the service does not know is `Erased`.
        """
        return ErasureUnsupported(
            f"{type(self).__name__} cannot erase: have the person deleted in the service itself"
        )

    async def erasure_status(self, remote_id: str) -> ErasureOutcome:
        """How far an erasure is that the service accepted under this id."""
        raise NotImplementedError

    async def tick(self) -> None:
        """Called about every `tick_s` seconds, never while a `deliver` runs."""

    async def check(self) -> None:
        """Raises where the destination could not work now. Called by `cdp check --connect`.

        `http` and `host` are there, but nobody has called `start`: leave nothing open.
        """

    async def close(self) -> None:
        """Called once, after the last `deliver`."""
