"""Networks for the tests of the daemon: real nodes on one embedded chain, joined as a test likes.

A line is the usual shape; `join` makes any other. Nothing here sleeps: the chain says when a
transaction has come, the nodes say when their channels and graphs have changed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from gossip.graph import Graph
from htlc.channel import Channel, Phase, Terms
from htlc.ladder import Htlc
from htlc.opening import ANCHORS_TYPE, House
from htlc.relay import Receive, Toll
from node.chain.embedded import EmbeddedChain
from node.daemon.invoices import InvoiceRow
from node.daemon.node import Node, NodeConfig
from node.daemon.paying import Payment
from node.daemon.turn import Turn
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.codec import Message
from wire.crypto.hashes import sha256
from wire.features import OUR_INIT, SIMPLE_CLOSE, Features
from wire.units import Msat, Sat

HOST = "127.0.0.1"
CAPACITY_SAT = Sat(10_000_000)
PUSH_MSAT = Msat(5_000_000_000)
FEES_SAT = 100_000
ANNOUNCED_BLOCKS = 6
WITHOUT_SIMPLE_CLOSE = OUR_INIT.without(SIMPLE_CLOSE)
PATIENCE_SECONDS = 120


class Clock:
    """The time of every node of a network; it stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1_790_000_000.0

    def __call__(self) -> float:
        return self.seconds


class WatchedChain(EmbeddedChain):
    """An embedded chain that says when a transaction has come."""

    def __init__(self) -> None:
        super().__init__()
        self._came = trio.Event()

    async def broadcast(self, *transactions: Transaction) -> None:
        try:
            await super().broadcast(*transactions)
        finally:
            self._came.set()
            self._came = trio.Event()

    async def wait_for_mempool(self, is_so: Callable[["WatchedChain"], bool]) -> None:
        """Return once the mempool looks as wished."""
        while not is_so(self):
            await self._came.wait()

    def has(self, txid: bytes) -> bool:
        return txid in self.regtest.mempool

    def is_spent(self, outpoint: OutPoint) -> bool:
        """Whether a transaction in the mempool spends it."""
        return self.regtest.mempool.is_spent(outpoint)


class Network:
    """Nodes by name on one chain, and the channels that the test opened between them."""

    def __init__(
        self,
        chain: WatchedChain,
        nursery: trio.Nursery,
        directory: Path,
        toll: Toll,
        features: Features = OUR_INIT,
    ) -> None:
        self.chain, self.clock = chain, Clock()
        self.nodes: dict[str, Node] = {}
        self.ids: dict[tuple[str, str], bytes] = {}
        self._nursery, self._directory, self._toll, self._features = nursery, directory, toll, features
        self._scopes: dict[str, trio.CancelScope] = {}
        self._ended: dict[str, trio.Event] = {}

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    # --- nodes

    def make(self, name: str, **options: Any) -> Node:
        """A node that does not run yet."""
        options = {
            "seed": sha256(name.encode()),
            "alias": name,
            "toll": self._toll,
            "features": self._features,
            **options,
        }
        config = NodeConfig(self._directory / name, **options)
        return Node(config, self.chain, self.clock)

    async def start(self, *names: str, **options: Any) -> None:
        """Run nodes of these names until the test ends or stops them."""
        for name in names:
            self.nodes[name] = self.make(name, **options)
            self._scopes[name], self._ended[name] = trio.CancelScope(), trio.Event()
            await self._nursery.start(self._run, name)

    async def _run(self, name: str, task_status: trio.TaskStatus[None]) -> None:
        with self._scopes[name]:
            await self.nodes[name].run(task_status)
        self._ended[name].set()

    async def stop(self, name: str) -> None:
        """End a node as a killed process ends; return once nobody is connected to it."""
        self.kill(name)
        await self.wait_for_death(name)

    def kill(self, name: str) -> None:
        """Let a node do nothing more, not even finish a sentence."""
        self._scopes[name].cancel()

    async def wait_for_death(self, name: str) -> None:
        """Return once a killed node has gone, and all others have noticed."""
        gone = self.nodes[name]
        await self._ended[name].wait()
        del self.nodes[name]
        for other in self.nodes.values():
            await until(lambda peers=other.switch.peers: gone.node_id not in peers)  # type: ignore[misc]

    async def part(self, a: str, b: str) -> None:
        """End the connection of two nodes; neither calls the other again by itself."""
        for name in (a, b):
            self[name].config = msgspec.structs.replace(self[name].config, is_reconnecting=False)
        for name, other in ((a, b), (b, a)):
            await self[name].disconnect(self[other].node_id)
        first, second = self[a], self[b]
        await until(lambda: second.node_id not in first.switch.peers)
        await until(lambda: first.node_id not in second.switch.peers)

    async def connect(self, a: str, b: str) -> None:
        """Be connected, on both sides."""
        await self[a].connect(self[b].node_id, HOST, self[b].port)
        await until(lambda: self[a].node_id in self[b].switch.peers)

    # --- blocks

    async def mine(self, count: int = 1) -> int:
        """Mine, and return the height once every node has read it."""
        tip = await self.chain.mine(count)
        await self.follow()
        return tip.height

    async def follow(self) -> None:
        """Return once every node has read the chain to its tip."""
        tip = await self.chain.tip()
        for node in self.nodes.values():
            await node.watcher.wait_for_height(tip.height)

    async def fund(self, coins: Sequence[tuple[str, int]]) -> None:
        """Give nodes confirmed coins."""
        outputs = [TxOut(Sat(value_sat), await self[name].new_script()) for name, value_sat in coins]
        await self.chain.fund_many(outputs)
        await self.follow()

    # --- channels

    async def join(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        capacity_sat: Sat = CAPACITY_SAT,
        push_msat: Msat = PUSH_MSAT,
        channel_type: bytes | None = ANCHORS_TYPE,
        is_announced: bool = True,
    ) -> None:
        """Open a channel between the nodes of each pair; return when all are usable, and known to all."""
        pairs = list(pairs)
        await self.fund([(opener, capacity_sat + FEES_SAT) for opener, _ in pairs])
        for a, b in pairs:
            await self.connect(a, b)
            await self.open(
                a,
                b,
                capacity_sat=capacity_sat,
                push_msat=push_msat,
                channel_type=channel_type,
                is_announced=is_announced,
            )
        await self.mine(ANNOUNCED_BLOCKS)
        await self.wait_for_usable()
        if is_announced:
            await self.wait_for_gossip()

    async def open(
        self,
        a: str,
        b: str,
        *,
        capacity_sat: Sat = CAPACITY_SAT,
        push_msat: Msat = PUSH_MSAT,
        channel_type: bytes | None = ANCHORS_TYPE,
        is_announced: bool = True,
    ) -> Channel:
        """Open a channel from `a` to `b`; its funding transaction waits in the mempool then."""
        channel = await self[a].open_channel(
            self[b].node_id, capacity_sat, push_msat, channel_type=channel_type, is_announced=is_announced
        )
        self.ids[a, b] = self.ids[b, a] = channel.id
        funding_txid = channel.charter.funding_outpoint.txid
        await self.chain.wait_for_mempool(lambda chain: chain.has(funding_txid))
        return channel

    def channel(self, a: str, b: str) -> Channel:
        """The channel between them as `a` sees it."""
        return self[a].switch.channels[self.ids[a, b]]

    def short_channel_id(self, a: str, b: str) -> int:
        """Where its funding output is."""
        short_channel_id = self.channel(a, b).short_channel_id
        assert short_channel_id is not None, "it is mined"
        return short_channel_id

    async def wait_for_usable(self) -> None:
        """Return once every channel takes HTLCs, as both of its ends see it."""
        await self._wait_for_channels(lambda channels: all(channel.is_usable for channel in channels))

    async def wait_for_quiet(self) -> None:
        """Return once nothing is on any channel's ladder, and every signature is answered."""
        await self._wait_for_channels(lambda channels: all(map(is_quiet, channels)))

    async def wait_for_closed(self) -> None:
        """Return once every channel is closed."""
        await self._wait_for_channels(lambda channels: all(c.phase is Phase.CLOSED for c in channels))

    async def _wait_for_channels(self, is_so: Callable[[list[Channel]], bool]) -> None:
        await together(node.wait_for_channels(is_so) for node in self.nodes.values())

    async def wait_for_gossip(self) -> None:
        """Return once every node knows every announced channel from both ends, and every end by name."""
        channels = {channel.id for node in self.nodes.values() for channel in node.channels()}
        ends = {end for node in self.nodes.values() if node.channels() for end in [node.node_id]}

        def is_whole(graph: Graph) -> bool:
            return len(graph) == len(channels) == len(graph.policies) // 2 and set(graph.nodes) == ends

        await together(node.gossiper.wait_for_graph(is_whole) for node in self.nodes.values())

    def check_conserved(self) -> None:
        """Every millisatoshi of every channel belongs to one of its ends, and both agree to whom."""
        for a, b in self.ids:
            ours, theirs = self.channel(a, b), self.channel(b, a)
            assert is_quiet(ours)
            assert ours.settled_msat == theirs.settled_msat.swapped()
            assert ours.settled_msat.local + ours.settled_msat.remote == ours.charter.funding_sat * 1000

    # --- payments

    async def pay(self, payer: str, payee: str, amount_msat: int, **options: Any) -> Payment:
        """Pay a new invoice."""
        invoice = await self[payee].add_invoice(Msat(amount_msat))
        return await self.pay_row(payer, payee, invoice, **options)

    async def pay_row(self, payer: str, payee: str, invoice: InvoiceRow, **options: Any) -> Payment:
        """Pay an invoice that there is."""
        amount_msat = options.pop("amount_msat", invoice.amount_msat)
        secret = options.pop("payment_secret", invoice.payment_secret)
        return await self[payer].pay(
            self[payee].node_id, invoice.payment_hash, secret, amount_msat, **options
        )


def is_quiet(channel: Channel) -> bool:
    """Whether nothing is on its ladder, and every signature is answered."""
    return not (channel.htlcs.local or channel.htlcs.remote or channel.is_awaiting_revocation)


async def together(waits: Iterable[Awaitable[None]]) -> None:
    """Return once all of these have."""
    async with trio.open_nursery() as nursery:
        for wait in waits:
            nursery.start_soon(_wait_for, wait)


async def _wait_for(wait: Awaitable[None]) -> None:
    await wait


async def until(is_so: Callable[[], bool]) -> None:
    """Return once something is so of which nobody says when it changes."""
    while not is_so():
        await trio.lowlevel.checkpoint()


class Held:
    """The HTLCs for one node that it would take or fail now, kept waiting until the test says so."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting: list[tuple[bytes, Htlc, Receive]] = []
        self._node, self._came, self._receive = node, trio.Event(), Turn._receive

        def receive(turn: Turn, channel_id: bytes, htlc: Htlc, receive: Receive) -> None:
            if turn.switch is not node.switch:
                self._receive(turn, channel_id, htlc, receive)
                return
            self.waiting.append((channel_id, htlc, receive))
            turn.then(self._tell)

        monkeypatch.setattr(Turn, "_receive", receive)

    def _tell(self) -> None:
        self._came.set()
        self._came = trio.Event()

    async def wait_for(self, count: int) -> None:
        """Return once so many are waiting."""
        while len(self.waiting) < count:
            await self._came.wait()

    async def release(self) -> None:
        """Take or fail all that wait, in one turn."""
        waiting, self.waiting = self.waiting, []

        def act(turn: Turn) -> None:
            for each in waiting:
                self._receive(turn, *each)

        await self._node.switch.ask(act)


def sent_by(node: Node) -> list[tuple[bytes, Message]]:
    """All that the node's turns send from now on: to whom, and what."""
    sent: list[tuple[bytes, Message]] = []
    release = node.switch._release

    def recorded(turn: Turn) -> None:
        sent.extend(turn.outgoing)
        release(turn)

    node.switch._release = recorded  # type: ignore[method-assign]
    return sent


def bent(node: Node, bend: Callable[[Message], Message]) -> None:
    """Let the node's turns send something else than they mean to."""
    release = node.switch._release

    def bending(turn: Turn) -> None:
        turn.outgoing = [(peer_id, bend(message)) for peer_id, message in turn.outgoing]
        release(turn)

    node.switch._release = bending  # type: ignore[method-assign]


def silent(node: Node, kind: type[Message]) -> None:
    """Let the node's turns keep back every message of a kind."""
    release = node.switch._release

    def keeping(turn: Turn) -> None:
        turn.outgoing = [(to, message) for to, message in turn.outgoing if not isinstance(message, kind)]
        release(turn)

    node.switch._release = keeping  # type: ignore[method-assign]


def takes_at_most(node: Node, most_msat: int) -> None:
    """Make a node say that it takes no more than this in flight."""

    class Stingy(House, frozen=True, gc=False):
        def terms(self, funding_sat: Sat) -> Terms:
            return msgspec.structs.replace(
                super().terms(funding_sat), max_htlc_value_in_flight_msat=Msat(most_msat)
            )

    node.switch.house = Stingy(**msgspec.structs.asdict(node.switch.house))


@asynccontextmanager
async def network(
    directory: Path, names: str = "", toll: Toll | None = None, features: Features = OUR_INIT
) -> AsyncIterator[Network]:
    """A chain, and a running node for each name."""
    chain = WatchedChain()
    # a node that waits for ever shall fail its test, not stop the suite
    with chain, trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            net = Network(chain, nursery, directory, toll or Toll(), features)
            await net.start(*names.split())
            yield net
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def line(
    directory: Path,
    names: str,
    *,
    toll: Toll | None = None,
    tolls: Mapping[str, Toll] | None = None,
    features: Features = OUR_INIT,
    **options: Any,
) -> AsyncIterator[Network]:
    """Nodes with a channel between each two neighbours, ready for payments."""
    async with network(directory, toll=toll, features=features) as net:
        for name in names.split():
            await net.start(name, **({"toll": tolls[name]} if tolls and name in tolls else {}))
        await net.join(pairwise(names.split()), **options)
        yield net
