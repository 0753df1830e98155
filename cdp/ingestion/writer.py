"""A group of submissions to one batch: what of it is stored, under whose key, and what is counted.

Decided in the same turn of the loop as the write, so that nothing is written about a person after
they were suppressed, and no statement about purposes is recorded without the event that made it.
An event is suppressed if it names anybody of whom nothing may be stored; else it may be a
duplicate; else it is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.domain.subjects import nobody_on
from cdp.ingestion.accounts import Tally, add_counts
from cdp.ingestion.deduplication import MessageKeys, remember, within_window
from cdp.ingestion.rejected import named_in_rejected, update_rejected
from cdp.ingestion.submission import ALONE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from cdp.config import Limits
    from cdp.ingestion.collaborators import Ledger, Namer, RowSeal, Suppressed
    from cdp.ingestion.submission import RejectedEvent, Spoken, Submission
    from cdp.storage.log import Log
    from cdp.storage.store import Batch, Store

_NOBODY: Final[frozenset[bytes]] = frozenset()
_NO_NODES: Final[list[bytes]] = []


class Chosen:
    """What of a group is stored."""

    __slots__ = ("fresh", "records", "said", "subjects", "tallies")

    def __init__(self) -> None:
        self.fresh: dict[bytes, bytes] = {}  # when received by key of the message id
        self.records: list[bytes] = []  # in the same order
        self.subjects: list[bytes] = []  # the same; empty where nothing is named
        self.said: list[Spoken] = []
        self.tallies: dict[str, Tally] = {}

    def tally(self, source: str) -> Tally:
        """The counts of a source in this group."""
        return self.tallies.setdefault(source, Tally())


class GroupWriter:
    """Writes groups. Without `namer` nothing is named: no subjects, no suppression, no consent."""

    def __init__(
        self,
        *,
        store: Store,
        events: Log,
        keys: MessageKeys,
        key: bytes,
        limits: Limits,
        window_us: int,
        namer: Namer | None,
        suppression: Suppressed | None,
        ledger: Ledger | None,
        vault: RowSeal | None,
    ) -> None:
        self._store = store
        self._events = events
        self._key_of = keys.of
        self._key = key[:64]
        self._limits = limits
        self._window_us = window_us
        self._namer = namer
        self._suppression = suppression
        self._ledger = ledger
        self._vault = vault

    def write(self, submissions: list[Submission]) -> dict[str, Tally]:
        """Stores what of them is new, in one batch; returns what is counted, by source.

        Raises:
            StorageError: nothing of it counts as stored, and nobody remembers it.
        """
        batch = self._store.batch()
        try:
            chosen = self._choose(submissions)
            first = self._append(batch, chosen)
            remember(batch, chosen.fresh, first)
            self._note(batch, chosen.said)
            self._settle_rejected(batch, submissions, chosen)
            for source, tally in chosen.tallies.items():
                add_counts(self._store, batch, source, tally)
            self._store.write(batch)
        except BaseException:
            self.forget_unwritten()
            raise
        return chosen.tallies

    def forget_unwritten(self) -> None:
        """Takes back what others keep in memory of a batch that was not written."""
        for other in (self._vault, self._ledger):
            if other is not None:
                other.forget_unwritten()

    def _choose(self, submissions: list[Submission]) -> Chosen:
        chosen = Chosen()
        keys = [self._key_of(message_id) for s in submissions for message_id in s.message_ids]
        known = zip(keys, self._store.get_many("seen", keys), strict=True)
        suppressed = self._suppression.nodes if self._suppression is not None else _NOBODY
        for submission in submissions:
            self._choose_events(submission, chosen, known, suppressed)
            self._choose_alone(submission, chosen, suppressed)
        return chosen

    def _choose_events(
        self,
        submission: Submission,
        chosen: Chosen,
        known: Iterator[tuple[bytes, bytes | None]],
        suppressed: AbstractSet[bytes],
    ) -> None:
        """Runs once an event; what most events do not need is behind one test each."""
        received_at_us, window_us = submission.received_at_us, self._window_us
        received = received_at_us.to_bytes(8, "big")
        fresh, records, subjects = chosen.fresh, chosen.records, chosen.subjects
        names = self._namer is not None
        before = len(records)
        passed_over: set[int] = set()  # places among the records
        for place, record in enumerate(submission.records):
            key, stored = next(known)
            its_nodes = submission.nodes[place] if names else _NO_NODES
            if suppressed and not suppressed.isdisjoint(its_nodes):
                submission.suppressed += 1
                passed_over.add(place)
                continue
            if key in fresh or (
                stored is not None and within_window(stored, received_at_us, window_us)
            ):
                passed_over.add(place)
                continue
            fresh[key] = received
            records.append(record)
            if names:
                subject = its_nodes[0] if its_nodes else nobody_on(received_at_us, self._key)
                subjects.append(subject)
        submission.accepted = len(records) - before
        submission.duplicates = (
            len(submission.records) - submission.accepted - submission.suppressed
        )
        if submission.said:
            passed_over.add(ALONE)
            chosen.said += [one for one in submission.said if one.place not in passed_over]
        tally = chosen.tally(submission.source)
        tally.accepted += submission.accepted
        tally.duplicate += submission.duplicates
        tally.suppressed += submission.suppressed

    def _choose_alone(
        self, submission: Submission, chosen: Chosen, suppressed: AbstractSet[bytes]
    ) -> None:
        """Statements without an event. One about a suppressed person is not kept either."""
        for spoken in submission.said:
            if spoken.place == ALONE and suppressed.isdisjoint(spoken.nodes):
                chosen.said.append(spoken)

    def _append(self, batch: Batch, chosen: Chosen) -> int:
        if not chosen.records:
            return 0
        if self._namer is None:
            return self._events.append(batch, chosen.records)
        return self._events.append(batch, chosen.records, chosen.subjects)

    def _note(self, batch: Batch, said: list[Spoken]) -> None:
        if not said or self._ledger is None:
            return
        note = self._ledger.note
        for one in said:
            if one.nodes:
                said_at_us = (one.at_us, one.received_at_us)
                note(batch, one.nodes, one.statement, said_at_us, verified=one.verified)

    def _settle_rejected(self, batch: Batch, submissions: list[Submission], chosen: Chosen) -> None:
        rows: list[RejectedEvent] = []
        repaired: dict[bytes, str] = {}
        for submission in submissions:
            chosen.tally(submission.source).rejected += submission.rejected_count
            rows += submission.rejected
            if submission.repairs is not None:
                repaired[submission.repairs] = submission.source
        if not rows and not repaired:
            return
        if rows and self._suppression is not None and self._suppression.nodes:
            rows = self._without_suppressed(rows, self._suppression, chosen)
        gone = update_rejected(self._store, batch, rows, repaired, self._limits, self._vault)
        for source in gone:
            chosen.tally(source).rejected -= 1  # it has become one of the others

    def _without_suppressed(
        self, rows: list[RejectedEvent], suppression: Suppressed, chosen: Chosen
    ) -> list[RejectedEvent]:
        """An event that is wrong may still name somebody of whom nothing may be kept."""
        if self._namer is None:
            return rows
        kept = []
        nodes = self._namer.nodes([named_in_rejected(row) for row in rows])
        for row, its_nodes in zip(rows, nodes, strict=True):
            if suppression.any_of(its_nodes):
                tally = chosen.tally(row.source)
                tally.rejected -= 1
                tally.suppressed += 1
            else:
                kept.append(row)
        return kept
