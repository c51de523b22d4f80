"""Nodes in lockstep: a line of plain nodes, the links between them, and the chain that they share.

A connection is two queues of encoded messages, and a block is read when a test says so. The same
choices give the same life, and a whole one takes a fraction of a second.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from gossip.routes import Hop, Route
from htlc.ladder import Htlc
from htlc.opening import House, Wish
from htlc.relay import Receive, Toll
from node.chain.embedded import EmbeddedChain
from node.daemon.establish import Opening
from node.daemon.turn import Turn
from tests.node.plain_node import FINAL_DELTA_BLOCKS, End, PlainNode
from wire.bitcoin.block import CHAIN_HASH
from wire.bitcoin.tx import TxOut
from wire.codec import Message
from wire.messages.catalogue import decode
from wire.units import Msat, Sat

PREMINED_BLOCKS = 110  # the first ten coinbases are mature
_SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A temporary directory, in memory where there is one: a life writes much and keeps nothing."""
    with TemporaryDirectory(prefix="rill-", dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None) as path:
        yield Path(path)


class Link:
    """The way between two nodes, and the connection on it if there is one."""

    def __init__(self, *nodes: "PlainNode") -> None:
        self.nodes = nodes
        self.ends: tuple[End, ...] = ()

    @property
    def is_up(self) -> bool:
        """Whether both ends still hear each other."""
        return bool(self.ends) and all(
            node.is_alive and not end.is_closing and node.switch.peers.get(end.node_id) is end.peer
            for node, end in zip(self.nodes, self.ends, strict=True)
        )

    def join(self) -> None:
        """Connect; a connection that is still there is replaced, and what is under way on it lost."""
        if not all(node.is_alive for node in self.nodes):
            return
        a, b = self.nodes
        self.ends = End(b.id, a), End(a.id, b)
        for node, end in zip(self.nodes, self.ends, strict=True):
            node.switch.add_peer(end.peer)
        for node in self.nodes:
            node.turn()

    def cut(self) -> None:
        """Lose the connection with all that is under way on it."""
        ends, self.ends = self.ends, ()
        for end in ends:
            end.is_closing = True
            if end.node.is_alive:
                end.node.switch.drop_peer(end.peer)

    def waiting(self, to: int) -> int:
        """How many messages are under way to this side."""
        return len(self.ends[1 - to].said) if self.ends else 0

    def deliver(self, to: int, count: int = 1) -> None:
        """Let messages arrive, and leave them to the node's next turn."""
        for _ in range(min(count, self.waiting(to))):
            message = decode(self.ends[1 - to].said.popleft())
            assert isinstance(message, Message), "a node of ours says nothing that it cannot read"
            if self.nodes[to].is_alive and not self.ends[to].is_closing:
                self.nodes[to].switch.deliver(self.ends[to].peer, message)


class Line:
    """Nodes in a row, the links between neighbours, and the chain that they share."""

    def __init__(
        self, directory: Path, names: str, house: House | None = None, toll: Toll | None = None
    ) -> None:
        self.chain = EmbeddedChain(directory / "chain", premined_blocks=PREMINED_BLOCKS)
        house = house or House(CHAIN_HASH["regtest"])
        self.nodes = [
            PlainNode(name, directory / name, self.chain, house, toll or Toll()) for name in names.split()
        ]
        self.links = [Link(*pair) for pair in pairwise(self.nodes)]

    def __enter__(self) -> "Line":
        self._receive = Turn._receive
        Turn._receive = self._held  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Turn._receive = self._receive  # type: ignore[method-assign]
        for node in self.nodes:
            if node.is_alive:
                node.die()
        self.chain.close()

    def __getitem__(self, name: str) -> PlainNode:
        return next(node for node in self.nodes if node.name == name)

    @property
    def _held(self) -> Callable[..., None]:
        nodes, receive = self.nodes, self._receive

        def held(turn: Turn, channel_id: bytes, htlc: Htlc, wanted: Receive) -> None:
            node = next(node for node in nodes if node.is_alive and node.switch is turn.switch)
            if node.is_holding:
                node.held.append((channel_id, htlc, wanted))
            else:
                receive(turn, channel_id, htlc, wanted)

        return held

    @property
    def tip_hash(self) -> bytes:
        """The last block, which commits to everything that ever happened on the chain."""
        return self.chain.regtest.block_hash(self.chain.regtest.height) or b""

    # --- what happens by itself

    def settle(self) -> None:
        """Deliver and turn until nobody has anything to say."""
        while any(link.waiting(to) for link in self.links for to in (0, 1)):
            for link in self.links:
                for to in (0, 1):
                    link.deliver(to, link.waiting(to))
                    link.nodes[to].turn()

    def mine(self, count: int = 1) -> None:
        """Mine blocks, each read by all before the next."""
        for _ in range(count):
            self.chain.regtest.mine(1, self.chain.faucet.script)
            self.follow()

    def follow(self) -> None:
        """Let everybody read the chain to its tip."""
        for node in self.nodes:
            node.follow()

    # --- beginnings

    def fund(self, coins: Iterable[tuple[PlainNode, int]]) -> None:
        """Give nodes confirmed coins."""
        outputs = [TxOut(Sat(value_sat), node.ask(node.switch.new_script)) for node, value_sat in coins]
        self.chain.faucet.pay(outputs)
        self.mine()

    def begin_opening(self, link: Link, wish: Wish, opener: int = 0) -> Opening:
        """Let one end of the link propose a channel to the other."""
        attempt = Opening(wish.feerate_per_kw)
        node, end = link.nodes[opener], link.ends[opener]
        node.ask(node.switch.establishment.proposing(end.peer, wish, attempt))
        return attempt

    # --- payments

    def route(self, payer: PlainNode, payee: PlainNode, amount_msat: int, blocks: int = 0) -> Route:
        """The way along the line; each HTLC expires `blocks` later than it must."""
        first, last = self.nodes.index(payer), self.nodes.index(payee)
        step = 1 if last > first else -1
        path = self.nodes[first : last + step if last + step >= 0 else None : step]
        hops: list[Hop] = []
        amount, cltv = Msat(amount_msat), FINAL_DELTA_BLOCKS + blocks
        for near, far in reversed(list(pairwise(path))):
            scid = near.channel_with(far).short_channel_id or 0
            hops.insert(0, Hop(far.id, scid, 0, amount, cltv))
            amount = Msat(amount + near.toll.fee_msat(amount))
            cltv += near.toll.cltv_expiry_delta
        return Route(tuple(hops))
