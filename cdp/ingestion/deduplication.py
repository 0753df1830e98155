"""An event counts once per `messageId`, however often it is sent, for the window of the limits.

A row in `seen` remembers when each id was stored, under a keyed hash: raw ids are personal data
when senders put e-mail addresses into them. The scope is all sources together, as retries may
come through another key. Rows leave by `seen_expiry`, one row of which lists the keys of one
write, so that expiry never scans what is still wanted.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cdp.storage.store import Batch, Store

KEY_BYTES: Final = 16
MARGIN_US: Final = 60_000_000  # a request may have waited this long since its received_at

_EXPIRED_ROWS_MAX: Final = 64


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


def within_window(stored: bytes | None, received_at_us: int, window_us: int) -> bool:
    """Whether a row of `seen` makes an event received now a duplicate."""
    return stored is not None and received_at_us - int.from_bytes(stored, "big") <= window_us


def remember(
    batch: Batch, keys: dict[bytes, bytes], first_offset: int, received_at_us: int
) -> None:
    """Adds rows for new events: `keys` maps a key to its received_at, in order of the log.

    `received_at_us` is the latest of them.
    """
    if not keys:
        return
    put = batch.put
    for offset, (key, received) in enumerate(keys.items(), first_offset):
        put("seen", key, received)
        put("messages", key, offset.to_bytes(8, "big"))
    row = received_at_us.to_bytes(8, "big") + first_offset.to_bytes(8, "big")
    put("seen_expiry", row, b"".join(keys))


def expire_seen(
    store: Store, batch: Batch, now_us: int, window_us: int, rows_max: int = _EXPIRED_ROWS_MAX
) -> int:
    """Forgets ids that are older than the window; returns how many. Call again while it is not 0.

    At most `rows_max` writes' worth a call. An id that was stored again since stays.
    """
    end = max(0, now_us - window_us - MARGIN_US).to_bytes(8, "big")
    rows = store.scan("seen_expiry", b"", end, limit=rows_max)
    return sum(_expire_row(store, batch, row, joined) for row, joined in rows)


def _expire_row(store: Store, batch: Batch, row: bytes, joined: bytes) -> int:
    keys = [joined[at : at + KEY_BYTES] for at in range(0, len(joined), KEY_BYTES)]
    latest = row[:8]
    for key, stored in zip(keys, store.get_many("seen", keys), strict=True):
        if stored is not None and stored <= latest:
            batch.delete("seen", key)
    batch.delete("seen_expiry", row)
    return len(keys)
