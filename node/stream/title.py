"""One content that is being bought on the viewer's node, to be watched while it comes.

Whoever shows it reads bytes; what is not here yet is bought first, before anything else. Without
a reader that waits, the chunks after the playhead are bought ahead, as many as the pace of
reading asks for, or all of them for a download. Every chunk goes its whole way in one task: ask a
provider, verify, pay, open, write. One loop decides which chunk is next, and who sells it.

A failure that may pass sends a provider away for a while; what can only be meant sends it away
for good. When none is left, or the budget is at its end, the title stops and says why; `resume`
tries again.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec
import trio

from node.stream.budget import Budget, OverBudget, Spent
from node.stream.manifest import Manifest
from node.stream.offer import Defrauded, InvalidOffer, open_chunk
from node.stream.orders import Orders, PurchaseFailed
from node.stream.pace import Pace
from node.stream.ports import Node, Payment, Store
from node.stream.seller import Seller, choose
from node.stream.snapshot import Hop, SellerFigures, Snapshot, alias_of, hops_of
from node.stream.till import Till
from wire.codec import DecodeError
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")

_MISSING, _COMING, _HERE = 0, 1, 2
_ONE_MISSING = bytes([_MISSING])
DUST_LIMIT_SAT = 354
"""Below it, an HTLC has no output of its own on chain (BOLT 3, trimmed outputs)."""


class TitleStopped(Exception):
    """The bytes asked for are not here, and nothing is bought until the title is resumed."""


class ChunkBought(msgspec.Struct, frozen=True, gc=False):
    """One chunk is paid, opened, verified and written."""

    index: int
    bytes: int
    price_msat: Msat
    fee_msat: Msat
    seconds: float
    route: tuple[Point, ...]
    tries: int


class Title:
    """A content on its way, from one provider or several; `run` buys."""

    def __init__(
        self,
        node: Node,
        orders: Orders,
        till: Till,
        manifests: Sequence[Manifest],
        store: Store,
        budget: Budget,
        *,
        wants_all: bool = False,
        window: int = 16,
        on_chunk: Callable[[ChunkBought], None] | None = None,
    ) -> None:
        """All manifests are of one content, each by another provider; `wants_all` is a download."""
        assert manifests, "somebody must sell it"
        self._node, self._orders, self._till, self._store = node, orders, till, store
        self.manifest, self.layout = manifests[0], manifests[0].layout
        assert all((each.root, each.layout) == (self.root, self.layout) for each in manifests)
        self._sellers = [Seller(manifest) for manifest in manifests]
        self._budget, self._wants_all, self._window = budget, wants_all, window
        self._on_chunk = on_chunk
        self._chunks = bytearray(self.layout.chunk_count)
        self._here = 0
        self._readers: list[range] = []
        self._playhead = 0
        self._pace = Pace()
        self._reserved = Spent()
        self._paid_msat = self._fee_msat = 0
        self._route: tuple[Hop, ...] = ()
        self._is_paused = False
        self._problem = ""
        self._is_stopped = False
        self._version = 0
        self._changed = trio.Event()

    # --- what its user may ask

    @property
    def root(self) -> bytes:
        """The name of the content."""
        return self.manifest.root

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is here."""
        return self._here == self.layout.chunk_count

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
        self._playhead = wanted.start
        self._readers.append(wanted)
        self._note()
        try:
            while not self._has(wanted):
                if self._is_stopped:
                    raise TitleStopped(self._problem)
                await self._changed.wait()
        finally:
            self._readers.remove(wanted)
        self._pace.note(size, trio.current_time())
        return self._store.read(offset, size)

    def prefer(self, offset: int) -> None:
        """The viewer is there now, or is about to be: buy ahead from this byte on."""
        last = self.layout.chunk_count - 1
        self._playhead = max(0, min(offset // self.layout.chunk_size, last))
        self._note()

    def pause(self) -> None:
        """Ask for nothing more; what is on its way still comes."""
        self._is_paused = True
        self._note()

    def resume(self) -> None:
        """Go on after `pause`, or try again after a stop, with the providers that were given up too."""
        self._is_paused = self._is_stopped = False
        self._problem = ""
        for seller in self._sellers:
            seller.pardon()
        self._note()

    def allow(self, budget: Budget) -> None:
        """Change what may be spent; goes on if the old budget was what stopped it."""
        self._budget = budget
        self.resume()

    async def wait_changed(self, version: int) -> Snapshot:
        """The title's next state after this version; at once if there is one already."""
        while self._version <= version:
            await self._changed.wait()
        return self.snapshot()

    # --- buying

    async def run(self) -> None:
        """Buy until everything is here."""
        async with trio.open_nursery() as nursery:
            while not self.is_complete:
                changed = self._changed
                self._start_due(nursery)
                with trio.move_on_after(self._seconds_to_next_try()):
                    await changed.wait()

    def _start_due(self, nursery: trio.Nursery) -> None:
        """Begin to buy as many chunks as are wanted and as there is room for."""
        while not self._is_paused and not self._is_stopped and self._on_the_way() < self._window:
            index = self._next_wanted()
            if index is None:
                return
            seller = choose(self._sellers, trio.current_time(), self._window)
            if seller is None:
                if all(seller.is_out for seller in self._sellers):
                    self._stop(_reasons(self._sellers))
                return
            try:
                price_msat = seller.manifest.price_of(index)
                self._reserved = self._till.reserve(self._reserved, self._budget, price_msat)
            except OverBudget as over:
                self._stop(str(over))
                return
            self._chunks[index] = _COMING
            seller.on_the_way += 1
            nursery.start_soon(self._buy, index, seller)

    def _next_wanted(self) -> int | None:
        """The chunk that is missed most: by a reader, then ahead of the playhead, then anywhere."""
        for wanted in self._readers:
            found = self._first_missing(wanted.start, wanted.stop)
            if found is not None:
                return found
        if self._wants_all:
            after = self._first_missing(self._playhead, len(self._chunks))
            return self._first_missing(0, self._playhead) if after is None else after
        return self._first_missing(self._playhead, self._playhead + self._ahead())

    def _first_missing(self, start: int, stop: int) -> int | None:
        found = self._chunks.find(_ONE_MISSING, start, stop)
        return None if found < 0 else found

    def _ahead(self) -> int:
        """How many chunks after the playhead the pace of reading asks for."""
        slowest = max(seller.seconds for seller in self._sellers)
        return self._pace.ahead_chunks(self.layout.chunk_size, slowest, trio.current_time())

    def _on_the_way(self) -> int:
        return sum(seller.on_the_way for seller in self._sellers)

    def _seconds_to_next_try(self) -> float:
        now = trio.current_time()
        pauses = [seller.ready_at - now for seller in self._sellers if not seller.is_out]
        return min((pause for pause in pauses if pause > 0), default=float("inf"))

    async def _buy(self, index: int, seller: Seller) -> None:
        """One chunk's whole way; whatever ends it is noted with its seller or with the title."""
        try:
            await self._buy_from(index, seller)
        except PurchaseFailed as failed:
            seller.blame(str(failed), trio.current_time())
        except (InvalidOffer, DecodeError, Defrauded) as meant:
            log.warning("provider %s: %s", seller.manifest.provider.hex(), meant)
            seller.expel(str(meant))
        except OSError as error:
            self._stop(f"what was bought cannot be kept: {error.strerror or error}")
        finally:
            seller.on_the_way -= 1
            if self._chunks[index] == _COMING:
                self._chunks[index] = _MISSING
            self._note()

    async def _buy_from(self, index: int, seller: Seller) -> None:
        began, manifest = trio.current_time(), seller.manifest
        try:
            delivery = await self._orders.chunk(manifest, index)
            payment = await self._till.pay(delivery.offer, self._budget.fee_per_chunk_msat)
        except BaseException:
            self._reserved = self._till.release(self._reserved, manifest.price_of(index))
            raise
        self._account(seller, payment)
        chunk = open_chunk(delivery.offer, delivery.ciphertext, payment.preimage)
        self._store.write(self.layout.offset(index), chunk)
        self._chunks[index] = _HERE
        self._here += 1
        seconds = trio.current_time() - began
        seller.praise(seconds)
        seller.chunks += 1
        seller.bytes += len(chunk)
        if self._on_chunk is not None:
            price, fee, route = payment.amount_msat, payment.fee_msat, payment.route
            self._on_chunk(ChunkBought(index, len(chunk), price, fee, seconds, route, delivery.tries))

    def _account(self, seller: Seller, payment: Payment) -> None:
        """The money is gone, whatever the key opens."""
        self._paid_msat += payment.amount_msat
        self._fee_msat += payment.fee_msat
        seller.paid_msat += payment.amount_msat
        seller.fee_msat += payment.fee_msat
        if payment.route:
            self._route = hops_of(payment, self._node.graph)

    def _stop(self, problem: str) -> None:
        self._is_stopped, self._problem = True, problem
        self._note()

    def _has(self, wanted: range) -> bool:
        return self._chunks.count(_HERE, wanted.start, wanted.stop) == len(wanted)

    def _note(self) -> None:
        """Something changed: wake the loop, the readers and whoever shows it."""
        self._version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # --- showing

    def snapshot(self) -> Snapshot:
        """The title as it stands now."""
        layout, now = self.layout, trio.current_time()
        selling = [seller.price_msat for seller in self._sellers if not seller.is_out]
        price_msat = min(selling, default=self.manifest.price_msat)
        away = [seller.problem for seller in self._sellers if seller.problem]
        return Snapshot(
            version=self._version,
            root=self.root.hex(),
            title=self.manifest.title,
            length=layout.length,
            chunk_size=layout.chunk_size,
            chunk_count=layout.chunk_count,
            chunks_bought=self._here,
            bought=tuple(runs_of(self._chunks)),
            on_the_way=tuple(index for index, state in enumerate(self._chunks) if state == _COMING),
            playhead=self._playhead,
            ahead=self._ahead(),
            price_msat=price_msat,
            spent_msat=Msat(self._paid_msat),
            fee_msat=Msat(self._fee_msat),
            reserved_msat=Msat(self._reserved.msat - self._paid_msat),
            left_msat=Msat(self._budget.per_title_msat - self._reserved.msat),
            budget=self._budget,
            providers=tuple(self._figures(seller, now) for seller in self._sellers),
            route=self._route,
            is_paused=self._is_paused,
            is_stopped=self._is_stopped,
            is_complete=self.is_complete,
            problem=self._problem or "; ".join(away),
            price_note=price_note(price_msat),
        )

    def _figures(self, seller: Seller, now: float) -> SellerFigures:
        return SellerFigures(
            node_id=seller.manifest.provider.hex(),
            alias=alias_of(self._node.graph, seller.manifest.provider),
            price_msat=seller.price_msat,
            chunks=seller.chunks,
            bytes=seller.bytes,
            paid_msat=Msat(seller.paid_msat),
            fee_msat=Msat(seller.fee_msat),
            on_the_way=seller.on_the_way,
            bytes_per_second=int(seller.bytes_per_second),
            failures=seller.failures,
            state=seller.state(now),
            problem=seller.problem,
        )


def runs_of(chunks: bytearray) -> list[tuple[int, int]]:
    """The runs of chunks that are here, each from its first to the one after its last."""
    runs, start, here = list[tuple[int, int]](), 0, bytes([_HERE])
    while (first := chunks.find(here, start)) >= 0:
        rest = chunks[first:].lstrip(here)
        start = len(chunks) - len(rest)
        runs.append((first, start))
    return runs


def price_note(price_msat: Msat) -> str:
    """What a price below the dust limit means, for the one who pays it; empty if it is not."""
    if price_msat >= DUST_LIMIT_SAT * 1000:
        return ""
    return (
        f"A chunk costs {price_msat / 1000:g} sat, less than the {DUST_LIMIT_SAT} sat that an output on "
        "chain must have: while a payment is on its way, it stands on the word of the nodes that carry "
        "it. If a channel closes just then, that one chunk's price may be lost to fees."
    )


def _reasons(sellers: Sequence[Seller]) -> str:
    reasons = list(dict.fromkeys(seller.problem for seller in sellers))
    return "nobody sells it any more: " + "; ".join(reasons)
