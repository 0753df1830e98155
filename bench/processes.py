"""What a process used, from /proc: CPU seconds, resident memory, its peak."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What a process has used since it started."""

    cpu_s: float
    loop_cpu_s: float  # of the main thread, which runs the event loop
    rss_bytes: int
    rss_bytes_peak: int


def usage(pid: int) -> Usage:
    """The usage of a live process, all its threads included."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Usage(
        cpu_s=_cpu_s(f"/proc/{pid}/stat"),
        loop_cpu_s=_cpu_s(f"/proc/{pid}/task/{pid}/stat"),
        rss_bytes=_bytes(status["VmRSS"]),
        rss_bytes_peak=_bytes(status["VmHWM"]),
    )


def _cpu_s(path: str) -> float:
    # The name in parentheses may hold spaces; what follows the last parenthesis does not.
    fields = Path(path).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _bytes(text: str) -> int:
    return int(text.split()[0]) * 1024
