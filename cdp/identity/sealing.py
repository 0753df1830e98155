"""Rows of identity that are sealed for the person whom they are about.

A row lies under its node, and is sealed for its node as the place, with the key of a subject: a
fragment with its own node's, the value of an identifier with that of the leaf of the event that
named it first. A row whose key is destroyed counts as absent. Without a vault rows are plain.

Whose key is destroyed when is not decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.storage.store import Batch, Store


class Vault(Protocol):
    """Seals for subjects, and opens as long as their keys are there. See `cdp.storage.vault`."""

    def slots(self, batch: Batch, subjects: Sequence[bytes]) -> list[int]: ...
    def seal(
        self, slots: Sequence[int], records: Sequence[bytes], contexts: Sequence[bytes]
    ) -> list[bytes]: ...
    def open(self, sealed: Sequence[bytes], contexts: Sequence[bytes]) -> list[bytes]: ...
    def forget_unwritten(self) -> None: ...


class SealedRows:
    """Rows by node in families of a store, each sealed where there is a vault."""

    def __init__(self, store: Store, vault: Vault | None) -> None:
        self._store = store
        self._vault = vault

    def get(self, family: str, node: bytes) -> bytes | None:
        """The row of a node; None where there is none, or its key is destroyed."""
        return self.get_many(family, [node])[0]

    def get_many(self, family: str, nodes: Sequence[bytes]) -> list[bytes | None]:
        """The rows of nodes; None where there is none, or its key is destroyed."""
        if not nodes:
            return []
        rows = self._store.get_many(family, nodes)
        vault = self._vault
        if vault is None:
            return rows
        places = [place for place, row in enumerate(rows) if row is not None]
        opened = vault.open(
            [row for row in rows if row is not None], [nodes[place] for place in places]
        )
        for place, record in zip(places, opened, strict=True):
            rows[place] = record or None
        return rows


class SealedPuts:
    """Rows that a batch is to have: gathered, so that they are sealed in one go."""

    def __init__(self) -> None:
        self._families: list[str] = []
        self._subjects: list[bytes] = []
        self._nodes: list[bytes] = []
        self._records: list[bytes] = []

    def put(self, family: str, subject: bytes, node: bytes, record: bytes) -> None:
        """Adds a row of a node, to be sealed with the key of a subject."""
        self._families.append(family)
        self._subjects.append(subject)
        self._nodes.append(node)
        self._records.append(record)

    def write(self, batch: Batch, vault: Vault | None) -> None:
        """Puts every row into the batch."""
        records = self._records
        if vault is not None and records:
            records = vault.seal(vault.slots(batch, self._subjects), records, self._nodes)
        put = batch.put
        for family, node, record in zip(self._families, self._nodes, records, strict=True):
            put(family, node, record)
