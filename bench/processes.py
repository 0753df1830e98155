"""What a process used, from /proc: CPU seconds, resident memory, its peak."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What a process has used since it started."""

    cpu_s: float
    rss_bytes: int
    rss_bytes_peak: int


def usage(pid: int) -> Usage:
    """The usage of a live process, all its threads included."""
    # The name in parentheses may hold spaces; what follows the last parenthesis does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Usage(
        cpu_s=(user_ticks + system_ticks) / _TICKS_PER_S,
        rss_bytes=_bytes(status["VmRSS"]),
        rss_bytes_peak=_bytes(status["VmHWM"]),
    )


def _bytes(text: str) -> int:
    return int(text.split()[0]) * 1024
