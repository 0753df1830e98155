"""By when the law wants a request answered, and telling the operator while there is still time.

The days are counted from when the request was received, whatever it waits for. Business days are
Monday to Friday, UTC; holidays are not known here, so a date may come too early, never too late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from cdp.clock import DAY_US, SECOND_US
from cdp.consent.requests import ENDED

if TYPE_CHECKING:
    from cdp.clock import Clock
    from cdp.consent.requests import Request, RequestBook
    from cdp.telemetry import Journal, Metrics

GDPR_DAYS: Final = 30
CCPA_DAYS: Final = 45
OPT_OUT_BUSINESS_DAYS: Final = 15
ALARM_DAYS: Final = (10, 25)  # before the day on which it is due, which is an alarm of its own
OPT_OUTS: Final = frozenset({"restriction", "suppression"})
CCPA: Final = frozenset({"ccpa", "cpra"})
REMIND_S: Final = 3_600.0
_EPOCH_WEEKDAY: Final = 3  # 1970 began on a Thursday; Monday is 0
_SATURDAY: Final = 5


def due_at_us(regulation: str, received_at_us: int, kind: str = "erasure") -> int:
    """By when a request has to be answered; the stricter law where none is named."""
    if regulation not in CCPA:
        return received_at_us + GDPR_DAYS * DAY_US
    if kind in OPT_OUTS:
        return after_business_days(received_at_us, OPT_OUT_BUSINESS_DAYS)
    return received_at_us + CCPA_DAYS * DAY_US


def alarms_us(regulation: str, received_at_us: int, kind: str = "erasure") -> list[int]:
    """When somebody should be told that a request is still open; the last is when it is due."""
    due_us = due_at_us(regulation, received_at_us, kind)
    before = [received_at_us + days * DAY_US for days in ALARM_DAYS]
    return [*(at_us for at_us in before if at_us < due_us), due_us]


def after_business_days(start_us: int, count: int) -> int:
    """The same time of day, so many business days later."""
    day, left = start_us // DAY_US, count
    while left:
        day += 1
        left -= (day + _EPOCH_WEEKDAY) % 7 < _SATURDAY
    return day * DAY_US + start_us % DAY_US


class Reminders:
    """Tells the operator of requests that stay open: once an alarm, over restarts too."""

    def __init__(
        self,
        book: RequestBook,
        clock: Clock,
        metrics: Metrics | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._book = book
        self._clock = clock
        self._journal = journal
        self._next_look_s = 0.0
        self._overdue = 0
        if metrics is not None:
            metrics.gauge("cdp_requests_open", lambda: len(self._open()))
            metrics.gauge("cdp_requests_overdue", lambda: self._overdue)

    async def remind(self) -> float:
        """Tells of every alarm that has passed and was not told; how long to wait then."""
        left_s = self._next_look_s - trio.current_time()
        if left_s > 0:
            return left_s
        overdue = 0
        for request_id in self._open():
            request = self._book.get(request_id)
            if request.state not in ENDED:
                overdue += self._look(request)
            await trio.lowlevel.checkpoint()
        self._overdue = overdue
        self._next_look_s = trio.current_time() + REMIND_S
        return REMIND_S

    def _open(self) -> list[bytes]:
        return [one for one, state in self._book.open.items() if state not in ENDED]

    def _look(self, request: Request) -> bool:
        """Tells of one request, if it is time to; whether it is overdue."""
        now_us = self._clock.now_us()
        alarms = alarms_us(request.regulation, request.times["received"], request.kind)
        passed = sum(at_us <= now_us for at_us in alarms)
        is_overdue = passed == len(alarms)
        if passed > request.alarms_told:
            request.alarms_told = passed
            with self._book.change() as batch:
                self._book.put(batch, request)
            if self._journal is not None:
                tell = self._journal.error if is_overdue else self._journal.warn
                tell(
                    "request_overdue" if is_overdue else "request_still_open",
                    request=request.name,
                    kind=request.kind,
                    state=request.state,
                    due_s=(alarms[-1] - now_us) // SECOND_US,
                )
        return is_overdue
