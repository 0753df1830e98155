"""The rows that identity keeps, and their keys. Pure.

    identifiers  node                              -> Identifier (the only place of the raw value)
    fragments    node                              -> Fragment
    timeline     leaf node + event time + offset   -> code of the event's type
    logins       device node + event time + person -> empty

Times in keys are microseconds as unsigned 64-bit; a time before 1970 is kept as 0 there, and as
it is in the event. Deciding what a row means is not done here.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from cdp.clock import MINUTE_US
from cdp.domain.event import EVENT_TYPES
from cdp.domain.identifier import NODE_BYTES, Identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.storage.store import Store

_TWO_U64: Final = Struct(">QQ")
_U64: Final = Struct(">Q")

TYPE_CODES: Final = {name: bytes((code,)) for code, name in enumerate(EVENT_TYPES)}

SESSION_US: Final = 30 * MINUTE_US  # the resolver's: how long before a sign-in it still counts
SESSION_LOGINS_MAX: Final = 4_096

timeline_tail = _TWO_U64.pack
login_time = _U64.pack

encode_identifier = msgspec.msgpack.Encoder().encode
decode_identifier = msgspec.msgpack.Decoder(Identifier).decode

Login = tuple[int, bytes]  # time, person's node


class Moment(NamedTuple):
    """One row of a timeline: an event's place in time and in the log. Orders by both."""

    time_us: int
    offset: int
    leaf: bytes
    type: str


def timeline_key(leaf: bytes, time_us: int, offset: int) -> bytes:
    """The key of an event in the timeline of its leaf."""
    return leaf + _TWO_U64.pack(max(0, time_us), offset)


def node_range(node: bytes) -> tuple[bytes, bytes]:
    """From which key to before which all rows of a node lie, where keys begin with the node."""
    after = int.from_bytes(node, "big") + 1
    if after >> 8 * NODE_BYTES:
        return node, node + b"\xff" * NODE_BYTES * 2  # behind every key of the greatest node
    return node, after.to_bytes(NODE_BYTES, "big")


def moment_of(key: bytes, value: bytes) -> Moment:
    """What a timeline row says."""
    time_us, offset = _TWO_U64.unpack_from(key, NODE_BYTES)
    return Moment(time_us, offset, key[:NODE_BYTES], EVENT_TYPES[value[0]])


def login_key(device: bytes, time_us: int, person: bytes) -> bytes:
    """The key of: this person was signed in on this device then."""
    return device + _U64.pack(max(0, time_us)) + person


def logins_near(store: Store, device: bytes, time_us: int) -> list[Login]:
    """The sign-ins that say who had a device at a time, in time order.

    The last one by then says it alone. Only where there is none do those of the session after it
    count, all of them: who else signed in matters.
    """
    after = device + _U64.pack(time_us + 1)
    rows = store.scan("logins", device, after, limit=1, reverse=True)
    if not rows:
        end = device + _U64.pack(time_us + SESSION_US + 1)
        rows = store.scan("logins", after, end, limit=SESSION_LOGINS_MAX)
    return [login_of(key) for key, _ in rows]


def login_of(key: bytes) -> Login:
    """What a login row says."""
    end = NODE_BYTES + _U64.size
    return (_U64.unpack_from(key, NODE_BYTES)[0], key[end:])


def merged(stored: Sequence[Login], fresh: Sequence[Login]) -> list[Login]:
    """Stored sign-ins and those of the batch in hand, in time order, each once."""
    return sorted({*stored, *fresh})
