"""Merkle trees against the published vectors, the definitions of the RFC, and forgery."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.consent.merkle import (
    EMPTY_ROOT,
    Growing,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

# The eight leaves and what follows from them, as certificate-transparency's own tests have them.
RECORDS = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
_NODE_01 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
_NODE_23 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
_NODE_45 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
_NODE_67 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
_NODE_0123 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
_NODE_4567 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
_LEAF_0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
_LEAF_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
_LEAF_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
INCLUSIONS = (
    (0, 1, ()),
    (0, 8, (_LEAF_1, _NODE_23, _NODE_4567)),
    (5, 8, (_LEAF_4, _NODE_67, _NODE_0123)),
    (2, 3, (_NODE_01,)),
    (1, 5, (_LEAF_0, _NODE_23, _LEAF_4)),
)
CONSISTENCIES = (
    (1, 1, ()),
    (1, 8, (_LEAF_1, _NODE_23, _NODE_4567)),
    (6, 8, (_NODE_45, _NODE_67, _NODE_0123)),
    (2, 5, (_NODE_23, _LEAF_4)),
)
LEAVES = [leaf_hash(record) for record in RECORDS]


def many(count: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


# ------------------------------------------------- the definitions of RFC 6962, word for word


def _mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + _mth(leaves[:k]) + _mth(leaves[k:])).digest()


def _k(count: int) -> int:
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def _path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = _k(len(leaves))
    if m < k:
        return [*_path(m, leaves[:k]), _mth(leaves[k:])]
    return [*_path(m - k, leaves[k:]), _mth(leaves[:k])]


def _subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [_mth(leaves)]
    k = _k(len(leaves))
    if m <= k:
        return [*_subproof(m, leaves[:k], whole), _mth(leaves[k:])]
    return [*_subproof(m - k, leaves[k:], False), _mth(leaves[:k])]


# --------------------------------------------------------------------------------- the rules


def test_the_roots_are_those_that_are_published() -> None:
    tree = Growing()
    assert tree.root() == EMPTY_ROOT == sha256(b"").digest()
    for count, root in enumerate(ROOTS, 1):
        tree.append(LEAVES[count - 1])
        assert tree.root().hex() == root == root_of(LEAVES[:count]).hex()


@pytest.mark.parametrize(("index", "size", "path"), INCLUSIONS)
def test_inclusion_proofs_are_those_that_are_published(
    index: int, size: int, path: tuple[str, ...]
) -> None:
    proof = inclusion_proof(LEAVES[:size], index)
    assert tuple(one.hex() for one in proof) == path
    assert verify_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size - 1]))


@pytest.mark.parametrize(("old", "size", "path"), CONSISTENCIES)
def test_consistency_proofs_are_those_that_are_published(
    old: int, size: int, path: tuple[str, ...]
) -> None:
    proof = consistency_proof(LEAVES[:size], old)
    roots = bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[size - 1])
    assert tuple(one.hex() for one in proof) == path
    assert verify_consistency(old, size, *roots, proof)


@pytest.mark.parametrize("size", range(1, 36))
def test_every_proof_of_a_small_tree_is_that_of_the_definition_and_is_found_right(
    size: int,
) -> None:
    leaves = many(size)
    root = root_of(leaves)
    assert root == _mth(leaves)
    for index in range(size):
        proof = inclusion_proof(leaves, index)
        assert proof == _path(index, leaves)
        assert verify_inclusion(leaves[index], index, size, proof, root)
    for old in range(1, size + 1):
        proof = consistency_proof(leaves, old)
        assert proof == _subproof(old, leaves, True)
        assert verify_consistency(old, size, root_of(leaves[:old]), root, proof)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_other_leaf_place_size_root_or_proof_is_accepted(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 200))
    index = data.draw(st.integers(0, size - 1))
    leaves = many(size)
    root, proof = root_of(leaves), inclusion_proof(leaves, index)
    other = data.draw(st.integers(0, size - 1).filter(lambda place: place != index))
    assert not verify_inclusion(leaves[other], index, size, proof, root)
    assert not verify_inclusion(leaves[index], other, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, proof, leaf_hash(root))
    assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not verify_inclusion(leaves[index], index, size, proof[:-1], root)
    place = data.draw(st.integers(0, len(proof) - 1))
    wrong = [*proof[:place], leaf_hash(proof[place]), *proof[place + 1 :]]
    assert not verify_inclusion(leaves[index], index, size, wrong, root)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_tree_that_was_changed_is_accepted_as_the_same_one_grown(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 200))
    old = data.draw(st.integers(1, size - 1))
    leaves = many(size)
    old_root, root = root_of(leaves[:old]), root_of(leaves)
    changed = list(leaves)
    place = data.draw(st.integers(0, old - 1))
    changed[place] = leaf_hash(changed[place])
    proof = consistency_proof(changed, old)
    assert not verify_consistency(old, size, old_root, root_of(changed), proof)
    good = consistency_proof(leaves, old)
    assert verify_consistency(old, size, old_root, root, good)
    assert not verify_consistency(old, size, old_root, root, [*good, root])
    assert not verify_consistency(old, size, root, old_root, good)
    assert not verify_consistency(size, old, old_root, root, good)
    assert not verify_consistency(old, size, old_root, root, good[:-1])


def test_a_tree_goes_on_from_its_edge_alone() -> None:
    leaves = many(1_000)
    for size in (0, 1, 2, 3, 7, 8, 500, 999):
        whole = Growing()
        for leaf in leaves[:size]:
            whole.append(leaf)
        again = Growing(whole.size, whole.edge)
        assert len(again.edge) == size.bit_count()
        for leaf in leaves[size:]:
            again.append(leaf)
        assert again.root() == root_of(leaves)


def test_an_edge_that_does_not_fit_the_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a tree of 3 leaves has 2 hashes"):
        Growing(3, [bytes(32)])


def test_proofs_of_what_is_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="no leaf 3 among 3"):
        inclusion_proof(many(3), 3)
    with pytest.raises(ValueError, match="1 to 3 leaves, not 4"):
        consistency_proof(many(3), 4)
    with pytest.raises(ValueError, match="1 to 3 leaves, not 0"):
        consistency_proof(many(3), 0)
