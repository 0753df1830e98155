"""What a person did, in order, and who they were known to be at an earlier time.

A profile's history is the merge of its members' timelines, read a page at a time. Events of a
shared device belong to whoever was signed in there; they are decided here again at each read, by
all sign-ins that are known now, and marked, since another sign-in may change the answer.

`as_of` folds the events up to a time again. Who belongs together is today's knowledge: the
question is "what had this person done and told us by then". Traits of events whose bodies are
past their retention cannot be brought back; how many are missing is part of the answer.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import merge
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import trio

from cdp._matcher import attribute
from cdp.domain.event import Event, decode_event
from cdp.domain.profile import Fragment, ProfileView, fold
from cdp.errors import CdpError
from cdp.identity.facts import decode_facts
from cdp.identity.fragments import apply_event
from cdp.identity.identifiers import observation
from cdp.identity.rows import Moment, logins_near, moment_of, timeline_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cdp.identity.profiles import Profile, Profiles
    from cdp.storage.log import Log
    from cdp.storage.store import Store

ROWS_READ_MAX: Final = 128  # of one timeline at a time
ROWS_READ_MIN: Final = 4
ROWS_READ_FIRST: Final = 1_024  # of all timelines of a profile together, before the first event
EXAMINED_MAX: Final = 2_000  # timeline rows looked at for one page
AS_OF_EVENTS_MAX: Final = 50_000
EVENTS_A_TURN: Final = 128  # read between two chances for other tasks
TIME_US_END: Final = 2**63


class HistoryTooLong(CdpError):
    """The profile has more events than can be folded for one question."""


class Place(NamedTuple):
    """Where a page ended: the last moment that was looked at."""

    time_us: int
    offset: int


class Past(msgspec.Struct, frozen=True):
    """One event of a history. `event` is None where its body is past its retention, or erased.

    `rule` says how an event of a shared device came to this person; empty for the person's own.
    """

    moment: Moment
    event: Event | None
    rule: str = ""


class Page(NamedTuple):
    """Some of a history, and where the next page begins; None at the end."""

    events: list[Past]
    next: Place | None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a history is wanted. Times include `start_us` and exclude `end_us`."""

    start_us: int = 0
    end_us: int = TIME_US_END
    newest_first: bool = True
    after: Place | None = None
    limit: int = 10
    include: Collection[str] = ()  # names or types of events; empty: all
    exclude: Collection[str] = ()


class Earlier(msgspec.Struct, frozen=True):
    """A profile as of a time. `missing`: events of which only the time is left."""

    view: ProfileView
    nodes: frozenset[bytes]  # identifiers that had been named by then
    events: int
    missing: int


class History:
    """Reads timelines together with the events that they name."""

    def __init__(self, store: Store, events: Log, profiles: Profiles) -> None:
        self._store = store
        self._events = events
        self._profiles = profiles

    async def page(self, profile: Profile, question: Question) -> Page:
        """The next events that answer the question.

        A page may be shorter than its limit, even empty, and yet have a next one: a page looks at
        a bounded number of events.
        """
        found: list[Past] = []
        last: Moment | None = None
        examined = 0
        for moment in self._moments(profile, question):
            if last is not None and (len(found) >= question.limit or examined >= EXAMINED_MAX):
                return Page(found, Place(last.time_us, last.offset))
            last, examined = moment, examined + 1
            if examined % EVENTS_A_TURN == 0:
                await trio.lowlevel.checkpoint()
            past = self._past(profile, moment)
            if past is not None and _wanted(past, question):
                found.append(past)
        return Page(found, None)

    async def as_of(self, profile: Profile, time_us: int) -> Earlier:
        """The profile that the events up to and including this time make.

        Raises:
            HistoryTooLong: it has more than `AS_OF_EVENTS_MAX` events.
        """
        moments = await self._moments_until(profile.members, time_us)
        node_of = self._profiles.resolver.node
        fragments: defaultdict[bytes, Fragment] = defaultdict(Fragment)
        nodes: set[bytes] = set()
        missing = 0
        for index, moment in enumerate(moments):
            if index % EVENTS_A_TURN == 0:
                await trio.lowlevel.checkpoint()
            record = self._events.get(moment.offset)
            if not record:
                missing += 1
                continue
            facts = decode_facts(record)
            apply_event(fragments[moment.leaf], facts)
            nodes.update(node_of(*named) or b"" for named in observation(facts)[3])
        known = frozenset(nodes & set(profile.members))
        return Earlier(fold(fragments.values()), known, len(moments), missing)

    async def _moments_until(self, nodes: Sequence[bytes], time_us: int) -> list[Moment]:
        """In log order, so that each block of the log is read once."""
        moments: list[Moment] = []
        for node in nodes:
            await trio.lowlevel.checkpoint()
            moments += self._walk(node, 0, time_us + 1, ROWS_READ_MAX, newest_first=False)
            if len(moments) > AS_OF_EVENTS_MAX:
                raise HistoryTooLong(
                    f"the profile has more than {AS_OF_EVENTS_MAX} events up to then, "
                    "ask for an earlier time"
                )
        return sorted(moments, key=lambda moment: moment.offset)

    def _moments(self, profile: Profile, question: Question) -> Iterator[Moment]:
        """The timelines of members and shared devices, merged, from where the last page ended."""
        nodes = list(profile.members)
        if not profile.shared:
            nodes += self._profiles.resolver.shared_neighbours(profile.profile_id)
        newest_first, after = question.newest_first, question.after
        start_us, end_us = question.start_us, question.end_us
        if after is not None and newest_first:
            end_us = min(end_us, after.time_us + 1)
        elif after is not None:
            start_us = max(start_us, after.time_us)
        rows_max = max(ROWS_READ_MIN, min(ROWS_READ_MAX, ROWS_READ_FIRST // len(nodes)))
        walks = [
            self._walk(node, start_us, end_us, rows_max, newest_first=newest_first)
            for node in nodes
        ]
        for moment in merge(*walks, key=lambda moment: moment[:2], reverse=newest_first):
            if after is None or (moment[:2] < after if newest_first else moment[:2] > after):
                yield moment

    def _walk(
        self, node: bytes, start_us: int, end_us: int, rows_max: int, *, newest_first: bool
    ) -> Iterator[Moment]:
        """The rows of one timeline, read in parts."""
        start, end = timeline_key(node, start_us, 0), timeline_key(node, end_us, 0)
        while start < end:
            rows = self._store.scan("timeline", start, end, limit=rows_max, reverse=newest_first)
            yield from (moment_of(key, value) for key, value in rows)
            if len(rows) < rows_max:
                return
            if newest_first:
                end = rows[-1][0]
            else:
                start = rows[-1][0] + b"\x00"

    def _past(self, profile: Profile, moment: Moment) -> Past | None:
        """The event with its body; None where it was someone else's on a shared device."""
        rule = ""
        resolver = self._profiles.resolver
        if not profile.shared and resolver.is_shared(moment.leaf):
            logins = logins_near(self._store, moment.leaf, moment.time_us)
            person, rule = attribute(logins, moment.time_us)
            if not person or resolver.profile_of(person) != profile.profile_id:
                return None
        record = self._events.get(moment.offset)
        return Past(moment, decode_event(record) if record else None, rule)


def _wanted(past: Past, question: Question) -> bool:
    names = {past.moment.type}
    if past.event is not None and past.event.event:
        names.add(past.event.event)
    if question.include and not names & set(question.include):
        return False
    return not names & set(question.exclude)
