"""`python -m bench.sampling FILE <arguments of cdp>`: runs the daemon and samples its event loop.

Every millisecond of CPU time a signal interrupts the main thread and notes its stack: about 2 %
overhead, against the 100 % of a tracing profiler that makes small functions look dear. A call
into C (a socket, JSON, the database, Rust) counts for the line that made it. Samples are taken of
the process's CPU time, so time in which other threads hold it shows at the line that waits.
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cdp.cli import main

if TYPE_CHECKING:
    from types import FrameType

INTERVAL_S = 0.001
_DEPTH_MAX = 60
_ROOT = str(Path(__file__).resolve().parents[1]) + "/"


class Sampler:
    """Counts of functions and lines: where the loop was, and what had called it."""

    def __init__(self) -> None:
        self.samples = 0
        self.lines: Counter[str] = Counter()
        self.inside: Counter[str] = Counter()
        self.beneath: Counter[str] = Counter()

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL_S, INTERVAL_S)

    def write(self, target: Path) -> None:
        """Stops, and leaves the counts in a file."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        found = {
            "samples": self.samples,
            "lines": self.lines.most_common(400),
            "inside": self.inside.most_common(400),
            "beneath": self.beneath.most_common(400),
        }
        target.write_text(json.dumps(found))

    def _note(self, _: int, frame: FrameType | None) -> None:
        self.samples += 1
        if frame is None:
            return
        self.inside[_name(frame)] += 1
        self.lines[f"{_place(frame)}:{frame.f_lineno}"] += 1
        seen: set[str] = set()
        for _depth in range(_DEPTH_MAX):
            seen.add(_name(frame))
            if frame.f_back is None:
                break
            frame = frame.f_back
        self.beneath.update(seen)


def _name(frame: FrameType) -> str:
    return f"{_place(frame)} {frame.f_code.co_qualname}"


def _place(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    return path.removeprefix(_ROOT).rpartition("site-packages/")[2]


if __name__ == "__main__":
    sampler = Sampler()
    sampler.start()
    try:
        code = main(sys.argv[2:])
    finally:
        sampler.write(Path(sys.argv[1]))
    sys.exit(code)
