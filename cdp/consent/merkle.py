"""Merkle trees as RFC 6962, section 2.1, has them: roots, and proofs that need no trust. Pure.

A leaf is hashed with a 0 byte before it and an inner node with a 1, so that neither can be passed
off as the other. The tree over n leaves splits at the largest power of two below n, so a tree that
grew contains the tree that it was, and that can be shown in O(log n) hashes.

`Growing` keeps only the right edge: the roots of the full subtrees, one for each bit of the size.
Proofs are made from all the leaf hashes, and checked from nothing but roots.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(record: bytes) -> bytes:
    """The hash of one record as a leaf."""
    return sha256(b"\x00" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over its two children."""
    return sha256(b"\x01" + left + right).digest()


class Growing:
    """A tree that only grows. Holds O(log n) hashes; a leaf costs one node hash on average."""

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Iterable[bytes] = ()) -> None:
        self.size = size
        self._edge = list(edge)
        if len(self._edge) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} hashes on its edge")

    @property
    def edge(self) -> list[bytes]:
        """The roots of the full subtrees, the largest first: all that is needed to go on."""
        return list(self._edge)

    def append(self, leaf: bytes) -> None:
        """Adds a leaf hash: as in a binary counter, full subtrees of one size become one."""
        edge, carry = self._edge, self.size
        while carry & 1:
            leaf = node_hash(edge.pop(), leaf)
            carry >>= 1
        edge.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The tree head."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The tree head over these leaf hashes."""
    return _subtree(leaves, 0, len(leaves)) if leaves else EMPTY_ROOT


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of a leaf in the tree over all of `leaves` (RFC 6962, 2.1.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"there is no leaf {index} among {len(leaves)}")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_subtree(leaves, middle, high))
            high = middle
        else:
            path.append(_subtree(leaves, low, middle))
            low = middle
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """That the tree over all of `leaves` begins with the first `old_size` (RFC 6962, 2.1.2)."""
    if not 0 < old_size <= len(leaves):
        raise ValueError(f"the older tree has 1 to {len(leaves)} leaves, not {old_size}")
    path: list[bytes] = []
    low, high = 0, len(leaves)
    while old_size < high:
        middle = low + _split(high - low)
        if old_size <= middle:
            path.append(_subtree(leaves, middle, high))
            high = middle
        else:
            path.append(_subtree(leaves, low, middle))
            low = middle
    if low > 0:  # at 0 the older tree is itself a node of the newer: its root is known
        path.append(_subtree(leaves, low, high))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether a leaf stands at `index` in the tree of this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(step, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(
    old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the newer tree is the older one with leaves added (RFC 9162, 2.1.4.2)."""
    if not 0 < old_size <= size:
        return False
    if old_size == size:
        return not proof and old_root == root
    # Where the older tree is full, its root is the first node of the proof, and is left out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    place, last = old_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old_found = found = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old_found, found = node_hash(step, old_found), node_hash(step, found)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return last == 0 and old_found == old_root and found == root


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _subtree(leaves: Sequence[bytes], low: int, high: int) -> bytes:
    tree = Growing()
    for index in range(low, high):
        tree.append(leaves[index])
    return tree.root()
