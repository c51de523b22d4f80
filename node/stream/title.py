"""One content that is being bought on the viewer's node, to be watched while it comes.

Whoever shows it reads bytes; what is not here yet is bought first, before anything else. Without
a reader that waits, the chunks after the playhead are bought ahead, as many as the pace of
reading asks for, or all of them for a download. Every chunk goes its whole way in one task: ask a
provider, verify, keep the ciphertext, pay, open, write. One loop decides which chunk is next, and
who sells it.

A failure that may pass sends a provider away for a while; what can only be meant sends it away
for good. When none is left, or the budget is at its end, the title stops and says why; `resume`
tries again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import trio

from node.daemon.payments import Status
from node.stream.bill import Bill
from node.stream.budget import Budget, OverBudget
from node.stream.chunk_map import ChunkMap
from node.stream.demand import Demand
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
from node.stream.seller import LACKING_SECONDS, Seller, choose, order_seconds
from node.stream.snapshot import Hop, Snapshot, hops_of, price_note, seller_figures
from node.stream.till import ChunkNotPaid, Gift, Till
from wire.codec import DecodeError
from wire.units import Msat

log = logging.getLogger("rill.stream")

MOST_PARKED = 256
"""How many chunks that nobody has yet are set aside."""
LOOK_AGAIN_SECONDS = 1.0
"""How often a payment that was on its way when the node ended is looked at."""


class TitleStopped(Exception):
    """The bytes asked for are not here, and nothing is bought until the title is resumed."""


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


class Title:
    """A content on its way, from one provider or several; `run` buys."""

    def __init__(
        self,
        desk: Desk,
        manifests: Sequence[Manifest],
        record: Record,
        budget: Budget,
        *,
        window: Window | None = None,
        on_chunk: Callable[[ChunkBought], None] | None = None,
    ) -> None:
        """All manifests are of one content, each by another provider."""
        assert manifests, "somebody must sell it"
        self._desk, self.record = desk, record
        self.manifest, self.layout = manifests[0], manifests[0].layout
        assert all((each.root, each.layout) == (self.root, self.layout) for each in manifests)
        self._sellers = [Seller(manifest) for manifest in manifests]
        self._chunks = ChunkMap(self.layout.chunk_count)
        self._demand = Demand(self.layout)
        self._window, self._on_chunk = window or Window(), on_chunk
        self._unwritten: dict[int, tuple[bytes, Purchase]] = {}
        """What was paid and could not be written, because the disk was full."""
        self._unproven: set[int] = set()
        """Chunks that were bought before this node started: somebody may have changed the file."""
        self._bill = self._opened(budget)
        self._route: tuple[Hop, ...] = ()
        self._is_paused = self._is_stopped = False
        self._parked = 0
        self._problem = ""
        self.failure: Exception | None = None
        self.delivered: Path | None = None
        self._version = 0
        self._changed = trio.Event()

    def _opened(self, budget: Budget) -> Bill:
        """The bill of what was bought before, whose chunks are here."""
        paid_msat = fee_msat = 0
        for purchase in self.record.purchases(self.layout.chunk_size):
            self._chunks.arrive(purchase.chunk)
            self._unproven.add(purchase.chunk)
            paid_msat, fee_msat = paid_msat + purchase.price_msat, fee_msat + purchase.fee_msat
        for waste in self.record.wasted():
            paid_msat, fee_msat = paid_msat + waste.price_msat, fee_msat + waste.fee_msat
        return Bill(self._desk.till, budget, paid_msat, fee_msat)

    # --- what its user may ask

    @property
    def root(self) -> bytes:
        """The name of the content."""
        return self.manifest.root

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is here."""
        return self._chunks.is_complete

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is bought until it is resumed; `failure` is why."""
        return self._is_stopped

    async def read(self, offset: int, size: int) -> bytes:
        """The bytes from `offset` on, as many as asked for or as there are to the end.

        What is missing is bought before anything else; the caller waits for all of it.

        Raises:
            TitleStopped: something is missing, and it is not being bought any more.
            OSError: what was bought cannot be read.
        """
        size = max(0, min(size, self.layout.length - offset))
        if not size:
            return b""
        chunk_size = self.layout.chunk_size
        wanted = range(offset // chunk_size, (offset + size - 1) // chunk_size + 1)
        self._demand.wait_for(wanted)
        self._note()
        try:
            while not self._prove(wanted):
                if self._is_stopped:
                    raise TitleStopped(self._problem)
                await self._changed.wait()
        finally:
            self._demand.leave(wanted)
        self._demand.pace.note(size, trio.current_time())
        return self.record.read(offset, size)

    async def prove_all(self) -> bool:
        """Whether everything is here and is what was bought; what is not is missing again.

        Raises:
            OSError: the file cannot be read.
        """
        is_whole = True
        for index in sorted(self._unproven):
            is_whole &= self._prove(range(index, index + 1))
            await trio.lowlevel.checkpoint()
        return is_whole and self.is_complete

    def _prove(self, wanted: range) -> bool:
        """Whether all of these chunks are here, and are what was bought."""
        for index in self._unproven.intersection(wanted) if self._unproven else ():
            self._unproven.discard(index)
            if not self.record.is_intact(self.layout, index):
                self._chunks.lose(index)
                self._note()
        return self._chunks.has(wanted)

    def prefer(self, offset: int) -> None:
        """The viewer is there now, or is about to be: buy ahead from this byte on."""
        self._demand.prefer(offset)
        self._note()

    def want_all(self) -> None:
        """From now on this is a download too."""
        self._demand.wants_all = True
        self._note()

    def pause(self) -> None:
        """Ask for nothing more; what is on its way still comes."""
        self._is_paused = True
        self._note()

    def resume(self) -> None:
        """Go on after `pause`, or try again after a stop, with the providers that were given up too."""
        self._is_paused = self._is_stopped = False
        self._problem, self.failure = "", None
        for seller in self._sellers:
            seller.pardon()
        try:
            self._write()
        except OSError as error:
            self._stop_for_disk(error)
        self._note()

    def stop(self, problem: str) -> None:
        """Buy nothing more until it is resumed, and say why."""
        self._is_stopped, self._problem = True, problem
        self._note()

    def deliver(self, path: Path) -> None:
        """The download is whole and has its name."""
        self.delivered = path
        self._note()

    def allow(self, budget: Budget) -> None:
        """Change what may be spent; goes on if the old budget was what stopped it."""
        self._bill.budget = budget
        self.resume()

    async def wait_changed(self, version: int) -> Snapshot:
        """The title's next state after this version; at once if there is one already."""
        while self._version <= version:
            await self._changed.wait()
        return self.snapshot()

    async def wait_until_whole(self) -> None:
        """Return once everything is here and wanted."""
        while not (self.is_complete and self._demand.wants_all):
            await self._changed.wait()

    async def wait_until_delivered(self) -> None:
        """Return once a download has its name, or the title has stopped."""
        while self.delivered is None and not self._is_stopped:
            await self._changed.wait()

    # --- buying

    async def run(self) -> None:
        """Buy what is wanted, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.record.run)
            self._recover(nursery)
            while True:
                changed = self._changed
                self._start_due(nursery)
                with trio.move_on_after(self._seconds_to_next_try()):
                    await changed.wait()

    def _start_due(self, nursery: trio.Nursery) -> None:
        """Begin to buy as many chunks as are wanted and as there is room for."""
        now, window = trio.current_time(), self._window.size(self.layout.chunk_size, self._price_msat())
        while not self._is_paused and not self._is_stopped and self._on_the_way() < window:
            wanted = self._demand.next_wanted(self._chunks, self._slowest(), now)
            if wanted is None:
                return
            index, is_urgent = wanted
            seller = choose(self._sellers, index, now, window, is_urgent=is_urgent)
            if seller is None:
                if all(seller.is_out for seller in self._sellers):
                    self.stop(_reasons(self._sellers))
                if not self._is_lacking(index, now) or self._parked >= MOST_PARKED:
                    return
                nursery.start_soon(self._park, index)
                self._chunks.come(index)
                self._parked += 1
                continue
            try:
                self._bill.reserve(seller.manifest.price_of(index))
            except OverBudget as over:
                self.failure = over
                self.stop(str(over))
                return
            self._chunks.come(index)
            seller.on_the_way += 1
            nursery.start_soon(self._buy, index, seller)

    def _is_lacking(self, index: int, now: float) -> bool:
        """Whether the only reason to wait for a chunk is that its sellers buy it themselves."""
        return any(seller.is_ready(now) and not seller.has(index, now) for seller in self._sellers)

    async def _park(self, index: int) -> None:
        """Leave a chunk that nobody has yet, so that others are bought meanwhile."""
        await trio.sleep(LACKING_SECONDS)
        self._parked -= 1
        self._chunks.miss(index)
        self._note()

    def _on_the_way(self) -> int:
        return sum(seller.on_the_way - seller.stuck for seller in self._sellers)

    def _slowest(self) -> float:
        return max(seller.seconds for seller in self._sellers)

    def _price_msat(self) -> Msat:
        """Of the next chunk, from the cheapest that sells."""
        selling = [seller.price_msat for seller in self._sellers if not seller.is_out]
        return min(selling, default=self.manifest.price_msat)

    def _seconds_to_next_try(self) -> float:
        now = trio.current_time()
        times = [seller.ready_at for seller in self._sellers if not seller.is_out]
        times += [at for seller in self._sellers for at in seller.lacking.values()]
        return min((at - now for at in times if at > now), default=float("inf"))

    async def _buy(self, index: int, seller: Seller) -> None:
        """One chunk's whole way; whatever ends it is noted with its seller or with the title."""
        began, manifest = trio.current_time(), seller.manifest
        payment: Payment | None = None
        try:
            delivery = await self._order(index, seller)
            payment = await self._pay(index, seller, delivery)
            self._open(seller, delivery.offer, delivery.ciphertext, payment)
            self._window.grow()
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
            self._stop_for_disk(error)
        finally:
            if payment is None:
                self._bill.release(manifest.price_of(index))
            seller.on_the_way -= 1
            if index not in self._unwritten:
                self._chunks.miss(index)
            self._note()

    def _blame(self, index: int, seller: Seller, failure: Exception) -> None:
        """Send a seller away, for a while or for good."""
        now, text = trio.current_time(), str(failure)
        if isinstance(failure, ProviderRefused) and failure.reason is Reason.NOT_HERE_YET:
            seller.lacks(index, now)
            return
        self.failure = failure
        if isinstance(failure, ChunkNotPaid):
            self._window.shrink()
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
        limit = order_seconds(seller, self._sellers, trio.current_time())
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
                payment = await desk.till.pay(delivery.offer, self._bill.budget.fee_per_chunk_msat)
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
        self._chunks.miss(index)
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
        self._bill.settle(payment)
        if seller is not None:
            seller.paid_msat += payment.amount_msat
            seller.fee_msat += payment.fee_msat
        if payment.route:
            self._route = hops_of(payment, self._desk.node.graph)
        try:
            chunk = open_chunk(offer, ciphertext, payment.preimage)
        except Defrauded:
            self._waste(terms, payment)
            raise
        if self._chunks.is_here(terms.index):
            self._waste(terms, payment)
            return
        self._unwritten[terms.index] = (chunk, self._purchase(terms, payment))
        self._write()

    def _write(self) -> None:
        """Put what was paid and opened into its place; raises OSError, and keeps it then."""
        for index, (chunk, purchase) in list(self._unwritten.items()):
            self.record.write(self.layout.offset(index), chunk)
            self.record.enter(purchase)
            self._chunks.arrive(index)
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

    def _stop_for_disk(self, error: OSError) -> None:
        self.failure = error
        self.stop(f"what was bought cannot be kept: {error.strerror or error}")

    def _note(self) -> None:
        """Something changed: wake the loop, the readers and whoever shows it."""
        self._version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # --- after a crash

    def _recover(self, nursery: trio.Nursery) -> None:
        """Take up what was about to be paid, or was paid and not entered, when the node ended."""
        for offer, ciphertext in self.record.sealed():
            terms = offer.terms
            state = self._desk.node.payment(terms.payment_hash)
            if terms.root != self.root or terms.layout != self.layout:
                continue
            if state is None or state.status is Status.FAILED or self.record.is_entered(terms):
                self.record.drop(terms.payment_hash)
                continue
            self._bill.reserve_again(terms.price_msat)
            self._chunks.come(terms.index)
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
                self._bill.release(terms.price_msat)
                self.record.drop(terms.payment_hash)
                return
            paid = Gift(state.payment_preimage, terms.price_msat, state.fee_msat)
            self._open(None, offer, ciphertext, paid)
        except Defrauded as fraud:
            keep_fraud(self._desk.frauds, fraud.evidence)
        except OSError as error:
            self._stop_for_disk(error)
        finally:
            if terms.index not in self._unwritten:
                self._chunks.miss(terms.index)
            self._note()

    # --- showing

    def snapshot(self) -> Snapshot:
        """The title as it stands now."""
        layout, now, bill, chunks = self.layout, trio.current_time(), self._bill, self._chunks
        price_msat = self._price_msat()
        away = [seller.problem for seller in self._sellers if seller.problem]
        graph = self._desk.node.graph
        return Snapshot(
            version=self._version,
            root=self.root.hex(),
            title=self.manifest.title,
            length=layout.length,
            chunk_size=layout.chunk_size,
            chunk_count=layout.chunk_count,
            chunks_bought=chunks.here,
            bought=tuple(chunks.runs()),
            on_the_way=tuple(chunks.coming()),
            playhead=self._demand.playhead,
            ahead=self._demand.ahead(self._slowest(), now),
            window=self._window.size(layout.chunk_size, price_msat),
            price_msat=price_msat,
            spent_msat=bill.paid_msat,
            fee_msat=bill.fee_msat,
            reserved_msat=bill.reserved_msat,
            left_msat=bill.left_msat,
            budget=bill.budget,
            providers=tuple(seller_figures(seller, graph, now) for seller in self._sellers),
            route=self._route,
            is_paused=self._is_paused,
            is_stopped=self._is_stopped,
            is_complete=self.is_complete,
            delivered=str(self.delivered or ""),
            problem=self._problem or "; ".join(away),
            price_note=price_note(price_msat),
        )


def _bought(size: int, delivery: Delivery, payment: Payment, seconds: float) -> ChunkBought:
    index, amount_msat = delivery.offer.terms.index, payment.amount_msat
    return ChunkBought(index, size, amount_msat, payment.fee_msat, seconds, payment.route, delivery.tries)


def _reasons(sellers: Sequence[Seller]) -> str:
    reasons = list(dict.fromkeys(seller.problem for seller in sellers))
    return "nobody sells it any more: " + "; ".join(reasons)
