"""What the log writer needs of identity, of consent and of the keys: only these verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from cdp.domain.consent import Statement
    from cdp.storage.store import Batch


class Namer(Protocol):
    """Identifiers to nodes: keyed hashes of those that can tell people apart."""

    def nodes(self, named: Sequence[Sequence[tuple[int, str]]]) -> list[list[bytes]]:
        """The usable ones of each, in order: the first is the leaf; empty where there is none."""
        ...


class Suppressed(Protocol):
    """Whom nothing may be stored about."""

    nodes: set[bytes]

    def any_of(self, nodes: Iterable[bytes]) -> bool: ...


class Ledger(Protocol):
    """What people said about purposes. Its effects in memory are undone by `forget_unwritten`."""

    @property
    def head(self) -> int:
        """The sequence number of the next record."""
        ...

    def note(
        self,
        batch: Batch,
        nodes: Sequence[bytes],
        statement: Statement,
        said_at_us: tuple[int, int] | None = None,
        *,
        verified: Collection[bytes] = (),
    ) -> int:
        """Records a statement about these nodes; `verified` are those that a login knows.

        `said_at_us` is when it was said and received, where the statement is one of many.
        """
        ...

    def forget_unwritten(self) -> None: ...


class RowSeal(Protocol):
    """Seals rows under keys of their own; what a destroyed key sealed opens to nothing."""

    def seal_row(self, batch: Batch, subject: bytes, record: bytes, context: bytes) -> bytes: ...

    def open_row(self, sealed: bytes, context: bytes) -> bytes: ...

    def forget_unwritten(self) -> None: ...


class RegimeLike(Protocol):
    """The rules of a legal order, as a stamp names them."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...
