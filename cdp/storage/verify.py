"""Checks a store for damage: its logs block by block, every row, and the keys of everybody.

Logs are checked as they lie, sealed: no key is needed to tell whether they are whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cdp.errors import StorageError, StoreDamaged
from cdp.storage.block import Header, check_block
from cdp.storage.store import FAMILIES
from cdp.storage.vault import SLOT_NUMBER_BYTES, SUBJECT_BYTES, slots_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdp.storage.store import Store
    from cdp.storage.vault import Vault

LOGS: Final = ("events", "changes", "activations")
TAIL_BLOCKS: Final = 16


def verify(store: Store) -> list[str]:
    """Reads everything. One line for each family that is damaged, none where all is well.

    Takes as long as reading all files takes; for `cdp verify`, not for the event loop.
    """
    findings = []
    for family in FAMILIES:
        try:
            _verify_family(store, family)
        except StorageError as error:
            findings.append(str(error))
    return findings


def verify_keys(store: Store, vault: Vault) -> list[str]:
    """Sees that every slot is whole and that everybody's slots are there. One line a finding."""
    findings = []
    try:
        slots_count = sum(vault.survey())
    except StorageError as error:
        return [str(error)]
    for subject, row in store.items("subjects"):
        slots = slots_in(row)
        if len(subject) != SUBJECT_BYTES or len(row) % SLOT_NUMBER_BYTES or not slots:
            findings.append(f"subjects: the row {subject.hex()} is not one; restore a checkpoint")
        elif max(slots) >= slots_count:
            findings.append(
                f"subjects: {subject.hex()} has slot {max(slots)}, the key file ends before it; "
                "restore the key file from its last copy"
            )
    return findings


def verify_tails(store: Store, blocks: int = TAIL_BLOCKS) -> None:
    """Checks the last blocks of each log, as every opening does.

    Raises:
        StoreDamaged: a block is not what was written, or the one before it is missing.
    """
    for family in LOGS:
        rows = store.scan(family, limit=blocks, reverse=True)
        _check_chain(family, reversed(rows))


def _verify_family(store: Store, family: str) -> None:
    if family in LOGS:
        _check_chain(family, store.items(family))
    else:
        for _ in store.items(family):  # the disk's own checksums are checked by reading
            pass


def _check_chain(family: str, rows: Iterable[tuple[bytes, bytes]]) -> None:
    last: Header | None = None
    for key, value in rows:
        header = check_block(family, key, value)
        if last is not None and header.previous != last.checksum:
            place = int.from_bytes(key, "big")
            raise StoreDamaged(
                f"log {family}: the block before offset {place} is missing; "
                "restore the last checkpoint"
            )
        last = header
