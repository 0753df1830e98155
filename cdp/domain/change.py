"""What the logs after the event log carry.

Change log: what identity decided, in event-log order. Activation log: what destinations may need
to hear about. Both refer to the event by its offset, so a body is stored (and later erased) once.
"""

from __future__ import annotations

from typing import Final

import msgspec

# kinds of a change and of an activation
RESOLVED: Final = 0  # this event is about that profile
MERGED: Final = 1  # `profile_id` took in `other_profile_id`
SPLIT: Final = 2  # `other_profile_id` left `profile_id`
RENAMED: Final = 3  # the profile was `other_profile_id`, is now `profile_id`
# of a change only
INTRODUCED: Final = 4  # `leaf` was named for the first time, and belongs to `profile_id`
CONSENTED: Final = 5  # what was said about the purposes of `nodes` took effect
# of an activation only
ENTERED: Final = 6  # the profile is in the audience `definition` from now on
EXITED: Final = 7  # it no longer is
COMPUTED: Final = 8  # the computed trait `definition` of the profile has another value


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One decision of identity. `cause_offset` is the event (its offset in the event log).

    `leaf` is the node under which the event's facts are stored; empty where the event named
    nobody that can be resolved, and then `profile_id` is empty too.

    `by_erasure`: somebody else was erased, and this followed. The cause then only says after
    which event that was. No destination is told: no event and no consent stands behind it.

    `person` is the node of whoever was signed in, where an event is of a shared device. `nodes`
    are those that are now in `other_profile_id` after a split, or of whom consent was heard.
    """

    kind: int
    cause_offset: int
    profile_id: bytes
    leaf: bytes = b""
    other_profile_id: bytes = b""
    by_erasure: bool = False
    person: bytes = b""
    nodes: tuple[bytes, ...] = ()


class Activation(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing that each destination may be owed. Same meaning of the fields as in `Change`.

    `definition` names the audience or the computed trait. Its cause is the event that made it so,
    or, where time did, the last event that had a part in it.
    """

    kind: int
    cause_offset: int
    profile_id: bytes
    other_profile_id: bytes = b""
    leaf: bytes = b""
    definition: str = ""


_encoder = msgspec.msgpack.Encoder()

encode = _encoder.encode
decode_change = msgspec.msgpack.Decoder(Change).decode
decode_activation = msgspec.msgpack.Decoder(Activation).decode
