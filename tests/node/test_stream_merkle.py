"""The pieces root of BEP 52, chunks as subtrees, and their proofs."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.stream.merkle import (
    BLOCK_BYTES,
    MAX_CHUNK_BYTES,
    ContentTooLong,
    EmptyContent,
    Layout,
    Tree,
    WrongChunkLength,
    WrongChunkSize,
    is_proven,
    plant,
    subtree_hash,
)


def content_of(length: int) -> bytes:
    """Bytes that differ in every block."""
    return b"".join((at // 8).to_bytes(8, "big") for at in range(0, length + 8, 8))[:length]


def chunks_of(content: bytes, chunk_size: int) -> list[bytes]:
    return [content[at : at + chunk_size] for at in range(0, len(content), chunk_size)]


def tree_of(content: bytes, chunk_size: int) -> Tree:
    return plant(Layout(len(content), chunk_size), chunks_of(content, chunk_size))


def pieces_root(content: bytes) -> bytes:
    """BEP 52 word for word: all leaves, padded with zeros to a power of two, then layer by layer."""
    leaves = [sha256(content[at : at + BLOCK_BYTES]).digest() for at in range(0, len(content), BLOCK_BYTES)]
    while len(leaves) & (len(leaves) - 1):
        leaves.append(bytes(32))
    while len(leaves) > 1:
        leaves = [sha256(leaves[at] + leaves[at + 1]).digest() for at in range(0, len(leaves), 2)]
    return leaves[0]


def test_a_file_of_one_block_is_named_by_the_hash_of_its_bytes() -> None:
    assert tree_of(b"x", BLOCK_BYTES).root == sha256(b"x").digest()
    assert tree_of(b"x", 4 * BLOCK_BYTES).root == sha256(b"x").digest()
    full = content_of(BLOCK_BYTES)
    assert tree_of(full, BLOCK_BYTES).root == sha256(full).digest()


def test_two_blocks_are_named_by_the_hash_of_their_hashes() -> None:
    content = content_of(BLOCK_BYTES + 1)
    left, right = sha256(content[:BLOCK_BYTES]).digest(), sha256(content[BLOCK_BYTES:]).digest()
    assert tree_of(content, BLOCK_BYTES).root == sha256(left + right).digest()


def test_missing_leaves_are_zero() -> None:
    content = content_of(3 * BLOCK_BYTES)
    one, two, three = (sha256(block).digest() for block in chunks_of(content, BLOCK_BYTES))
    left, right = sha256(one + two).digest(), sha256(three + bytes(32)).digest()
    assert tree_of(content, BLOCK_BYTES).root == sha256(left + right).digest()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12 * BLOCK_BYTES), st.integers(0, 4))
def test_the_root_depends_on_the_content_alone_and_every_chunk_proves_its_place(length: int, k: int) -> None:
    content, layout = content_of(length), Layout(length, BLOCK_BYTES << k)
    tree = tree_of(content, layout.chunk_size)
    assert tree.root == pieces_root(content)
    for index in range(layout.chunk_count):
        proof = tree.proof(index)
        assert is_proven(layout, tree.root, index, tree.subtree_hash(index), proof)
        assert not is_proven(layout, tree.root, index ^ 1, tree.subtree_hash(index), proof) or not proof


def test_a_proof_holds_for_its_chunk_and_nothing_else() -> None:
    layout = Layout(5 * BLOCK_BYTES, BLOCK_BYTES)
    tree = tree_of(content_of(layout.length), BLOCK_BYTES)
    subtree, proof = tree.subtree_hash(2), tree.proof(2)
    assert len(proof) == layout.proof_length == 3
    assert is_proven(layout, tree.root, 2, subtree, proof)
    assert not is_proven(layout, tree.root, 3, subtree, proof)
    assert not is_proven(layout, tree.root, 10, subtree, proof)
    assert not is_proven(layout, tree.root, -6, subtree, proof)
    assert not is_proven(layout, bytes(32), 2, subtree, proof)
    assert not is_proven(layout, tree.root, 2, bytes(32), proof)
    assert not is_proven(layout, tree.root, 2, subtree, proof[:-1])
    assert not is_proven(layout, tree.root, 2, subtree, (*proof, bytes(32)))
    assert not is_proven(layout, tree.root, 2, subtree, (bytes(32), *proof[1:]))


def test_an_inner_node_is_no_chunk() -> None:
    layout = Layout(4 * BLOCK_BYTES, BLOCK_BYTES)
    tree = tree_of(content_of(layout.length), BLOCK_BYTES)
    assert not is_proven(layout, tree.root, 0, tree.layers[1][0], (tree.layers[1][1],))


def test_the_empty_file_has_no_root() -> None:
    with pytest.raises(EmptyContent):
        plant(Layout(0, BLOCK_BYTES), [])


@pytest.mark.parametrize("chunk_size", [0, 1, BLOCK_BYTES - 1, 3 * BLOCK_BYTES, 2 * MAX_CHUNK_BYTES])
def test_a_chunk_is_a_power_of_two_of_blocks(chunk_size: int) -> None:
    with pytest.raises(WrongChunkSize):
        Layout(1, chunk_size).checked()


def test_lengths_are_bounded() -> None:
    with pytest.raises(ContentTooLong):
        Layout(2**60, BLOCK_BYTES).checked()


def test_a_chunk_of_another_length_has_no_place() -> None:
    layout = Layout(BLOCK_BYTES + 1, BLOCK_BYTES)
    with pytest.raises(WrongChunkLength):
        subtree_hash(layout, 1, b"xy")
    with pytest.raises(WrongChunkLength):
        plant(layout, [content_of(BLOCK_BYTES)])
