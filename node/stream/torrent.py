"""A BitTorrent v2 metainfo file (BEP 52) for one file: the same root, for those who share it otherwise.

A piece is one of our chunks, so the piece layer is the lowest layer of the content's tree.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from node.stream.tree_file import TreeFile

_Value: TypeAlias = "int | bytes | Mapping[bytes, _Value]"


def torrent_of(name: str, tree: TreeFile) -> bytes:
    """The metainfo of a file with this name."""
    layout = tree.layout
    file: _Value = {b"": {b"length": layout.length, b"pieces root": tree.root}}
    meta: dict[bytes, _Value] = {
        b"info": {
            b"file tree": {name.encode(): file},
            b"meta version": 2,
            b"name": name.encode(),
            b"piece length": layout.chunk_size,
        },
        # a file of one piece has no layer: its root is the piece's own hash
        b"piece layers": (
            {tree.root: tree.subtrees(0, layout.chunk_count)} if layout.chunk_count > 1 else {}
        ),
    }
    return bencode(meta)


def write_torrent(path: Path, name: str, tree: TreeFile) -> None:
    """Write the metainfo file; raises OSError."""
    path.write_bytes(torrent_of(name, tree))


def bencode(value: _Value) -> bytes:
    """A value in BitTorrent's encoding, the keys of a dictionary in order (BEP 3)."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"
