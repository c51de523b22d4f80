"""One bitcoind, with nodes of ours and of LDK on it, each of which can be stopped and started again."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from gossip.graph import Graph
from htlc.channel import Channel, Phase
from node.daemon.node import Node, NodeConfig
from tests.interop.bitcoin import Bitcoind
from tests.interop.ldk_peer import LdkPeer, start_ldk
from wire.bitcoin.address import address_of
from wire.units import Msat, Sat

HOST = "127.0.0.1"
CAPACITY_SAT = Sat(1_000_000)
PUSH_MSAT = Msat(400_000_000)
FUNDS_SAT = Sat(100_000_000)
PATIENCE_SECONDS = 60
LOOK_SECONDS = 0.02
ANNOUNCED_BLOCKS = 6
DELAY_BLOCKS, STEP_BLOCKS = 144, 6


class Stage:
    """A chain and whoever is on it."""

    def __init__(
        self, bitcoind: Bitcoind, nursery: trio.Nursery, modules: Path, ports: Callable[[], int], folder: Path
    ) -> None:
        self.bitcoind, self._nursery, self._modules = bitcoind, nursery, modules
        self._ports, self._folder = ports, folder
        self.on_built: list[Callable[[Node], None]] = []
        self.ours: dict[str, Node] = {}
        self.theirs: dict[str, LdkPeer] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ended: dict[str, trio.Event] = {}
        self._configs: dict[str, dict[str, Any]] = {}

    # --- nodes

    async def rill(self, name: str, **config: Any) -> Node:
        """A node of ours with a bitcoin."""
        self._configs[name] = config
        node = await self.start_rill(name)
        await self.bitcoind.pay(address_of(await node.new_script(), "regtest"), FUNDS_SAT)
        await self.mine(1)
        return node

    async def start_rill(self, name: str) -> Node:
        """Start a node of ours, or start it again with all that it has kept."""
        chain = self.bitcoind.chain()
        await chain.check()
        node = Node(NodeConfig(self._folder / name, alias=name, **self._configs[name]), chain)
        for begin in self.on_built:
            begin(node)
        self._scopes[name], self._ended[name] = trio.CancelScope(), trio.Event()
        self.ours[name] = node
        await self._nursery.start(self._run, name)
        return node

    async def _run(self, name: str, task_status: trio.TaskStatus[None]) -> None:
        with self._scopes[name]:
            await self.ours[name].run(task_status)
        self._ended[name].set()

    async def kill_rill(self, name: str) -> None:
        """End a node of ours without a last word."""
        self._scopes[name].cancel()
        await self._ended[name].wait()
        del self.ours[name]

    async def ldk(self, name: str, **options: object) -> LdkPeer:
        """A node of theirs with a bitcoin."""
        await self.bitcoind.wallet(name, FUNDS_SAT, 4)
        await self.mine(1)
        self._configs[name] = {"port": self._ports(), "datadir": self._folder / f"{name}-ldk", **options}
        return await self.start_ldk(name)

    async def start_ldk(self, name: str) -> LdkPeer:
        """Start a node of theirs, or start it again with all that it has kept."""
        url = self.bitcoind.url
        peer = await start_ldk(self._nursery, name, self._modules, url, **self._configs[name])
        self.theirs[name] = peer
        return peer

    async def stop_ldk(self, name: str) -> None:
        """End a node of theirs."""
        await self.theirs.pop(name).stop()

    async def close(self) -> None:
        for name in list(self.theirs):
            await self.stop_ldk(name)

    # --- the chain

    async def mine(self, count: int) -> None:
        """Mine, and wait until everybody knows."""
        await self.bitcoind.mine(count)
        await self.everybody_follows()

    async def undo(self, count: int) -> None:
        """Replace the last blocks by one more, all empty, and wait until everybody knows."""
        await self.bitcoind.undo(count)
        await self.everybody_follows()

    async def everybody_follows(self) -> None:
        """Wait until everybody knows the last block."""
        height = await self.bitcoind.call("getblockcount")
        for node in self.ours.values():
            await node.watcher.wait_for_height(height)
        for peer in self.theirs.values():
            await peer("sync")

    async def confirm(self, count: int, blocks: int = ANNOUNCED_BLOCKS) -> None:
        """Mine once the mempool has so many transactions."""
        with trio.fail_after(PATIENCE_SECONDS):
            while len(await self.bitcoind.call("getrawmempool")) < count:  # noqa: ASYNC110 - bitcoind tells nobody
                await trio.sleep(LOOK_SECONDS)
        await self.mine(blocks)

    async def mine_until_swept(self, node: Node, peer: LdkPeer) -> None:
        """Mine, giving both the time to answer the blocks, until nothing is left to claim."""
        for _ in range(2 * DELAY_BLOCKS // STEP_BLOCKS):
            await self.mine(STEP_BLOCKS)
            is_over = all(channel.phase is Phase.CLOSED for channel in node.channels())
            if is_over and not await peer("balances"):
                return
        raise AssertionError(f"not all is swept: {await peer('balances')}")

    # --- what tests wait for

    async def connect(self, node: Node, peer: LdkPeer) -> None:
        """Our node calls theirs, as it will again by itself after every restart."""
        await node.connect(peer.node_id, HOST, peer.port)

    async def open_public(self, node: Node, peer: LdkPeer) -> Channel:
        """A channel that we open to them, not confirmed yet."""
        await self.connect(node, peer)
        return await node.open_channel(peer.node_id, CAPACITY_SAT, PUSH_MSAT)

    async def usable(self, node: Node, count: int) -> None:
        """Wait until the node has so many channels, all of them open."""
        await self.channels(
            node,
            lambda channels: (
                len(channels) == count and all(c.is_usable and c.id in node.switch.live for c in channels)
            ),
        )

    async def quiet(self, node: Node) -> None:
        """Wait until no HTLC is on any ladder."""
        await self.channels(node, lambda channels: not any(h for c in channels for h in c.all_htlcs()))

    async def closed(self, node: Node) -> None:
        """Wait until all that the node had in channels is its own on the chain."""
        await self.channels(node, lambda channels: all(c.phase is Phase.CLOSED for c in channels))

    async def channels(self, node: Node, are_so: Callable[[list[Channel]], bool]) -> None:
        """Wait until the node's channels look as wished."""
        with trio.fail_after(PATIENCE_SECONDS):
            while not are_so(node.channels()):  # noqa: ASYNC110 - a connection changes no channel
                await trio.sleep(LOOK_SECONDS)

    async def everybody_sees(self, channels: int) -> None:
        """Wait until every node knows so many channels in both directions, and their nodes by name."""
        for peer in self.theirs.values():
            await peer("announce_node")
        names = len(self.ours) + len(self.theirs)
        for node in self.ours.values():
            await self.graph(
                node,
                lambda graph: (
                    len(graph.channels) == channels
                    and len(graph.policies) == 2 * channels
                    and len(graph.nodes) == names
                    and all(channel.is_announced for channel in graph.channels.values())
                ),
            )
        wanted = (channels, 2 * channels, names)
        for peer in self.theirs.values():
            await peer.until(
                "list_graph",
                lambda graph: (graph["channels"], graph["directions"], graph["announced_nodes"]) == wanted,
            )

    async def graph(self, node: Node, is_so: Callable[[Graph], bool]) -> None:
        """Wait until the node's graph looks as wished."""
        with trio.fail_after(PATIENCE_SECONDS):
            await node.gossiper.wait_for_graph(is_so)


@asynccontextmanager
async def playing(stage: Stage, nursery: trio.Nursery) -> AsyncIterator[None]:
    """For one test; whoever is on the stage ends with it."""
    try:
        with trio.fail_after(4 * PATIENCE_SECONDS):
            yield
    finally:
        with trio.CancelScope(shield=True):
            await stage.close()
        nursery.cancel_scope.cancel()


def of_type(channels: Sequence[Channel]) -> set[bytes]:
    """The channel types among these."""
    return {channel.charter.channel_type for channel in channels}
