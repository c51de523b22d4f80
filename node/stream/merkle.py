"""The name of a content and of its chunks: the Merkle tree of BitTorrent v2 (BEP 52).

A file's pieces root is the SHA-256 Merkle root over its 16 KiB blocks, the last block hashed at
its true length, the missing leaves up to a power of two set to zero. A chunk is a subtree of
2^k blocks, so one chunk is checked against the root with a proof of a few hashes, and any v2
torrent tool computes the same root. A file no larger than a chunk is its own only chunk, and
its tree is only as high as the file needs.

The tree keeps one hash per chunk and the layers above; the blocks pass through and are forgotten.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

from msgspec import Struct

BLOCK_BYTES = 16384
MAX_CHUNK_BYTES = 16 * 1024 * 1024
MAX_LENGTH = 1 << 48
MAX_PROOF = 34
"""The hashes in the longest proof: 2^48 bytes in chunks of one block."""

_ZERO_LEAF = bytes(32)


class InvalidLayout(ValueError):
    """A length and a chunk size that name no content."""


class EmptyContent(InvalidLayout):
    """There is nothing to name: BEP 52 gives the empty file no root."""

    def __init__(self) -> None:
        super().__init__("an empty file has no pieces root")


class ContentTooLong(InvalidLayout):
    """More bytes than this node deals with."""

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(f"{length} bytes are more than {MAX_LENGTH}")


class WrongChunkSize(InvalidLayout):
    """A chunk must be a power of two of blocks, within bounds."""

    def __init__(self, chunk_size: int) -> None:
        self.chunk_size = chunk_size
        super().__init__(
            f"a chunk of {chunk_size} bytes is not a power of two of {BLOCK_BYTES} bytes, "
            f"from {BLOCK_BYTES} to {MAX_CHUNK_BYTES}"
        )


class WrongChunkLength(ValueError):
    """A chunk's bytes are more or fewer than its place in the content asks for."""

    def __init__(self, index: int, length: int, expected: int) -> None:
        self.index, self.length, self.expected = index, length, expected
        super().__init__(f"chunk {index} has {length} bytes, not {expected}")


class Layout(Struct, frozen=True, gc=False):
    """How a content of `length` bytes falls into chunks of `chunk_size` bytes."""

    length: int
    chunk_size: int

    def checked(self) -> "Layout":
        """This layout.

        Raises:
            InvalidLayout: no content has it.
        """
        if self.length < 1:
            raise EmptyContent
        if self.length > MAX_LENGTH:
            raise ContentTooLong(self.length)
        blocks, rest = divmod(self.chunk_size, BLOCK_BYTES)
        if rest or blocks < 1 or blocks & (blocks - 1) or self.chunk_size > MAX_CHUNK_BYTES:
            raise WrongChunkSize(self.chunk_size)
        return self

    @property
    def chunk_count(self) -> int:
        """The number of chunks, the last one perhaps shorter."""
        return -(-self.length // self.chunk_size)

    @property
    def chunk_height(self) -> int:
        """The layers between the blocks and a chunk's subtree hash."""
        blocks = -(-min(self.length, self.chunk_size) // BLOCK_BYTES)
        if self.length > self.chunk_size:
            blocks = self.chunk_size // BLOCK_BYTES
        return (blocks - 1).bit_length()

    @property
    def proof_length(self) -> int:
        """The hashes in every chunk's proof: the layers between its subtree hash and the root."""
        return (self.chunk_count - 1).bit_length()

    def offset(self, index: int) -> int:
        """Where a chunk begins in the content."""
        return index * self.chunk_size

    def chunk_bytes(self, index: int) -> int:
        """The length of a chunk."""
        return min(self.chunk_size, self.length - index * self.chunk_size)


class Tree(Struct, frozen=True):
    """The upper part of a content's tree: subtree hashes of the chunks first, the root last."""

    layout: Layout
    layers: tuple[tuple[bytes, ...], ...]

    @property
    def root(self) -> bytes:
        """The BEP 52 pieces root."""
        return self.layers[-1][0]

    def subtree_hash(self, index: int) -> bytes:
        """The hash that stands for a chunk."""
        return self.layers[0][index]

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The sibling at each layer on the way from a chunk to the root."""
        hashes, base = [], self.layout.chunk_height
        for level, layer in enumerate(self.layers[:-1]):
            sibling = (index >> level) ^ 1
            hashes.append(layer[sibling] if sibling < len(layer) else zero_subtree(base + level))
        return tuple(hashes)


def plant(layout: Layout, chunks: Iterable[bytes]) -> Tree:
    """The tree of a content whose chunks come one after another.

    Raises:
        InvalidLayout: no content has this layout.
        WrongChunkLength: a chunk is not as long as the layout says, or one is missing.
    """
    layout.checked()
    subtrees = tuple(subtree_hash(layout, index, chunk) for index, chunk in enumerate(chunks))
    return plant_subtrees(layout, subtrees)


def plant_subtrees(layout: Layout, subtrees: Sequence[bytes]) -> Tree:
    """The tree over the subtree hashes of all chunks.

    Raises:
        WrongChunkLength: one is missing.
    """
    if len(subtrees) != layout.chunk_count:
        raise WrongChunkLength(len(subtrees), 0, layout.chunk_bytes(len(subtrees)))
    layers = [tuple(subtrees)]
    for level in range(layout.proof_length):
        layers.append(tuple(parents(layers[-1], layout.chunk_height + level)))
    return Tree(layout, tuple(layers))


def subtree_hash(layout: Layout, index: int, chunk: bytes) -> bytes:
    """The hash that stands for a chunk with these bytes.

    Raises:
        WrongChunkLength: the chunk cannot have so many bytes.
    """
    expected = layout.chunk_bytes(index)
    if len(chunk) != expected or expected < 1:
        raise WrongChunkLength(index, len(chunk), expected)
    view = memoryview(chunk)
    layer = [sha256(view[at : at + BLOCK_BYTES]).digest() for at in range(0, expected, BLOCK_BYTES)]
    for level in range(layout.chunk_height):
        layer = parents(layer, level)
    return layer[0]


def is_proven(layout: Layout, root: bytes, index: int, subtree: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof leads from the subtree hash of the chunk at this index to the root."""
    if not 0 <= index < layout.chunk_count or len(proof) != layout.proof_length:
        return False
    climbed = subtree
    for level, sibling in enumerate(proof):
        is_right = index >> level & 1
        climbed = sha256(sibling + climbed if is_right else climbed + sibling).digest()
    return climbed == root


def parents(layer: Sequence[bytes], level: int) -> list[bytes]:
    """The layer above one whose hashes stand `level` layers over the blocks."""
    if len(layer) & 1:
        layer = [*layer, zero_subtree(level)]
    return [sha256(layer[at] + layer[at + 1]).digest() for at in range(0, len(layer), 2)]


@lru_cache(maxsize=64)
def zero_subtree(level: int) -> bytes:
    """The hash of a subtree of missing blocks."""
    if not level:
        return _ZERO_LEAF
    below = zero_subtree(level - 1)
    return sha256(below + below).digest()
