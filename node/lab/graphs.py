"""Networks from files: which format it is shows in the first octets, never in the name.

A table of edges, Core Lightning's `listchannels` (with `listnodes` in a second file, or beside it),
LND's `describegraph`, and the `gossip_store` that Core Lightning and Rill write, plain or compressed
with xz or gzip. A directory is that of a running
node, Rill's or Core Lightning's, which is asked for what its gossip has told it.
"""

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path

import msgspec
import trio

from gossip.compact import BadGraph, CompactGraph
from gossip.imports import Malformed, from_core_lightning, from_lnd, from_table
from gossip.store_file import from_gossip_store, is_gossip_store
from node.daemon.rpc import SOCKET_NAME
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed

MOST_OCTETS = 1 << 30  # unpacked; LND's description of mainnet has some 60 MB

_XZ, _GZIP = b"\xfd7zXZ\0", b"\x1f\x8b"


class BadGraphFile(Exception):
    """A file that cannot be read as a network; `str()` says which, where, and why."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


def read_graph(paths: Sequence[Path]) -> CompactGraph:
    """The network in a file, or as a node knows it; a second file may hold Core Lightning's `listnodes`.

    Raises:
        BadGraphFile: it cannot be read, or is malformed.
    """
    first, *others = paths
    if first.is_dir():
        return _of_node(first)
    octets = _octets(first)
    nodes = _octets(others[0]) if others else None
    try:
        return _parsed(octets, nodes)
    except BadGraph as wrong:
        raise BadGraphFile(first, str(wrong)) from None


def _of_node(directory: Path) -> CompactGraph:
    # the socket lies in the directory of the node's network
    sockets = [directory / SOCKET_NAME, *sorted(directory.glob(f"*/{SOCKET_NAME}"))]
    client = NodeClient(next((path for path in sockets if path.exists()), sockets[0]).parent)

    async def ask() -> list[bytes]:
        return [msgspec.json.encode(await client.call(method)) for method in ("listchannels", "listnodes")]

    try:
        return from_core_lightning(*trio.run(ask))
    except (NodeUnreachable, CommandFailed, BadGraph) as wrong:
        raise BadGraphFile(directory, str(wrong)) from None


def _parsed(octets: bytes, nodes: bytes | None) -> CompactGraph:
    if is_gossip_store(octets):
        return from_gossip_store(octets)
    start = octets[:4096].lstrip()
    if not start.startswith((b"{", b"[")):
        return from_table(octets)
    if b'"edges"' in octets:
        return from_lnd(octets)
    if b'"channels"' in octets:
        return from_core_lightning(octets, nodes)
    raise Malformed(
        "", "this JSON holds neither the `channels` of listchannels nor the `edges` of describegraph"
    )


def _octets(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        if raw.startswith(_XZ):
            unpacking = lzma.LZMADecompressor(memlimit=MOST_OCTETS)
            octets = _bounded(path, unpacking.decompress(raw, MOST_OCTETS + 1))
            if not unpacking.eof:
                raise EOFError("it ends too early")
            return octets
        if raw.startswith(_GZIP):
            with gzip.open(path) as unpacked:
                return _bounded(path, unpacked.read(MOST_OCTETS + 1))
        return raw
    except OSError as wrong:
        raise BadGraphFile(path, wrong.strerror or str(wrong)) from None
    except (lzma.LZMAError, EOFError) as wrong:
        raise BadGraphFile(path, f"it cannot be unpacked: {wrong}") from None


def _bounded(path: Path, octets: bytes) -> bytes:
    if len(octets) > MOST_OCTETS:
        raise BadGraphFile(path, f"unpacked it has more than {MOST_OCTETS >> 20} MiB")
    return octets
