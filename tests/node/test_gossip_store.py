"""The gossip_store that a node writes is read back as the network that it knows."""

from pathlib import Path

import pytest
import trio

from gossip.compact import compact
from gossip.exports import to_table
from node.daemon.gossip_file import FILE_NAME, GossipFile
from node.lab.graphs import BadGraphFile, read_graph
from tests.node.line import line, until


async def test_a_nodes_own_store_holds_its_network(tmp_path: Path) -> None:
    async with line(tmp_path / "net", "alice bob carol") as net, trio.open_nursery() as nursery:
        alice, path = net["alice"], tmp_path / FILE_NAME
        await net.mine(6)
        graph = alice.graph
        await until(lambda: (len(graph), len(graph.policies), len(graph.nodes)) == (2, 4, 3))
        await nursery.start(GossipFile(tmp_path, alice.gossiper).run)
        known = to_table(compact(alice.graph))
        await until(lambda: path.stat().st_size > 1 and to_table(read_graph([path])) == known)
        assert set(read_graph([path]).aliases.values()) >= {"alice", "bob", "carol"}
        # half a record at the end, as while it is being written, is no damage
        whole = path.read_bytes()
        path.write_bytes(whole + whole[1:9])
        assert to_table(read_graph([path])) == known
        nursery.cancel_scope.cancel()


def test_damage_is_named(tmp_path: Path) -> None:
    path, head = tmp_path / FILE_NAME, b"\x20\x00\x00\x03" + bytes(8)
    path.write_bytes(b"\x0f" + head + b"\x01\x00\x00")
    with pytest.raises(BadGraphFile, match="octet 1: "):
        read_graph([path])
