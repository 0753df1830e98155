"""What an operator asks of a destination that takes longer than one commit: redrive and replay.

Both are rows in `meta` that move in the batches of their effects, so they go on where they were
after a crash. Neither goes around anything: what they bring back stands in its profile's lane,
passes the gate, keeps its delivery id and counts in the books.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from cdp.delivery.backlog import Feed
from cdp.delivery.schedule import TokenBucket

if TYPE_CHECKING:
    from cdp.delivery.backlog import Backlog
    from cdp.delivery.owed import DeadLetter
    from cdp.storage.store import Batch, Store

T = TypeVar("T")

REDRIVE_STEP: Final = 256  # dead letters of one write


class DeadLetterFilter(msgspec.Struct, frozen=True, array_like=True):
    """Which dead letters. A field that is None allows any; what is set must all hold."""

    reason: str | None = None  # a part of the reason
    died_since_us: int | None = None
    died_until_us: int | None = None
    offsets: frozenset[int] | None = None  # of activations

    def matches(self, offset: int, letter: DeadLetter) -> bool:
        """Whether this dead letter is meant."""
        return (
            (self.reason is None or self.reason in letter.reason)
            and (self.died_since_us is None or letter.died_at_us >= self.died_since_us)
            and (self.died_until_us is None or letter.died_at_us < self.died_until_us)
            and (self.offsets is None or offset in self.offsets)
        )


class RedriveJob(msgspec.Struct, frozen=True, array_like=True):
    """A redrive under way: which dead letters, and from which activation on it has to look."""

    which: DeadLetterFilter
    next_offset: int
    moved: int = 0


class ReplayJob(msgspec.Struct, frozen=True, array_like=True):
    """A replay under way: a stretch of the activation log, and how fast at most."""

    start: int
    until: int
    per_s_max: float


_encode = msgspec.msgpack.Encoder().encode


def replay_reader(destination: str) -> str:
    """The name of the cursor of a destination's replay."""
    return f"replay:{destination}"


class Jobs:
    """The redrive and the replay of one destination; at most one of each at a time."""

    def __init__(self, store: Store, backlog: Backlog, now_s: float) -> None:
        self._store = store
        self._backlog = backlog
        self._redrive_key = b"redrive:" + backlog.name.encode()
        self._replay_key = b"replay:" + backlog.name.encode()
        self._cursor_key = b"cursor:" + replay_reader(backlog.name).encode()
        self._bucket: TokenBucket | None = None
        self.redrive = _load(store, self._redrive_key, RedriveJob)
        self.replay = _load(store, self._replay_key, ReplayJob)
        if self.replay is not None:
            value = store.get("meta", self._cursor_key)
            cursor = int.from_bytes(value, "big") if value else self.replay.start
            self._resume(self.replay, cursor, now_s)

    def start_redrive(self, which: DeadLetterFilter, now_us: int) -> None:
        """Begins to move dead letters back. Those that die again meanwhile are not moved twice."""
        until_us = min(now_us, which.died_until_us or now_us)
        which = msgspec.structs.replace(which, died_until_us=until_us)
        job = RedriveJob(which, min(which.offsets or (0,)))
        self._put(self._redrive_key, job)
        self.redrive = job

    def start_replay(self, job: ReplayJob, now_s: float) -> None:
        """Begins to offer a stretch of the log again."""
        assert self.replay is None, "one replay at a time"
        assert job.until <= self._backlog.live.cursor, "what is not committed cannot be replayed"
        batch = self._store.batch()
        batch.put("meta", self._replay_key, _encode(job))
        batch.put("meta", self._cursor_key, job.start.to_bytes(8, "big"))  # retention heeds it
        self._store.write(batch)
        self.replay = job
        self._resume(job, job.start, now_s)

    def stop_replay(self) -> bool:
        """Takes no more from the log for the replay; what it took already is still delivered."""
        feed = self._backlog.replay
        if feed is None or self.replay is None:
            return False
        feed.until = feed.position
        self.replay = msgspec.structs.replace(self.replay, until=feed.position)
        self._put(self._replay_key, self.replay)
        return True

    def step(self, now_us: int, now_s: float) -> None:
        """Goes on with what is under way, as far as there is room."""
        if self.redrive is not None:
            self._step_redrive(self.redrive, now_us)
        feed = self._backlog.replay
        if feed is not None and self._bucket is not None:
            self._step_replay(feed, self._bucket, now_us, now_s)

    def next_at_s(self, now_s: float) -> float | None:
        """When `step` can do something next by time alone; None where it waits for a commit."""
        feed = self._backlog.replay
        if self._backlog.room <= 0:
            return None
        if self.redrive is not None:
            return now_s
        if feed is None or self._bucket is None or _taken(feed):
            return now_s if feed is not None and feed.exhausted and not feed.ahead else None
        return self._bucket.ready_at(now_s)

    def _step_redrive(self, job: RedriveJob, now_us: int) -> None:
        limit = min(self._backlog.room, REDRIVE_STEP)
        if limit <= 0:
            return
        rows = self._backlog.dead_from(job.next_offset, limit)
        meant = [
            (offset, letter)
            for offset, letter in rows
            if job.which.matches(offset, letter) and not self._backlog.is_ending(offset)
        ]
        after = rows[-1][0] + 1 if rows else 0
        last = len(rows) < limit or after > max(job.which.offsets or (after,))
        left = None if last else RedriveJob(job.which, after, job.moved + len(meant))

        def move_on(batch: Batch) -> None:
            if left is None:
                batch.delete("meta", self._redrive_key)
            else:
                batch.put("meta", self._redrive_key, _encode(left))

        self._backlog.redrive(meant, now_us, move_on)
        self.redrive = left

    def _step_replay(self, feed: Feed, bucket: TokenBucket, now_us: int, now_s: float) -> None:
        if feed.exhausted and not feed.ahead:
            self._backlog.commit(now_us, self._forget_replay)
            self._backlog.replay = self.replay = self._bucket = None
            return
        count = int(min(bucket.available(now_s) + 1e-6, 1e9))
        if count and not _taken(feed):
            bucket.take(now_s, float(self._backlog.take(feed, count)))

    def _forget_replay(self, batch: Batch) -> None:
        batch.delete("meta", self._replay_key)
        batch.delete("meta", self._cursor_key)

    def _resume(self, job: ReplayJob, cursor: int, now_s: float) -> None:
        reader = replay_reader(self._backlog.name)
        self._backlog.replay = Feed(reader, cursor, until=job.until)
        self._bucket = TokenBucket(job.per_s_max, now_s=now_s)

    def _put(self, key: bytes, job: RedriveJob | ReplayJob) -> None:
        batch = self._store.batch()
        batch.put("meta", key, _encode(job))
        self._store.write(batch)


def _taken(feed: Feed) -> bool:
    return feed.until is not None and feed.position >= feed.until


def _load(store: Store, key: bytes, kind: type[T]) -> T | None:
    value = store.get("meta", key)
    return msgspec.msgpack.decode(value, type=kind) if value is not None else None
