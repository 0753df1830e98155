"""Memory against the number of identifiers: the resolver's own, and the whole process's.

Estimate. A node takes 16 bytes of hash, 16 of map overhead and load factor, 24 of its record; an
edge 24 and its places in two adjacency lists 16; with 3 nodes and 2 edges a person that is about
(3 * 56 + 2 * 40) / 3 = 83 bytes an identifier in Rust. The process adds what does not grow:
about 60 MB of interpreter and libraries, 64 MB of fragment cache, block cache and memtables.
"""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from bench.processes import usage
from bench.report import Options, Report
from bench.resolve import new_resolver, observations_of_people

if TYPE_CHECKING:
    from collections.abc import Iterator

PEOPLE = (50_000, 200_000, 500_000)
IDENTIFIERS_PER_PERSON = 3
_STEP = 4_096


def run(options: Options) -> Report:
    """Bytes an identifier at several sizes, as the resolver counts them and as /proc does."""
    report = Report()
    for people in PEOPLE:
        _measure(report, options.scaled(people, 1_000))
    return report


def _measure(report: Report, people: int) -> None:
    """In a child, so that what one size left behind does not help the next."""
    read, write = os.pipe()
    if os.fork() == 0:
        counted, resident = _bytes_per_identifier(people)
        os.write(write, f"{counted} {resident}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        counted, resident = (float(text) for text in answer.read().split())
    os.wait()
    identifiers = people * IDENTIFIERS_PER_PERSON
    name = f"of {identifiers:,} identifiers"
    report.add(f"resolver's count {name}", counted, "B each", goal=150, more=False)
    report.add(f"resident memory {name}", resident, "B each", goal=150, more=False)


def _bytes_per_identifier(people: int) -> tuple[float, float]:
    resolver = new_resolver()
    gc.collect()
    before = usage(os.getpid()).rss_bytes
    for step in _steps(people):
        resolver.resolve(observations_of_people(step))
    gc.collect()
    nodes = resolver.statistics()["nodes"]
    counted = resolver.statistics()["memory_bytes"] / nodes
    return counted, (usage(os.getpid()).rss_bytes - before) / nodes


def _steps(people: int) -> Iterator[range]:
    for start in range(0, people, _STEP):
        yield range(start, min(people, start + _STEP))
