"""How busy the event loop is: the share of time in which it had nothing to do.

Folds give way to ingestion only where they would take something from it, and that is when the
loop does not come to rest any more. A queue that is not empty is no sign of that: it is also
there while a flush to disk is awaited.
"""

from __future__ import annotations

from typing import Final

import trio

WINDOW_S: Final = 0.05
BUSY_REST_MAX: Final = 0.05  # a loop that rests less than this share of the time is busy


class LoopLoad(trio.abc.Instrument):
    """Measures the loop that it is added to (`trio.lowlevel.add_instrument`)."""

    def __init__(self) -> None:
        self.busy = False
        self._window_began_s = 0.0
        self._rested_s = 0.0
        self._waits_since_s = 0.0

    def before_io_wait(self, timeout: float) -> None:
        """The loop looks for events; with a timeout of 0 it has other work."""
        self._waits_since_s = trio.current_time() if timeout > 0 else 0.0

    def after_io_wait(self, timeout: float) -> None:
        """The loop goes on."""
        now_s = trio.current_time()
        if self._waits_since_s:
            self._rested_s += now_s - self._waits_since_s
        elapsed_s = now_s - self._window_began_s
        if elapsed_s >= WINDOW_S:
            self.busy = self._rested_s < BUSY_REST_MAX * elapsed_s
            self._window_began_s = now_s
            self._rested_s = 0.0
