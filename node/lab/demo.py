"""The story of the demo: a film, paid for chunk by chunk over four hops.

It is told to a `Watcher` while it happens; what remains of it is an `Account`.
"""

import hashlib
from pathlib import Path
from typing import Protocol

import trio

from node.daemon.establish import OpeningFailed
from node.daemon.node import Node, PortTaken
from node.daemon.peer import PeerGone
from node.daemon.reconnect import Unreachable
from node.daemon.wallet import InsufficientFunds
from node.daemon.web import WebPortTaken
from node.lab.account import Account, BalanceSat, ChainAccount, Film, Seconds, chunk_ms, is_conserved
from node.lab.audit import audit
from node.lab.network import Network, running_network
from node.lab.plan import CAPACITY_SAT, PUSHED_SAT, BeyondMeans, Plan
from node.lab.watching import watch
from node.stream.budget import OverBudget
from node.stream.content import ContentChanged
from node.stream.files import FileSource
from node.stream.library import Library, hidden_part, usual_budget
from node.stream.link import Address, Link
from node.stream.manifest import InvalidManifest, Manifest
from node.stream.merkle import InvalidLayout
from node.stream.offer import Defrauded, InvalidOffer
from node.stream.orders import PurchaseFailed
from node.stream.pace import Window
from node.stream.provider import Provider
from node.stream.receipt import ChunkBought, Receipt
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.node_address import Ipv4, read_addresses
from wire.units import msat

BUYER, SELLER = "alice", "eric"
MEBIBYTE = 1 << 20


class Watcher(Protocol):
    """Who is told how the demo goes on."""

    def stage(self, text: str) -> None:
        """What happens from now on."""

    def channels_open(self) -> None:
        """From now on there is something to be left as it is."""

    def buying(self, manifest: Manifest) -> None:
        """The first chunk is about to be asked for."""

    def bought(self, chunk: ChunkBought) -> None:
        """One chunk more."""

    def page(self, url: str) -> None:
        """The film waits here for somebody who presses play."""


class CopyDiffers(Exception):
    """Every chunk was verified, and the file is not the film all the same."""

    def __init__(self, out: Path) -> None:
        super().__init__(f"{out} differs from its source")


class NotAnnounced(Exception):
    """Gossip tells of a node, but not where it listens."""

    def __init__(self, node_id: Point) -> None:
        super().__init__(f"{node_id.hex()} announces no address")


FAILURES = (
    PurchaseFailed,
    InvalidOffer,
    InvalidManifest,
    InvalidLayout,
    DecodeError,
    Defrauded,
    OverBudget,
    ContentChanged,
    CopyDiffers,
    NotAnnounced,
    PortTaken,
    WebPortTaken,
    Unreachable,
    PeerGone,
    OpeningFailed,
    InsufficientFunds,
    OSError,
)
"""How a demo may fail without a mistake in this code; each says why in a sentence."""


async def play(plan: Plan, watcher: Watcher) -> Account:
    """The whole story, from an empty chain to the account.

    Raises:
        ExceptionGroup: of a BadPlan, if only the running network can tell what is wrong with the
            plan, or of one of FAILURES.
    """
    began = trio.current_time()
    watcher.stage("starting a chain and five nodes")
    async with running_network(plan.seed, plan.first_port) as network:
        return await Demo(plan, watcher, network, began).play()


class Demo:
    """One playing of the story on a running network."""

    def __init__(self, plan: Plan, watcher: Watcher, network: Network, began: float) -> None:
        self._plan, self._watcher, self._network, self._began = plan, watcher, network, began
        self._buyer, self._seller = network.nodes[BUYER], network.nodes[SELLER]

    async def play(self) -> Account:
        """Open, sell, close, and add up."""
        network, watcher = self._network, self._watcher
        watcher.stage("opening four channels")
        await network.fund()
        before = network.balances_sat()
        await network.open_line(CAPACITY_SAT, msat(PUSHED_SAT))
        watcher.channels_open()
        watcher.stage("waiting until gossip has told everybody of everything")
        await network.wait_for_gossip()
        ready_seconds = trio.current_time() - self._began

        in_channels = self._in_channels_msat()
        film, receipt = await self._sell()
        await network.wait_for_quiet()
        earned = {name: amount - in_channels[name] for name, amount in self._in_channels_msat().items()}

        watcher.stage("closing every channel")
        closing = trio.current_time()
        await network.close_line()
        ended = trio.current_time()
        seconds = Seconds(
            ready=round(ready_seconds, 3),
            stream=round(receipt.seconds, 3),
            close=round(ended - closing, 3),
            total=round(ended - self._began, 3),
        )
        return await self._account(film, receipt, earned, before, seconds)

    async def _sell(self) -> tuple[Film, Receipt]:
        """Eric publishes the film, and Alice buys it."""
        plan, watcher = self._plan, self._watcher
        with FileSource(plan.film) as source:
            provider = Provider(self._seller)
            watcher.stage("Eric publishes the film")
            offered = await provider.publish(
                source, title=plan.name, price_msat=plan.price_msat, chunk_size=plan.chunk_size
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(provider.serve)
                receipt = await (self._watch(offered) if plan.is_web else self._buy(offered.root))
                nursery.cancel_scope.cancel()
        digest, layout = _sha256(plan.film), offered.layout
        if len(receipt.chunks) == layout.chunk_count and _sha256(plan.out) != digest:
            raise CopyDiffers(plan.out)
        film = Film(plan.name, layout.length, layout.chunk_count, offered.root.hex(), digest.hex())
        return film, receipt

    async def _buy(self, root: bytes) -> Receipt:
        """Alice knows the film's root; where Eric is she has from gossip, the rest from him."""
        plan, seller_id, chunks = self._plan, self._seller.node_id, list[ChunkBought]()

        def note(chunk: ChunkBought) -> None:
            chunks.append(chunk)
            self._watcher.bought(chunk)

        address = Address(seller_id, *announced_address(self._buyer, seller_id))
        library = Library(self._buyer, self._buyer.config.directory / "library", on_chunk=note)
        async with trio.open_nursery() as nursery:
            await nursery.start(library.run)
            try:
                title = await library.open(Link(root, (address,)), out=plan.out, window=Window(plan.window))
                self._check_means(title.manifest)
                self._watcher.buying(title.manifest)
                began = trio.current_time()
                await title.wait_until_delivered()
            finally:
                # the record of what was bought goes with the network, so a part is of no use
                hidden_part(plan.out).unlink(missing_ok=True)
            nursery.cancel_scope.cancel()
        if title.is_stopped and title.failure is not None:
            raise title.failure
        return Receipt(tuple(chunks), trio.current_time() - began)

    def _check_means(self, manifest: Manifest) -> None:
        """Raises BeyondMeans: the buyer's channel cannot pay for all of it."""
        means_msat, chunk_count = self._buyer.spendable_msat, manifest.layout.chunk_count
        budget = usual_budget(manifest)
        if manifest.total_msat + chunk_count * budget.fee_per_chunk_msat > means_msat:
            raise BeyondMeans(chunk_count, manifest.price_msat, means_msat)

    async def _watch(self, offered: Manifest) -> Receipt:
        """Alice watches it on a page as far as she likes, and buys what she watches."""
        seller_id, plan = self._seller.node_id, self._plan
        address = Address(seller_id, *announced_address(self._buyer, seller_id))
        self._watcher.buying(offered)
        link, directory = Link(offered.root, (address,)), self._buyer.config.directory / "library"
        return await watch(self._buyer, link, directory, plan.out, self._watcher)

    def _in_channels_msat(self) -> dict[str, int]:
        return {name: node.channel_balance_msat for name, node in self._network.nodes.items()}

    async def _account(
        self, film: Film, receipt: Receipt, earned: dict[str, int], before: dict[str, int], seconds: Seconds
    ) -> Account:
        network = self._network
        after = network.balances_sat()
        balances_sat = {name: BalanceSat(before[name], after[name]) for name in before}
        found = audit(await network.blocks(), [channel.funding for channel in network.channels])
        tip = await network.chain.tip()
        route = receipt.chunks[-1].route if receipt.chunks else ()
        return Account(
            film=film,
            route=(BUYER, *(network.name_of(node_id) for node_id in route)),
            paid_msat=earned[SELLER],
            fees_msat={name: amount for name, amount in earned.items() if name not in (BUYER, SELLER)},
            seconds=seconds,
            chunk_ms=chunk_ms([chunk.seconds for chunk in receipt.chunks]),
            goodput_mib_s=round(receipt.bytes / MEBIBYTE / receipt.seconds, 3),
            balances_sat=balances_sat,
            chain=ChainAccount(tip.height, found.onchain_fees_sat, found.transactions_per_channel),
            conserved=is_conserved(balances_sat, found.onchain_fees_sat),
        )


def announced_address(node: Node, node_id: Point) -> tuple[str, int]:
    """Where a node says that it listens, as this node heard by gossip.

    Raises:
        NotAnnounced: it did not say, or not in a way that we can use.
    """
    heard = node.graph.nodes.get(node_id)
    for address in read_addresses(heard.addresses) if heard else ():
        if isinstance(address, Ipv4):
            return address.host, address.port
    raise NotAnnounced(node_id)


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
