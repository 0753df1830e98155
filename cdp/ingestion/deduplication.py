"""An event counts once per `messageId`, however often it is sent, for the window of the limits.

A row in `seen` remembers when each id was received and where its event stands, under a keyed hash:
raw ids are personal data when senders put e-mail addresses into them. The scope is all sources
together, as retries may come through another key. A row leaves with its event, when retention
cuts the log, and retention never cuts inside the window.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp.storage.store import Batch

KEY_BYTES: Final = 16


class MessageKeys:
    """The keyed hash of message ids."""

    __slots__ = ("_base",)

    def __init__(self, key: bytes) -> None:
        self._base = blake2b(digest_size=KEY_BYTES, key=key[:64])

    def of(self, message_id: str) -> bytes:
        """The 16 bytes that stand for a message id in `seen` and `messages`."""
        digest = self._base.copy()
        digest.update(message_id.encode())
        return digest.digest()


def within_window(row: bytes, received_at_us: int, window_us: int) -> bool:
    """Whether a row of `seen` makes an event received now a duplicate."""
    return received_at_us - int.from_bytes(row[:8], "big") <= window_us


def remember(batch: Batch, fresh: dict[bytes, bytes], first_offset: int) -> None:
    """Adds rows for new events: `fresh` maps a key to its received_at, in the order of the log."""
    put = batch.put
    for offset, (key, received) in enumerate(fresh.items(), first_offset):
        put("seen", key, received + offset.to_bytes(8, "big"))


def offset_in(row: bytes) -> int:
    """The place in the event log of the event that a row of `seen` remembers."""
    return int.from_bytes(row[8:16], "big")
