"""The trade of one title: one chunk's whole way, from a provider into the file, and what it costs.

Ask, verify, keep the ciphertext, pay, open, write, enter. A failure that may pass sends a provider
away for a while; what can only be meant sends it away for good. After a crash, what was paid and not
entered is found among the ciphertexts, and the node's own payments tell what they came to.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import trio

from node.daemon.payments import Status
from node.stream.bill import Bill
from node.stream.budget import Budget
from node.stream.chunk_map import ChunkMap
from node.stream.fraud import keep_fraud
from node.stream.manifest import InvalidManifest, Manifest
from node.stream.messages import Reason
from node.stream.offer import (
    Defrauded,
    InvalidOffer,
    Offer,
    OfferExpired,
    OfferReused,
    Terms,
    WrongOffer,
    open_chunk,
)
from node.stream.orders import Delivery, Orders, Patience, ProviderRefused, PurchaseFailed
from node.stream.pace import Window
from node.stream.ports import Node, Payment
from node.stream.purchase_book import Purchase, Waste
from node.stream.receipt import ChunkBought
from node.stream.record import Record
from node.stream.seller import Seller, order_seconds
from node.stream.snapshot import Hop, hops_of
from node.stream.till import ChunkNotPaid, Gift, Till
from wire.codec import DecodeError

log = logging.getLogger("rill.stream")

LOOK_AGAIN_SECONDS = 1.0
"""How often a payment that was on its way when the node ended is looked at."""


class TooSlow(PurchaseFailed):
    """Another provider would have brought the chunk by now."""

    def __init__(self, index: int, seconds: float) -> None:
        self.index, self.seconds = index, seconds
        super().__init__(f"chunk {index} was not here after {seconds:.0f} seconds")


class Desk(msgspec.Struct, frozen=True):
    """What all titles of a node share."""

    node: Node
    orders: Orders
    till: Till
    patience: Patience
    frauds: Path
    """The directory of the proofs."""
    clock: Callable[[], float] = time.time


class Trade:
    """Buys the chunks of one title, each from the seller that it is told."""

    def __init__(
        self,
        desk: Desk,
        record: Record,
        manifests: Sequence[Manifest],
        budget: Budget,
        *,
        window: Window,
        on_chunk: Callable[[ChunkBought], None] | None,
        note: Callable[[], None],
        stop: Callable[[str], None],
    ) -> None:
        """`note` is called after every change, `stop` with the reason when nothing more can be bought."""
        self._desk, self.record = desk, record
        self.root, self.layout = manifests[0].root, manifests[0].layout
        self.sellers = [Seller(manifest) for manifest in manifests]
        self.chunks = ChunkMap(self.layout.chunk_count)
        self.window, self._on_chunk = window, on_chunk
        self._note, self._stop = note, stop
        self._unwritten: dict[int, tuple[bytes, Purchase]] = {}
        """What was paid and could not be written, because the disk was full."""
        self.unproven: set[int] = set()
        """Chunks that were bought before this node started: somebody may have changed the file."""
        self.bill = self._opened(budget)
        self.route: tuple[Hop, ...] = ()
        self.failure: Exception | None = None

    def _opened(self, budget: Budget) -> Bill:
        """The bill of what was bought before, whose chunks are here."""
        paid_msat = fee_msat = 0
        for purchase in self.record.purchases(self.layout.chunk_size):
            self.chunks.arrive(purchase.chunk)
            self.unproven.add(purchase.chunk)
            paid_msat, fee_msat = paid_msat + purchase.price_msat, fee_msat + purchase.fee_msat
        for waste in self.record.wasted():
            paid_msat, fee_msat = paid_msat + waste.price_msat, fee_msat + waste.fee_msat
        return Bill(self._desk.till, budget, paid_msat, fee_msat)

    async def buy(self, index: int, seller: Seller) -> None:
        """One chunk's whole way; whatever ends it is noted with its seller or with the title."""
        began, manifest = trio.current_time(), seller.manifest
        payment: Payment | None = None
        try:
            delivery = await self._order(index, seller)
            payment = await self._pay(index, seller, delivery)
            self._open(seller, delivery.offer, delivery.ciphertext, payment)
            self.window.grow()
            seconds = trio.current_time() - began
            seller.praise(seconds, self.layout.chunk_bytes(index))
            if self._on_chunk is not None:
                self._on_chunk(_bought(self.layout.chunk_bytes(index), delivery, payment, seconds))
        except WrongOffer as wrong:
            self.failure = wrong
            await self._ask_price_again(seller, manifest, wrong)
        except (PurchaseFailed, OfferExpired, InvalidOffer, DecodeError, Defrauded) as failure:
            self._blame(index, seller, failure)
        except OSError as error:
            self.stop_for_disk(error)
        finally:
            if payment is None:
                self.bill.release(manifest.price_of(index))
            seller.on_the_way -= 1
            if index not in self._unwritten:
                self.chunks.miss(index)
            self._note()

    def _blame(self, index: int, seller: Seller, failure: Exception) -> None:
        """Send a seller away, for a while or for good."""
        now, text = trio.current_time(), str(failure)
        if isinstance(failure, ProviderRefused) and failure.reason is Reason.NOT_HERE_YET:
            seller.lacks(index, now)
            return
        self.failure = failure
        if isinstance(failure, ChunkNotPaid):
            self.window.shrink()
        if isinstance(failure, PurchaseFailed | OfferExpired):
            seller.blame(text, now)
            return
        log.warning("provider %s: %s", seller.manifest.provider.hex(), text)
        if isinstance(failure, Defrauded):
            proof = keep_fraud(self._desk.frauds, failure.evidence)
            seller.expel(f"{text}; the proof is in {proof}", proof)
        else:
            seller.expel(text)

    async def _order(self, index: int, seller: Seller) -> Delivery:
        limit = order_seconds(seller, self.sellers, trio.current_time())
        with trio.move_on_after(limit):
            return await self._desk.orders.chunk(seller.manifest, index)
        raise TooSlow(index, limit)

    async def _pay(self, index: int, seller: Seller, delivery: Delivery) -> Payment:
        """Pay, keeping what is paid for until it is entered; if no key comes, let others sell the chunk."""
        terms, desk = delivery.offer.terms, self._desk
        state = desk.node.payment(terms.payment_hash)
        if state is not None and state.status is not Status.FAILED:
            # looked at before sealing, which must not replace what this hash has paid for
            raise OfferReused(index)
        self.record.seal(delivery.offer, delivery.ciphertext)
        failure: PurchaseFailed | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_for_key, index, seller)
            try:
                payment = await desk.till.pay(delivery.offer, self.bill.budget.fee_per_chunk_msat)
            except PurchaseFailed as failed:
                failure = failed
            nursery.cancel_scope.cancel()
        if failure is not None:
            self.record.drop(terms.payment_hash)
            raise failure
        return payment

    async def _watch_for_key(self, index: int, seller: Seller) -> None:
        """Once a payment has been on its way for long, let others sell its chunk."""
        await trio.sleep(self._desk.patience.reveal_seconds)
        seller.stuck += 1
        seller.problem = f"the key of chunk {index} does not come, though its payment is on its way"
        self.chunks.miss(index)
        self._note()
        try:
            await trio.sleep_forever()
        finally:
            seller.stuck -= 1

    def _open(self, seller: Seller | None, offer: Offer, ciphertext: bytes, payment: Payment) -> None:
        """The money is gone: have the chunk, unless it came from somebody else meanwhile.

        Raises:
            Defrauded: it is not the chunk that was signed.
            OSError: it cannot be written; its ciphertext is still kept.
        """
        terms = offer.terms
        self.bill.settle(payment)
        if seller is not None:
            seller.paid_msat += payment.amount_msat
            seller.fee_msat += payment.fee_msat
        if payment.route:
            self.route = hops_of(payment, self._desk.node.graph)
        try:
            chunk = open_chunk(offer, ciphertext, payment.preimage)
        except Defrauded:
            self._waste(terms, payment)
            raise
        if self.chunks.is_here(terms.index):
            self._waste(terms, payment)
            return
        self._unwritten[terms.index] = (chunk, self._purchase(terms, payment))
        self.write()

    def write(self) -> None:
        """Put what was paid and opened into its place; raises OSError, and keeps it then."""
        for index, (chunk, purchase) in list(self._unwritten.items()):
            self.record.write(self.layout.offset(index), chunk)
            self.record.enter(purchase)
            self.chunks.arrive(index)
            del self._unwritten[index]

    def _purchase(self, terms: Terms, payment: Payment) -> Purchase:
        return Purchase(
            terms.index,
            terms.provider,
            payment.amount_msat,
            payment.fee_msat,
            int(self._desk.clock()),
            terms.subtree_hash,
            b"".join(terms.proof),
            terms.payment_hash,
        )

    def _waste(self, terms: Terms, payment: Payment) -> None:
        now = int(self._desk.clock())
        waste = Waste(terms.payment_hash, terms.provider, payment.amount_msat, payment.fee_msat, now)
        self.record.enter_waste(waste)
        self.record.drop(terms.payment_hash)

    async def _ask_price_again(self, seller: Seller, before: Manifest, wrong: WrongOffer) -> None:
        """A provider may change its price: ask for its new manifest, and let the budget decide."""
        try:
            fresh = await self._desk.orders.manifest(seller.manifest.provider, self.root)
        except (PurchaseFailed, InvalidManifest, DecodeError) as failure:
            seller.blame(str(failure), trio.current_time())
            return
        if fresh.layout != self.layout or fresh.raw == before.raw:
            seller.expel(str(wrong))
            return
        log.info("provider %s changed its price: %s", fresh.provider.hex(), wrong)
        seller.manifest = fresh
        seller.problem = f"its price changed to {fresh.price_msat} msat"

    def stop_for_disk(self, error: OSError) -> None:
        self.failure = error
        self._stop(f"what was bought cannot be kept: {error.strerror or error}")

    def recover(self, nursery: trio.Nursery) -> None:
        """Take up what was about to be paid, or was paid and not entered, when the node ended."""
        for offer, ciphertext in self.record.sealed():
            terms = offer.terms
            state = self._desk.node.payment(terms.payment_hash)
            if terms.root != self.root or terms.layout != self.layout:
                continue
            if state is None or state.status is Status.FAILED or self.record.is_entered(terms):
                self.record.drop(terms.payment_hash)
                continue
            self.bill.reserve_again(terms.price_msat)
            self.chunks.come(terms.index)
            nursery.start_soon(self._open_later, offer, ciphertext)

    async def _open_later(self, offer: Offer, ciphertext: bytes) -> None:
        """Open what was paid before the crash, once its payment is decided."""
        terms = offer.terms
        while True:
            state = self._desk.node.payment(terms.payment_hash)
            if state is None or state.status is not Status.PENDING:
                break
            await trio.sleep(LOOK_AGAIN_SECONDS)
        try:
            if state is None or state.payment_preimage is None:
                self.bill.release(terms.price_msat)
                self.record.drop(terms.payment_hash)
                return
            paid = Gift(state.payment_preimage, terms.price_msat, state.fee_msat)
            self._open(None, offer, ciphertext, paid)
        except Defrauded as fraud:
            keep_fraud(self._desk.frauds, fraud.evidence)
        except OSError as error:
            self.stop_for_disk(error)
        finally:
            if terms.index not in self._unwritten:
                self.chunks.miss(terms.index)
            self._note()


def _bought(size: int, delivery: Delivery, payment: Payment, seconds: float) -> ChunkBought:
    index, amount_msat = delivery.offer.terms.index, payment.amount_msat
    return ChunkBought(index, size, amount_msat, payment.fee_msat, seconds, payment.route, delivery.tries)
