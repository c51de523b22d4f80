"""The life of channels over each backend: opened, paid over, closed, forced, restarted, reorganised.

The same five nodes end with the same satoshis on every chain.
"""

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
PATIENCE_SECONDS = 60
DELAY_BLOCKS = 10
LONGEST_SWEEP_BLOCKS = 60
MOST_FEES_SAT = 20_000
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

    def __init__(self, backend: Backend, directory: Path, nursery: trio.Nursery) -> None:
        self.backend, self._directory, self._nursery = backend, directory, nursery
        self.nodes: list[Node] = []
        self._scope, self._ended = trio.CancelScope(), trio.Event()

    async def start(self, names: Sequence[str]) -> None:
        """Run nodes of these names, with all that they have kept."""
        self.nodes = [self._make(name) for name in names]
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._run)

    def _make(self, name: str) -> Node:
        config = NodeConfig(
            self._directory / name, seed=sha256(name.encode()), alias=name, to_self_delay_blocks=DELAY_BLOCKS
        )
        return Node(config, self.backend.chain())

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                for node in self.nodes:
                    await nursery.start(node.run)
                task_status.started()
        self._ended.set()

    async def kill(self) -> None:
        """End all nodes without a last word."""
        self._scope.cancel()
        await self._ended.wait()

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
        await self.ready()

    async def ready(self) -> None:
        for node in self.nodes:
            await node.wait_for_channels(lambda channels: all(c.is_usable for c in channels))
            await node.gossiper.wait_for_graph(self.is_whole)

    def is_whole(self, graph: Graph) -> bool:
        """Whether it has every channel, at the place where it is now, and every node."""
        places = {channel.short_channel_id for node in self.nodes for channel in node.channels()}
        known = {scid for scid, channel in graph.channels.items() if channel.is_announced}
        told = [graph.policy(scid, direction) for scid in places if scid for direction in (0, 1)]
        return places <= known and all(told) and len(graph.nodes) == len(self.nodes)

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
        await self.mine(count)

    async def mine(self, count: int) -> None:
        await self.backend.mine(count)
        await self.follow()

    async def sweep(self) -> None:
        """Mine until every channel's money is on the chain, and nothing more will come of it."""
        for _ in range(LONGEST_SWEEP_BLOCKS):
            if all(c.phase is Phase.CLOSED for node in self.nodes for c in node.channels()):
                return
            await self.mine(1)
        raise AssertionError("channels are not closed")

    async def reorganise(self, depth: int) -> None:
        await self.backend.reorganise(depth)
        await self.follow()

    def total_sat(self) -> int:
        return sum(node.balance_sat.confirmed_sat for node in self.nodes)

    async def follow(self) -> None:
        height = (await self.backend.chain().tip()).height
        for node in self.nodes:
            await node.watcher.wait_for_height(height)


@asynccontextmanager
async def line(backend: Backend, directory: Path, names: Sequence[str] = NAMES) -> AsyncIterator[Line]:
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            net = Line(backend, directory, nursery)
            await net.start(names)
            yield net
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


async def test_a_line_that_was_killed_is_there_again(backend: Backend, tmp_path: Path) -> None:
    async with line(backend, tmp_path, NAMES[:3]) as net:
        await net.fund()
        await net.open()
        await net.pay(AMOUNT_MSAT)
        await net.kill()
        await backend.mine(3)
        await net.start(NAMES[:3])
        await net.follow()
        for a, b in pairwise(net.nodes):
            await a.connect(b.node_id, "127.0.0.1", b.port)
        await net.ready()
        await net.pay(AMOUNT_MSAT)
        for node in net.nodes:
            await node.wait_for_channels(are_quiet)
        received = net.nodes[-1].channel_balance_msat - PUSH_MSAT
        assert received == 2 * AMOUNT_MSAT


async def test_a_force_close_brings_everything_home(backend: Backend, tmp_path: Path) -> None:
    async with line(backend, tmp_path, NAMES[:2]) as net:
        await net.fund()
        await net.open()
        await net.pay(AMOUNT_MSAT)
        alice, bob = net.nodes
        for node in net.nodes:
            await node.wait_for_channels(are_quiet)
        await alice.force_close(opened_by(alice).id)
        await net.sweep()
        assert 0 <= 2 * FUNDS_SAT - net.total_sat() <= MOST_FEES_SAT
        paid_sat = (PUSH_MSAT + AMOUNT_MSAT) // 1000
        assert 0 <= FUNDS_SAT + paid_sat - bob.balance_sat.confirmed_sat <= MOST_FEES_SAT


async def test_reorganisations_cost_neither_a_channel_nor_its_money(backend: Backend, tmp_path: Path) -> None:
    async with line(backend, tmp_path, NAMES[:2]) as net:
        await net.fund()
        await net.open()
        # the funding transaction comes into another block, where the channel has another name
        await net.reorganise(7)
        await net.mine(6)
        await net.ready()
        await net.pay(AMOUNT_MSAT)
        alice, _ = net.nodes
        for node in net.nodes:
            await node.wait_for_channels(are_quiet)
        await alice.force_close(opened_by(alice).id)
        await net.mine_when(bool, 2)
        # and so does the commitment
        await net.reorganise(3)
        await net.sweep()
        assert 0 <= 2 * FUNDS_SAT - net.total_sat() <= MOST_FEES_SAT
