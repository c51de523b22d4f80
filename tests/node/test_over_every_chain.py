"""Open, pay, close over each backend: the same five nodes end with the same satoshis on every chain."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import trio

from gossip.graph import Graph
from htlc.channel import Channel, Phase
from htlc.ladder import LOCAL
from node.daemon.node import Node, NodeConfig
from tests.node.backends import Backend
from wire.bitcoin.tx import TxOut
from wire.crypto.hashes import sha256
from wire.units import Msat, Sat

NAMES = ("alice", "bob", "carol", "diana", "eric")
FUNDS_SAT = Sat(11_000_000)
CAPACITY_SAT = Sat(10_000_000)
PUSH_MSAT = Msat(5_000_000_000)
AMOUNT_MSAT = Msat(100_000_000)
PAYMENTS = 5
LOOK_SECONDS = 0.005
TOLL_SAT = 2  # of one hop for one payment
FEES_SAT = 1284  # what an opener pays miners: to fund a channel at 1000 sat per kw, and to close it
BALANCES_SAT = {
    "alice": FUNDS_SAT - 5_000_000 - PAYMENTS * (100_000 + 3 * TOLL_SAT) - FEES_SAT,
    "bob": FUNDS_SAT + PAYMENTS * TOLL_SAT - FEES_SAT,
    "carol": FUNDS_SAT + PAYMENTS * TOLL_SAT - FEES_SAT,
    "diana": FUNDS_SAT + PAYMENTS * TOLL_SAT - FEES_SAT,
    "eric": FUNDS_SAT + 5_000_000 + PAYMENTS * 100_000,
}


class Line:
    """Nodes in a line on one backend."""

    def __init__(self, backend: Backend, nodes: Sequence[Node]) -> None:
        self.backend, self.nodes = backend, nodes

    async def fund(self) -> None:
        scripts = [await node.new_script() for node in self.nodes]
        await self.backend.fund_many([TxOut(FUNDS_SAT, script) for script in scripts])
        await self.follow()

    async def open(self) -> None:
        opened = []
        for a, b in pairwise(self.nodes):
            await a.connect(b.node_id, "127.0.0.1", b.port)
            channel = await a.open_channel(b.node_id, CAPACITY_SAT, PUSH_MSAT)
            opened.append(channel.charter.funding_outpoint.txid)
        await self.mine_when(lambda waiting: waiting >= set(opened), 6)
        for node in self.nodes:
            await node.wait_for_channels(lambda channels: all(c.is_usable for c in channels))
            await node.gossiper.wait_for_graph(self.is_whole)

    def is_whole(self, graph: Graph) -> bool:
        links = len(self.nodes) - 1
        return (
            len(graph) == links and len(graph.policies) == 2 * links and len(graph.nodes) == len(self.nodes)
        )

    async def pay(self, amount_msat: Msat) -> None:
        first, last = self.nodes[0], self.nodes[-1]
        invoice = await last.add_invoice(amount_msat, "a film")
        await first.pay_invoice(last.bolt11(invoice))

    async def close(self) -> None:
        for node in self.nodes:
            await node.wait_for_channels(are_quiet)
        for node in self.nodes[:-1]:
            await node.close_channel(opened_by(node).id)
        await self.mine_when(self.are_closing, 1)
        for node in self.nodes:
            await node.wait_for_channels(lambda channels: all(c.phase is Phase.CLOSED for c in channels))

    def are_closing(self, waiting: set[bytes]) -> bool:
        """Whether for each channel the transaction waits that its opener, who closes it, pays for."""
        closings = [opened_by(node).closing for node in self.nodes[:-1]]
        agreed = [closing.transaction for closing in closings if closing.offer is None]
        return {closing.txid for closing in agreed if closing is not None} == waiting and len(agreed) == 4

    async def mine_when(self, is_so: Callable[[set[bytes]], bool], count: int) -> None:
        while not is_so(await self.backend.waiting()):  # noqa: ASYNC110 - a mempool tells nobody
            await trio.sleep(LOOK_SECONDS)
        await self.backend.mine(count)
        await self.follow()

    async def follow(self) -> None:
        height = (await self.backend.chain().tip()).height
        for node in self.nodes:
            await node.watcher.wait_for_height(height)


@asynccontextmanager
async def line(backend: Backend, directory: Path) -> AsyncIterator[Line]:
    nodes = [
        Node(NodeConfig(directory / name, seed=sha256(name.encode()), alias=name), backend.chain())
        for name in NAMES
    ]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            await nursery.start(node.run)
        yield Line(backend, nodes)
        nursery.cancel_scope.cancel()


def opened_by(node: Node) -> Channel:
    [channel] = [channel for channel in node.channels() if channel.charter.opener is LOCAL]
    return channel


def are_quiet(channels: list[Channel]) -> bool:
    return not any(c.htlcs.local or c.htlcs.remote or c.is_awaiting_revocation for c in channels)


async def test_five_nodes_open_pay_and_close_to_the_satoshi(backend: Backend, tmp_path: Path) -> None:
    async with line(backend, tmp_path) as net:
        await net.fund()
        await net.open()
        for _ in range(PAYMENTS):
            await net.pay(AMOUNT_MSAT)
        await net.close()
        balances = {name: node.balance_sat.confirmed_sat for name, node in zip(NAMES, net.nodes, strict=True)}
        assert balances == BALANCES_SAT
