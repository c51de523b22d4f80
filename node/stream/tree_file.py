"""A content's Merkle tree in a file: the hashes are read where they lie, whatever the content's size.

The file holds the layers one after another, the chunks' subtree hashes first and the root last, 32
bytes a hash. A film of 20 GB in chunks of 64 KiB has 300,000 chunks: 20 MB on disk, and nothing in
memory.
"""

import os
from collections.abc import AsyncIterator
from itertools import accumulate
from pathlib import Path

import trio

from node.stream.merkle import Layout, parents, subtree_hash, zero_subtree
from node.stream.ports import Source

HASH_BYTES = 32
_HASHES_AT_ONCE = 8192
_SLICE_BYTES = 1 << 20
"""How much of a content is hashed before other tasks get a turn."""


class WrongTreeFile(ValueError):
    """The file is not the tree of this content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is not the hash tree of its content")


class TreeFile:
    """A tree that was planted before; has the shape of `merkle.Tree`."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Open it.

        Raises:
            WrongTreeFile: it has another length than the layout asks for.
            OSError: it cannot be read.
        """
        self.layout, self.path = layout, path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        sizes = layer_sizes(layout)
        self._sizes, self._starts = sizes, [0, *accumulate(sizes)]
        if os.fstat(self._descriptor).st_size != self._starts[-1] * HASH_BYTES:
            self.close()
            raise WrongTreeFile(path)
        self.root = self._hash(len(sizes) - 1, 0)

    def close(self) -> None:
        os.close(self._descriptor)

    def subtree_hash(self, index: int) -> bytes:
        """The hash that stands for a chunk."""
        return self._hash(0, index)

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The sibling at each layer on the way from a chunk to the root."""
        hashes, base = [], self.layout.chunk_height
        for level, size in enumerate(self._sizes[:-1]):
            sibling = (index >> level) ^ 1
            hashes.append(self._hash(level, sibling) if sibling < size else zero_subtree(base + level))
        return tuple(hashes)

    def subtrees(self, first: int, count: int) -> bytes:
        """The hashes of some chunks, joined."""
        count = max(0, min(count, self._sizes[0] - first))
        return os.pread(self._descriptor, count * HASH_BYTES, first * HASH_BYTES)

    def _hash(self, level: int, place: int) -> bytes:
        found = os.pread(self._descriptor, HASH_BYTES, (self._starts[level] + place) * HASH_BYTES)
        if len(found) != HASH_BYTES:
            raise WrongTreeFile(self.path)
        return found


def layer_sizes(layout: Layout) -> list[int]:
    """The number of hashes in each layer, those of the chunks first."""
    sizes = [layout.chunk_count]
    while len(sizes) <= layout.proof_length:
        sizes.append(-(-sizes[-1] // 2))
    return sizes


async def plant_file(path: Path, source: Source, layout: Layout) -> TreeFile:
    """Read a content from end to end and write its tree.

    Raises:
        WrongChunkLength: the content became shorter meanwhile.
        OSError: the content cannot be read, or the tree not be written.
    """
    with path.open("w+b") as file:
        async for hashes in _subtrees(source, layout):
            file.write(hashes)
        file.flush()
        start = 0
        for level, size in enumerate(layer_sizes(layout)[:-1]):
            await _write_parents(file.fileno(), start, size, layout.chunk_height + level)
            start += size
        os.fsync(file.fileno())
    return TreeFile(path, layout)


async def _subtrees(source: Source, layout: Layout) -> AsyncIterator[bytes]:
    since_turn = 0
    for index in range(layout.chunk_count):
        chunk = source.read(layout.offset(index), layout.chunk_bytes(index))
        yield subtree_hash(layout, index, chunk)
        since_turn += len(chunk)
        if since_turn >= _SLICE_BYTES:
            since_turn = 0
            await trio.lowlevel.checkpoint()


async def _write_parents(descriptor: int, start: int, size: int, level: int) -> None:
    """Append the layer above one that begins at hash `start` and stands `level` over the blocks."""
    for first in range(0, size, _HASHES_AT_ONCE):
        count = min(_HASHES_AT_ONCE, size - first)
        raw = os.pread(descriptor, count * HASH_BYTES, (start + first) * HASH_BYTES)
        below = [raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES)]
        above = b"".join(parents(below, level))
        os.pwrite(descriptor, above, (start + size + first // 2) * HASH_BYTES)
        await trio.lowlevel.checkpoint()
