"""What the gateway hands to the log writer, and how it learns what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from cdp.domain.event import ConsentStamp
from cdp.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.domain.consent import Statement
    from cdp.domain.naming import Named
    from cdp.ingestion.responses import Answer

REJECTED_SCHEMA: Final = 1


class RejectedEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event that was not accepted, kept for repair.

    `body` is its JSON text as received, cut at the limit of one event where `truncated`.
    `path` is the place in the event that is wrong; `index` its place in the request. `path_type`
    is the type that the request's path gave it. `stamp`, `authority` and `grants_count` are what
    the request said about consent, for the day that the event is repaired.
    """

    schema: int
    source: str
    received_at_us: int
    index: int
    message_id: str | None
    code: str
    message: str
    path: str
    body: bytes
    truncated: bool = False
    path_type: str | None = None
    stamp: ConsentStamp = ConsentStamp()
    authority: str = "public"
    grants_count: bool = False


ALONE: Final = -1  # the place of a statement that came without an event


class Spoken(msgspec.Struct, gc=False, eq=False):
    """A statement about purposes: of the event at a place in the records, about identifiers.

    `at_us` is when it was said, whatever the statement says itself. Whom it is about is `named`,
    and then `nodes`, of which `verified` are those that a login knows; see `cdp.ingestion.hearing`.
    """

    place: int
    statement: Statement
    at_us: int
    received_at_us: int
    named: Sequence[Named] = ()
    nodes: Sequence[bytes] = ()
    verified: Sequence[bytes] = ()


class Group:
    """Submissions that become durable with one write and one flush, and are answered together."""

    __slots__ = ("done", "error", "events", "submissions")

    def __init__(self) -> None:
        self.submissions: list[Submission] = []
        self.events = 0
        self.done = trio.Event()
        self.error: Overloaded | None = None

    def add(self, submission: Submission, events: int) -> None:
        """Takes a submission in, which has so many events."""
        submission.group = self
        self.submissions.append(submission)
        self.events += events

    def settle(self, error: Overloaded | None = None) -> None:
        """Wakes all that wait. `error` says that nothing of it may be answered as stored."""
        self.submissions = []
        self.error = error
        self.done.set()


class Submission:
    """The events of one request: normalised records to store, and rejected ones to keep.

    `nodes` has those of each record's identifiers, where somebody can be named; `said` what events
    state about purposes. `accepted`, `duplicates` and `suppressed` are set by the log writer.
    `rejected_count` may exceed `len(rejected)`, of which there is a limit. `repairs` is the key of
    the row that a resubmission takes out of `rejected`.
    """

    __slots__ = (
        "accepted",
        "answer",
        "duplicates",
        "group",
        "held_bytes",
        "message_ids",
        "nodes",
        "received_at_us",
        "records",
        "rejected",
        "rejected_count",
        "repairs",
        "said",
        "source",
        "suppressed",
    )

    def __init__(self, source: str, received_at_us: int) -> None:
        self.source = source
        self.received_at_us = received_at_us
        self.message_ids: list[str] = []
        self.records: list[bytes] = []
        self.nodes: list[list[bytes]] = []
        self.said: list[Spoken] = []
        self.rejected: list[RejectedEvent] = []
        self.rejected_count = 0
        self.repairs: bytes | None = None
        self.accepted = 0
        self.duplicates = 0
        self.suppressed = 0
        self.held_bytes = 0  # what it holds beyond the bytes that came over the network
        self.group: Group | None = None
        self.answer: Answer | None = None  # where it is the same whatever became of it

    def size(self) -> int:
        """How many events it has, of either kind; at least 1, as a request too takes room."""
        return len(self.records) + len(self.rejected) or 1

    async def settled(self) -> None:
        """Returns when the events are on disk.

        Raises:
            Overloaded: they may not be, and trying again is worth it.
        """
        assert self.group is not None, "settled() is for what was offered"
        await self.group.done.wait()
        if self.group.error is not None:
            # A fresh one for each who waits: an exception collects the frames it passes through.
            error = self.group.error
            raise Overloaded(str(error), retry_after_s=error.retry_after_s)
