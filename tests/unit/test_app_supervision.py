"""What the wiring makes of a store that fails: the process ends; of a full disk: it waits."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from cdp import app
from cdp.actors import Actor, open_supervisor
from cdp.clock import SECOND_US
from cdp.errors import StorageError, StoreFull
from cdp.telemetry import Journal, Metrics


class Clock:
    def now_us(self) -> int:
        return round(trio.current_time() * SECOND_US)


def daemon(journal: list[str]) -> app.Daemon:
    """A daemon that is nothing but its supervision."""
    made = app.Daemon.__new__(app.Daemon)
    made.journal, made.metrics = Journal(Clock(), journal.append), Metrics()
    return made


async def test_a_storage_error_ends_the_process_through_any_number_of_nurseries(autojump_clock):
    journal: list[str] = []
    runs = 0

    async def break_the_store() -> None:
        nonlocal runs
        runs += 1
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            inner.start_soon(trio.sleep, 1)
            outer.start_soon(trio.sleep, 1)
            raise StorageError("input/output error")

    with pytest.raises(ExceptionGroup) as ended:
        async with open_supervisor(on_crash=daemon(journal).note_crash) as supervisor:
            supervisor.start(Actor("one", break_the_store))
    assert app.is_of_the_store(ended.value)
    assert (runs, journal) == (1, [])


async def test_a_full_disk_is_waited_for_and_never_counts_as_a_crash(autojump_clock):
    journal: list[str] = []
    tries_s: list[float] = []

    async def fill_the_disk_for_ten_tries() -> None:
        tries_s.append(trio.current_time())
        async with trio.open_nursery():
            if len(tries_s) <= 10:
                raise StoreFull("no space left on the device")

    await daemon(journal)._when_there_is_room(fill_the_disk_for_ten_tries)
    assert [round(later - start) for start, later in pairwise(tries_s)] == [10] * 10
    assert len(journal) == 10


async def test_what_is_not_a_full_disk_escapes(autojump_clock):
    async def crash() -> None:
        raise ExceptionGroup("", [StoreFull("full"), ValueError("a bug")])

    with pytest.raises(ExceptionGroup) as escaped:
        await daemon([])._when_there_is_room(crash)
    assert escaped.value.subgroup(ValueError) is not None
    assert escaped.value.subgroup(StoreFull) is None
