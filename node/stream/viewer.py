"""The buyer: turns money into a file, a window of chunks at a time.

As many tasks as the window has places take the next chunk each, and carry it all the way: ask,
gather the ciphertext, verify the offer, pay, decrypt, verify, write. So at most a window of
chunks is unpaid or paid and not yet opened, and no task is made for a chunk. Messages that
arrive only fill the parcel that waits for them.

What can go wrong by accident (a lost message, a payment without a route just now) is tried again
a bounded number of times. What can only be meant (an offer that does not verify, a chunk that is
not the one signed) ends the purchase.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec
import trio

from node.stream import messages
from node.stream.budget import Budget, OverBudget, Spent
from node.stream.manifest import Manifest
from node.stream.offer import Defrauded, InvalidOffer, open_chunk
from node.stream.orders import Catalogue, Orders, Patience, PurchaseFailed
from node.stream.ports import Node, Sink, Store
from node.stream.till import Till
from node.stream.title import ChunkBought, Title
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat


class Receipt(msgspec.Struct, frozen=True):
    """What a purchase came to; the chunks in the order in which they were done."""

    chunks: tuple[ChunkBought, ...]
    seconds: float

    @property
    def bytes(self) -> int:
        """The length of what was bought."""
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def paid_msat(self) -> Msat:
        """What the provider got."""
        return Msat(sum(chunk.price_msat for chunk in self.chunks))

    @property
    def fee_msat(self) -> Msat:
        """What the hops on the way got."""
        return Msat(sum(chunk.fee_msat for chunk in self.chunks))


class _Purchase(msgspec.Struct):
    """One content on its way from a provider to a sink."""

    manifest: Manifest
    sink: Sink
    budget: Budget
    indexes: Iterator[int]
    on_chunk: Callable[[ChunkBought], None] | None
    spent: Spent = Spent()
    done: list[ChunkBought] = msgspec.field(default_factory=list)
    failure: Exception | None = None


class Viewer:
    """Buys contents chunk by chunk over the node's connections and payments.

    The node must be connected to the provider; `call` is awaited with its id when it no longer is.
    """

    def __init__(
        self,
        node: Node,
        patience: Patience | None = None,
        *,
        call: Callable[[Point], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        patience = patience or Patience()
        self.orders = Orders(node, patience, call=call, clock=clock)
        self.till = Till(node, patience, clock=clock)

    async def fetch_manifest(self, provider: Point, root: bytes) -> Manifest:
        """The provider's manifest of a content, verified.

        Raises:
            PurchaseFailed: it does not answer, or refuses.
            InvalidManifest, DecodeError: what it sends is not that manifest.
        """
        return await self.orders.manifest(provider, root)

    async def browse(self, provider: Point) -> Catalogue:
        """What a provider sells; raises what `fetch_manifest` raises."""
        return await self.orders.catalogue(provider)

    def open_title(
        self, manifests: Sequence[Manifest], store: Store, budget: Budget, *, wants_all: bool = False
    ) -> Title:
        """A content to be watched or downloaded, sold by all these; nothing is bought until it runs."""
        return Title(self._node, self.orders, self.till, manifests, store, budget, wants_all=wants_all)

    async def buy(
        self,
        manifest: Manifest,
        sink: Sink,
        budget: Budget,
        *,
        window: int = 16,
        on_chunk: Callable[[ChunkBought], None] | None = None,
    ) -> Receipt:
        """Buy every chunk of a content and write it to the sink.

        Raises:
            PurchaseFailed: a chunk cannot be had.
            InvalidOffer, DecodeError: the provider offers something else than its manifest says.
            Defrauded: it sold something else than it offered.
            OverBudget: the next chunk would pass a limit.
            OSError: the sink does not take it.
        """
        assert 1 <= window <= messages.MAX_OPEN_REQUESTS, "no more requests would be heard"
        count = manifest.layout.chunk_count
        purchase = _Purchase(manifest, sink, budget, iter(range(count)), on_chunk)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(min(window, count)):
                nursery.start_soon(self._buy_chunks, purchase, nursery.cancel_scope)
        if purchase.failure is not None:
            raise purchase.failure
        return Receipt(tuple(purchase.done), trio.current_time() - began)

    async def _buy_chunks(self, purchase: _Purchase, scope: trio.CancelScope) -> None:
        """One place of the window; the first failure ends the others."""
        try:
            for index in purchase.indexes:
                bought = await self._buy_chunk(purchase, index)
                purchase.done.append(bought)
                if purchase.on_chunk is not None:
                    purchase.on_chunk(bought)
        except (PurchaseFailed, InvalidOffer, DecodeError, Defrauded, OverBudget, OSError) as failure:
            purchase.failure = purchase.failure or failure
            scope.cancel()

    async def _buy_chunk(self, purchase: _Purchase, index: int) -> ChunkBought:
        began, price_msat = trio.current_time(), purchase.manifest.price_msat
        purchase.spent = self.till.reserve(purchase.spent, purchase.budget, price_msat)
        try:
            delivery = await self.orders.chunk(purchase.manifest, index)
            payment = await self.till.pay(delivery.offer, purchase.budget.fee_per_chunk_msat)
        except (PurchaseFailed, InvalidOffer, DecodeError):
            purchase.spent = self.till.release(purchase.spent, price_msat)
            raise
        chunk = open_chunk(delivery.offer, delivery.ciphertext, payment.preimage)
        purchase.sink.write(purchase.manifest.layout.offset(index), chunk)
        seconds = trio.current_time() - began
        return ChunkBought(
            index, len(chunk), price_msat, payment.fee_msat, seconds, payment.route, delivery.tries
        )
