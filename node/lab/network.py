"""A whole Lightning network in one process: an embedded chain, and nodes in a line.

Every node is real: its own key, database and listening port on the loopback, and nothing shared
with the others but the chain. Keys come from one seed, so a network can be had again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import trio

from gossip.graph import Graph
from htlc.channel import Channel, Phase
from node.chain.embedded import EmbeddedChain
from node.chain.interface import BlockConnected
from node.daemon.node import Node, NodeConfig
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.crypto.hashes import tagged_hash
from wire.crypto.secp256k1 import Point
from wire.units import Msat, Sat

NAMES = ("alice", "bob", "carol", "diana", "eric")
FUNDS_SAT = Sat(12_000_000)
CONFIRMATIONS = 6
HOST = "127.0.0.1"
LOOK_SECONDS = 0.001


class LineChannel(msgspec.Struct, frozen=True):
    """A channel between neighbours; the first of them opened it."""

    names: tuple[str, str]
    channel_id: bytes
    funding: OutPoint


class Network:
    """Nodes by their names, in the order of the line, on one chain."""

    def __init__(self, chain: EmbeddedChain, nodes: dict[str, Node]) -> None:
        self.chain, self.nodes = chain, nodes
        self.channels: list[LineChannel] = []
        self._names = {node.node_id: name for name, node in nodes.items()}
        self._first_height = 0

    def name_of(self, node_id: Point) -> str:
        """How the network calls a node."""
        return self._names[node_id]

    async def fund(self, amount_sat: Sat = FUNDS_SAT) -> None:
        """Give every node a confirmed coin."""
        scripts = [await node.new_script() for node in self.nodes.values()]
        self._first_height = (await self.chain.tip()).height + 1
        await self.chain.fund_many([TxOut(amount_sat, script) for script in scripts])
        await self._follow_chain()

    async def open_line(self, capacity_sat: Sat, push_msat: Msat) -> None:
        """Connect neighbours and open an announced channel between each two; all are usable then.

        They are deep enough to be announced, too.
        """
        pairs = list(pairwise(self.nodes.items()))
        opened: dict[tuple[str, str], Channel] = {}

        async def open_one(names: tuple[str, str], opener: Node, accepter: Node) -> None:
            await opener.connect(accepter.node_id, HOST, accepter.port)
            opened[names] = await opener.open_channel(accepter.node_id, capacity_sat, push_msat)

        await _together([partial(open_one, (a, b), opener, other) for (a, opener), (b, other) in pairs])
        self.channels = [
            LineChannel(names, opened[names].id, opened[names].charter.funding_outpoint)
            for names in [(a, b) for (a, _), (b, _) in pairs]
        ]
        await self._mine([channel.funding.txid for channel in self.channels])
        await _together([partial(node.wait_for_channels, _are_usable) for node in self.nodes.values()])

    async def wait_for_gossip(self) -> None:
        """Return once every node knows every channel from both ends, and every node by name."""
        await _together(
            [partial(node.gossiper.wait_for_graph, self._is_whole) for node in self.nodes.values()]
        )

    async def wait_for_quiet(self) -> None:
        """Return once no channel has an HTLC on its way."""
        await _together([partial(node.wait_for_channels, _are_quiet) for node in self.nodes.values()])

    def _is_whole(self, graph: Graph) -> bool:
        has_policies = len(graph.policies) == 2 * len(graph) == 2 * len(self.channels)
        return has_policies and len(graph.nodes) == len(self.nodes)

    async def close_line(self) -> None:
        """Close every channel cooperatively, and bury the closing transactions."""
        openers = [self.nodes[channel.names[0]] for channel in self.channels]
        await _together(
            [
                partial(opener.close_channel, channel.channel_id)
                for opener, channel in zip(openers, self.channels, strict=True)
            ]
        )
        await self._mine_when(self._all_closing)
        await _together([partial(node.wait_for_channels, _are_closed) for node in self.nodes.values()])

    def _all_closing(self) -> bool:
        """Whether the last transaction that each opener has to wait for is on its way."""
        mempool = self.chain.regtest.mempool
        for each in self.channels:
            channel = self.nodes[each.names[0]].switch.channels[each.channel_id]
            closing = channel.closing
            is_waiting = channel.phase is not Phase.CLOSING or closing.offer is not None
            if is_waiting or closing.transaction is None or closing.transaction.txid not in mempool:
                return False
        return True

    def balances_sat(self) -> dict[str, int]:
        """What each wallet holds on chain."""
        found = {}
        for name, node in self.nodes.items():
            balance = node.balance_sat
            found[name] = balance.confirmed_sat + balance.unconfirmed_sat
        return found

    async def blocks(self) -> list[Sequence[Transaction]]:
        """The transactions of every block since the nodes were funded, as the chain has them."""
        height = (await self.chain.tip()).height
        found: list[Sequence[Transaction]] = []
        async for event in self.chain.follow(self._first_height):
            assert isinstance(event, BlockConnected), "nobody reorganises this chain"
            found.append(event.transactions)
            if event.height == height:
                break
        return found

    async def _follow_chain(self) -> None:
        """Return once every node has read the chain to its tip."""
        height = (await self.chain.tip()).height
        for node in self.nodes.values():
            await node.watcher.wait_for_height(height)

    async def _mine(self, txids: Sequence[bytes]) -> None:
        """Bury these transactions as soon as they have been broadcast."""
        mempool = self.chain.regtest.mempool
        await self._mine_when(lambda: all(txid in mempool for txid in txids))

    async def _mine_when(self, is_so: Callable[[], bool]) -> None:
        # a miner learns of transactions by looking: the chain tells of blocks only
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)
        await self.chain.mine(CONFIRMATIONS)
        await self._follow_chain()


@asynccontextmanager
async def running_network(
    seed: int, first_port: int = 0, names: Sequence[str] = NAMES
) -> AsyncIterator[Network]:
    """Start a chain and a node for each name; end them, and forget all they wrote, at the end.

    A first port of zero lets the system choose.

    Raises:
        PortTaken: a node cannot listen. It comes alone, not in a group.
    """
    with TemporaryDirectory(prefix="rill-") as directory, EmbeddedChain() as chain:
        configs = {
            name: NodeConfig(
                directory=Path(directory) / name,
                seed=node_seed(seed, name),
                alias=name,
                host=HOST,
                port=first_port and first_port + place,
            )
            for place, name in enumerate(names)
        }
        nodes = {name: Node(config, chain) for name, config in configs.items()}
        async with trio.open_nursery() as nursery:
            for node in nodes.values():
                await nursery.start(node.run)
            yield Network(chain, nodes)
            nursery.cancel_scope.cancel()


def node_seed(seed: int, name: str) -> bytes:
    """The seed of a node's keys: another one for every network and every name."""
    return tagged_hash(b"rill/lab", f"{seed} {name}".encode())


async def _together(acts: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all of these at once; return when all are done."""
    async with trio.open_nursery() as nursery:
        for act in acts:
            nursery.start_soon(act)


def _are_usable(channels: list[Channel]) -> bool:
    return all(channel.phase is Phase.NORMAL and channel.is_usable for channel in channels)


def _are_quiet(channels: list[Channel]) -> bool:
    return not any(channel.htlcs.local or channel.htlcs.remote for channel in channels)


def _are_closed(channels: list[Channel]) -> bool:
    return all(channel.phase is Phase.CLOSED for channel in channels)
