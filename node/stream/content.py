"""A content on sale: where its bytes are, the tree that proves them, and the manifest that offers it."""

from typing import Protocol

import msgspec
import trio

from node.stream.manifest import Manifest, digest_of, read_manifest, signed, unsigned
from node.stream.merkle import Layout, Tree, WrongChunkLength, plant_subtrees, subtree_hash
from node.stream.ports import Node, Source
from wire.units import Msat

_SLICE_BYTES = 1 << 20
"""How much of a content is hashed before other tasks get a turn."""


class ContentChanged(Exception):
    """The source no longer holds what was published: selling it would be fraud."""

    def __init__(self) -> None:
        super().__init__("the file is not what it was when it was put on sale")


class NotHereYet(Exception):
    """The seller itself has not bought this chunk so far."""


class Proofs(Protocol):
    """The tree of a content, wherever its hashes are kept. Raises NotHereYet for what is not known."""

    @property
    def layout(self) -> Layout: ...
    @property
    def root(self) -> bytes: ...

    def subtree_hash(self, index: int) -> bytes:
        """The hash that stands for a chunk."""
        ...

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The sibling at each layer on the way from a chunk to the root."""
        ...


class Content(msgspec.Struct, frozen=True):
    """A published content."""

    source: Source
    tree: Proofs
    manifest: Manifest

    def chunk(self, index: int) -> bytes:
        """The bytes of a chunk, which are still those that were published.

        Raises:
            ContentChanged, NotHereYet, OSError.
        """
        layout, expected = self.tree.layout, self.tree.subtree_hash(index)
        chunk = self.source.read(layout.offset(index), layout.chunk_bytes(index))
        try:
            if subtree_hash(layout, index, chunk) == expected:
                return chunk
        except WrongChunkLength:
            pass
        raise ContentChanged


def manifest_of(
    node: Node, root: bytes, layout: Layout, price_msat: Msat, title: str, free_chunks: int = 0
) -> Manifest:
    """A manifest of ours, signed.

    Raises:
        InvalidLayout: no content has this layout.
        BadManifestRecord: the price or the title is out of range.
    """
    records = unsigned(node.node_id, root, layout, price_msat, title, free_chunks)
    return read_manifest(signed(records, node.sign_digest(digest_of(records))))


async def plant_source(source: Source, layout: Layout) -> Tree:
    """Read a content from end to end, with turns for other tasks; its tree in memory.

    Raises:
        ContentChanged: the content became shorter meanwhile.
        OSError: it cannot be read.
    """
    subtrees, since_turn = [], 0
    for index in range(layout.chunk_count):
        chunk = source.read(layout.offset(index), layout.chunk_bytes(index))
        try:
            subtrees.append(subtree_hash(layout, index, chunk))
        except WrongChunkLength:
            raise ContentChanged from None
        since_turn += len(chunk)
        if since_turn >= _SLICE_BYTES:
            since_turn = 0
            await trio.lowlevel.checkpoint()
    return plant_subtrees(layout, subtrees)
