"""Order per profile, and the choice of the next batch.

Every unfinished delivery stands in the lane of its profile (a merge, split or rename in those of
both), in log order. Only the head of all its lanes may go; what is behind it waits until it is
finished, be that for a retry of hours. Where a destination takes batches as a whole, the head's
followers may go in the same batch.

Nothing here is stored, waits, or knows what a delivery contains.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from cdp.delivery.owed import BEHIND, ENDED, FLYING, FRESH, READY

if TYPE_CHECKING:
    from cdp.delivery.owed import Owed


class _Lane:
    """One profile's unfinished deliveries; the first `claimed` of them are in batch `plan`."""

    __slots__ = ("claimed", "plan", "queue")

    def __init__(self, owed: Owed) -> None:
        self.queue = deque((owed,))
        self.claimed = 0
        self.plan = 0


class Lanes:
    """The unfinished deliveries of one destination, and which of them may go."""

    def __init__(self, *, batch_max: int, batch_bytes_max: int, atomic: bool) -> None:
        assert batch_max > 0, "a batch holds at least one delivery"
        self.batch_max = batch_max
        self.batch_bytes_max = batch_bytes_max
        self.atomic = atomic
        self._lanes: dict[bytes, _Lane] = {}
        self._fresh: deque[Owed] = deque()
        self._ready: list[tuple[float, int, Owed]] = []
        self._plan = 0

    @property
    def fresh_count(self) -> int:
        """Deliveries that were taken and not looked at yet."""
        return len(self._fresh)

    def next_due_s(self) -> float | None:
        """When the first of those that wait for a time may go; None where none waits."""
        return self._ready[0][0] if self._ready else None

    def busy(self, owed: Owed) -> bool:
        """Whether something that is not finished stands in a lane that this one would join."""
        return owed.profile_id in self._lanes or (
            owed.other_profile_id != b"" and owed.other_profile_id in self._lanes
        )

    def add_fresh(self, owed: Owed) -> None:
        """Adds a delivery that was just taken from the log."""
        self._join(owed)
        self._fresh.append(owed)

    def add_waiting(self, owed: Owed) -> None:
        """Adds a delivery that waited already: from its row, or redriven."""
        self._join(owed)
        owed.place = BEHIND
        self._wake(owed)

    def plan(self, now_s: float) -> list[Owed]:
        """The next batch: what waited and is due first, then what is fresh. Empty: nothing may go.

        Each delivery of it must come back by `finish` or `postpone`.
        """
        self._plan += 1
        batch: list[Owed] = []
        room, limit = self.batch_bytes_max, self.batch_max
        while len(batch) < limit:
            owed = self._next(now_s)
            if owed is None:
                break
            limit = min(limit, owed.group_max or limit)
            if batch and (owed.size > room or len(batch) >= limit):
                self._put_back(owed)
                break
            self._claim(owed)
            batch.append(owed)
            room -= owed.size
            if self.atomic and owed.profile_id:
                self._offer_follower(owed, now_s)
        return batch

    def finish(self, owed: Owed) -> None:
        """This one is done, with whatever end. Call `settle` when the whole batch has come back."""
        for lane in self._lanes_of(owed):
            if lane.queue[0] is owed:
                lane.queue.popleft()
            else:
                lane.queue.remove(owed)
            lane.claimed -= owed.place == FLYING
        owed.event = None

    def postpone(self, owed: Owed) -> None:
        """This one must be tried again at its `due_s`, and keeps its place in its lanes."""
        for lane in self._lanes_of(owed):
            lane.claimed -= 1
        owed.place = BEHIND
        owed.event = None

    def drop(self, ended: list[Owed]) -> None:
        """These are done without another attempt. None of them may fly."""
        for owed in ended:
            self.finish(owed)
            owed.place = ENDED
        self._fresh = deque(owed for owed in self._fresh if owed.place != ENDED)
        self._ready = [entry for entry in self._ready if entry[2].place != ENDED]
        heapify(self._ready)
        self.settle(ended)

    def settle(self, batch: list[Owed]) -> None:
        """Lets what stood behind this batch go, and forgets the lanes that are empty."""
        lanes = self._lanes
        for owed in batch:
            if owed.place == BEHIND and not owed.profile_id:
                self._wake(owed)
            for key in _keys(owed):
                lane = lanes.get(key)
                if lane is None:
                    continue
                if not lane.queue:
                    del lanes[key]
                elif not lane.claimed and lane.queue[0].place == BEHIND:
                    self._wake(lane.queue[0])

    def _join(self, owed: Owed) -> None:
        lanes = self._lanes
        for key in _keys(owed):
            lane = lanes.get(key)
            if lane is None:
                lanes[key] = _Lane(owed)
            else:
                lane.queue.append(owed)

    def _wake(self, owed: Owed) -> None:
        if all(lane.queue[0] is owed for lane in self._lanes_of(owed)):
            owed.place = READY
            heappush(self._ready, (owed.due_s, owed.offset, owed))

    def _next(self, now_s: float) -> Owed | None:
        while self._ready and self._ready[0][0] <= now_s:
            owed = heappop(self._ready)[2]
            if self._may_go(owed):
                return owed
            owed.place = BEHIND  # a follower whose head went in another batch
        while self._fresh:
            owed = self._fresh.popleft()
            if self._may_go(owed):
                return owed
            owed.place = BEHIND  # it is woken when it comes to the head of its lanes
            owed.event = None
        return None

    def _may_go(self, owed: Owed) -> bool:
        for lane in self._lanes_of(owed):
            if lane.claimed:
                # Behind members of this very batch it may go where the batch is one request.
                if not self.atomic or lane.plan != self._plan or lane.claimed >= len(lane.queue):
                    return False
                if lane.queue[lane.claimed] is not owed:
                    return False
            elif lane.queue[0] is not owed:
                return False
        return True

    def _claim(self, owed: Owed) -> None:
        for lane in self._lanes_of(owed):
            lane.claimed += 1
            lane.plan = self._plan
        owed.place = FLYING

    def _put_back(self, owed: Owed) -> None:
        if owed.place == READY:
            heappush(self._ready, (owed.due_s, owed.offset, owed))
        elif owed.place == FRESH:
            self._fresh.appendleft(owed)

    def _offer_follower(self, owed: Owed, now_s: float) -> None:
        lane = self._lanes[owed.profile_id]
        if lane.claimed < len(lane.queue):
            follower = lane.queue[lane.claimed]
            if follower.place == BEHIND and follower.due_s <= now_s and self._may_go(follower):
                follower.place = READY
                heappush(self._ready, (follower.due_s, follower.offset, follower))

    def _lanes_of(self, owed: Owed) -> list[_Lane]:
        lanes = self._lanes
        if owed.other_profile_id:
            return [lanes[key] for key in _keys(owed)]
        return [lanes[owed.profile_id]] if owed.profile_id else []


def _keys(owed: Owed) -> tuple[bytes, ...]:
    if owed.other_profile_id and owed.other_profile_id != owed.profile_id:
        return (owed.profile_id, owed.other_profile_id)
    return (owed.profile_id,) if owed.profile_id else ()
