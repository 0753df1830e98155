"""Whose key file it is, and how it passes from one master key to the next.

At every start the file's master key is compared with the one that is configured. Where it is one of
the previous ones, every data key is wrapped anew into a second file, which then takes the first
one's name; the first is overwritten. A crash at any step leaves one whole file, and the next start
goes on. Data keys stay the same, so nothing that is sealed is touched.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from cdp._matcher import Sealer, Tampered
from cdp.errors import ConfigError, StoreDamaged
from cdp.storage.keyfile import MASTER_ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdp.storage.keyfile import KeyFile
    from cdp.storage.store import Store

SLOTS_MARK: Final = b"keys:used"  # in `meta`: see `read_mark`
_MARK: Final = struct.Struct(">QQ")
SLOTS_AT_ONCE: Final = 8_192  # 2 ms of the sealer, which others wait for


def master_id(master: bytes) -> bytes:
    """What tells one master key from another without telling anything about it."""
    return blake2b(
        b"id", key=master, person=b"cdp master key", digest_size=MASTER_ID_BYTES
    ).digest()


def claim(
    keys: KeyFile, store: Store, *, master: bytes, previous: Sequence[bytes], seed: bytes
) -> bool:
    """Makes the key file one of this master key; returns whether its keys were wrapped anew.

    Raises:
        ConfigError: neither this master key nor a previous one wraps it.
        StoreDamaged: it is missing, or older than the store, or a slot was changed.
    """
    used_count, _ = read_mark(store)
    if keys.count < used_count:
        raise StoreDamaged(
            f"the key file has {keys.count} slots, and the store uses {used_count}: it is missing "
            "or older than the store; restore its last copy to keys/slots in data_dir"
        )
    if not keys.master_id:
        keys.replace(master_id(master), 1, ())
        return False
    if keys.master_id == master_id(master):
        return False
    _rewrap(keys, master, _master_of(keys, previous), seed)
    return True


def read_mark(store: Store) -> tuple[int, int]:
    """Below which number every slot lies that people have, and which batch said so last."""
    return _MARK.unpack(store.get("meta", SLOTS_MARK) or bytes(_MARK.size))


def mark_of(used_count: int, serial: int) -> bytes:
    """What a batch that gives slots to people says; no two batches have the same serial."""
    return _MARK.pack(used_count, serial)


def chunks(keys: KeyFile) -> Iterator[tuple[int, bytes]]:
    """All slots, some megabytes at a time, each part with the number of its first slot."""
    for first in range(0, keys.count, SLOTS_AT_ONCE):
        numbers = range(first, min(first + SLOTS_AT_ONCE, keys.count))
        yield first, b"".join(keys.read(numbers))


def _master_of(keys: KeyFile, previous: Sequence[bytes]) -> bytes:
    for master in previous:
        if keys.master_id == master_id(master):
            return master
    raise ConfigError(
        "[keys] master: the key file keys/slots is wrapped under another master key; "
        "configure that one again, or name it in [keys] previous to have it wrapped anew "
        "(without [keys] master the master key is derived from identity.key)"
    )


def _rewrap(keys: KeyFile, master: bytes, previous: bytes, seed: bytes) -> None:
    epoch = keys.epoch + 1
    sealer = Sealer(master, epoch, blake2b(seed, person=b"cdp rewrap", digest_size=32).digest(), 1)
    try:
        anew = (sealer.rewrap(previous, first, part) for first, part in chunks(keys))
        keys.replace(master_id(master), epoch, anew)
    except Tampered as error:
        raise StoreDamaged(
            f"wrapping keys/slots anew: {error}; restore the key file from its last copy"
        ) from error
