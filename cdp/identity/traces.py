"""What a person left under identifiers that are not the person's own.

A shared device keeps who was signed in there and when, and under its own node the events without
a name. Those that happened while somebody was signed in are that person's; were only the sign-ins
taken away, they would fall to whoever signed in before. So both go together.

What was never anybody's guess stays with the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from cdp.identity.rows import SESSION_US, Login, login_of, node_range, timeline_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from cdp._matcher import Resolver
    from cdp.storage.store import Batch, Store

LOGINS_READ: Final = 1_024  # of one device at a time
TIME_US_END: Final = 2**64 - 1


class Traces(msgspec.Struct):
    """Rows under others' nodes: sign-ins by key, and stretches of timelines."""

    logins: list[bytes] = []
    stretches: list[tuple[bytes, int, int]] = []  # device, from, until before

    def delete(self, batch: Batch) -> None:
        """Deletes them all in a batch."""
        for key in self.logins:
            batch.delete("logins", key)
        for device, start_us, end_us in self.stretches:
            start, end = timeline_key(device, start_us, 0), timeline_key(device, end_us, 0)
            batch.delete_range("timeline", start, end)


async def traces_of(store: Store, resolver: Resolver, nodes: Collection[bytes]) -> Traces:
    """Finds what these people left on devices of others. Lets other tasks run meanwhile."""
    traces, gone = Traces(), set(nodes)
    for device in resolver.seen_with(list(gone)):
        logins: list[Login] = []
        start, end = node_range(device)
        while rows := store.scan("logins", start, end, limit=LOGINS_READ):
            logins += [login_of(key) for key, _ in rows]
            traces.logins += [key for key, _ in rows if login_of(key)[1] in gone]
            start = rows[-1][0] + b"\x00"
            await trio.lowlevel.checkpoint()
        traces.stretches += [(device, *stretch) for stretch in stretches(logins, gone)]
    return traces


def stretches(logins: list[Login], people: Collection[bytes]) -> list[tuple[int, int]]:
    """When these people were on a device, by its sign-ins in time order.

    A sign-in lasts until the next. The first one reaches back for a session, as it does where
    events are attributed.
    """
    found: list[tuple[int, int]] = []
    since_us: int | None = None
    for place, (time_us, person) in enumerate(logins):
        if person in people:
            if since_us is None:
                since_us = time_us if place else max(0, time_us - SESSION_US)
        elif since_us is not None:
            found.append((since_us, time_us))
            since_us = None
    if since_us is not None:
        found.append((since_us, TIME_US_END))
    return found
