"""What live traffic looks like, for the drafting of a tracking plan: names and types, no values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from starlette.routing import Route

from cdp.console.answers import answer
from cdp.console.surface import Refused
from cdp.domain.event import decode_event
from cdp.domain.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from cdp.storage.log import Log

EVENTS_DEFAULT: Final = 10_000
EVENTS_MAX: Final = 100_000
_STEP_EVENTS: Final = 64  # decoded and counted between two looks at what else is to do


class PlanRoutes:
    """The endpoint that `cdp tracking-plan infer` asks."""

    def __init__(
        self, events: Log, dropped: Callable[[], Mapping[str, int]] = dict[str, int]
    ) -> None:
        """`dropped` are the fields that the plan in force has taken out, by path."""
        self._events = events
        self._dropped = dropped

    def routes(self) -> list[Route]:
        """Every route about the plan."""
        return [Route("/v1/tracking-plan/sample", self.sample, methods=["GET"])]

    async def sample(self, request: Request) -> Response:
        """Counts of kinds, fields and types in the latest events. `events`: so many of them."""
        text = request.query_params.get("events", str(EVENTS_DEFAULT))
        if not text.isdecimal() or not 0 < int(text) <= EVENTS_MAX:
            raise Refused(f"events must be a number from 1 to {EVENTS_MAX}")
        traffic = await sample_traffic(self._events, int(text))
        return answer({**traffic.as_json(), "dropped": dict(self._dropped())})


async def sample_traffic(events: Log, events_max: int) -> Traffic:
    """Counts the latest events, a few at a time. Erased ones are passed over."""
    traffic = Traffic()
    offset, end = max(events.start, events.published - events_max), events.published
    while offset < end:
        entries = [one for one in events.read(offset, _STEP_EVENTS) if one.offset < end]
        if not entries:
            break
        for index in range(0, len(entries), _STEP_EVENTS):
            for entry in entries[index : index + _STEP_EVENTS]:
                if entry.record:
                    traffic.add(decode_event(entry.record))
            await trio.lowlevel.checkpoint()
        offset = entries[-1].offset + 1
    return traffic
