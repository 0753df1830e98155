"""Identifiers: `(namespace, value)`, what a person is known by.

A node is the keyed 128-bit hash of an identifier. Keys in the store are nodes, never raw values;
a profile's id is the node of its founder, so every profile id ever issued stays resolvable.
"""

from __future__ import annotations

from typing import Final, NewType

import msgspec

Node = NewType("Node", bytes)  # 16 bytes
ProfileId = NewType("ProfileId", bytes)  # 16 bytes: the node of the profile's founder

NODE_BYTES: Final = 16
NO_NODE: Final = Node(b"")

# The code of a namespace is its place in this list; codes are stored, so only ever append.
NAMESPACES: Final = (
    "user_id",
    "email",
    "phone",
    "crm_id",
    "device_id",
    "ad_id",
    "anonymous_id",
    "email_canonical",
    "click_id",
    "external_id",
)
NAMESPACE_CODE: Final = {name: code for code, name in enumerate(NAMESPACES)}


class Identifier(msgspec.Struct, frozen=True, array_like=True, repr_omit_defaults=True):
    """One thing that a person is known by. Its repr never shows the value."""

    namespace: str
    value: str

    def __repr__(self) -> str:
        return f"Identifier({self.namespace}:…)"


def format_profile_id(profile_id: bytes) -> str:
    """A profile id as people see it: 32 hexadecimal digits."""
    return profile_id.hex()


def parse_profile_id(text: str) -> ProfileId | None:
    """A profile id from its text; None where the text is not one."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return ProfileId(raw) if len(raw) == NODE_BYTES else None
