"""One content that is being bought on the viewer's node, to be watched while it comes.

Whoever shows it reads bytes; what is not here yet is bought first, before anything else. Without
a reader that waits, the chunks after the playhead are bought ahead, as many as the pace of
reading asks for, or all of them for a download. One loop decides which chunk is next and who sells
it; how it is bought is the trade's.

When no provider is left, or the budget is at its end, the title stops and says why; `resume` tries
again.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import trio

from node.stream.budget import Budget, OverBudget
from node.stream.demand import Demand
from node.stream.manifest import Manifest
from node.stream.pace import Window
from node.stream.receipt import ChunkBought
from node.stream.record import Record
from node.stream.seller import LACKING_SECONDS, Seller, choose
from node.stream.snapshot import Snapshot, price_note, seller_figures
from node.stream.trade import Desk, Trade
from wire.units import Msat

log = logging.getLogger("rill.stream")

MOST_PARKED = 256
"""How many chunks that nobody has yet are set aside."""
LOOK_AGAIN_SECONDS = 1.0
"""How often a payment that was on its way when the node ended is looked at."""


class TitleStopped(Exception):
    """The bytes asked for are not here, and nothing is bought until the title is resumed."""


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
        self._trade = Trade(
            desk,
            record,
            manifests,
            budget,
            window=window or Window(),
            on_chunk=on_chunk,
            note=self._note,
            stop=self.stop,
        )
        self._demand = Demand(self.layout)
        self._is_paused = self._is_stopped = False
        self._parked = 0
        self._problem = ""
        self.delivered: Path | None = None
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
        return self._trade.chunks.is_complete

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is bought until it is resumed; `failure` is why."""
        return self._is_stopped

    @property
    def failure(self) -> Exception | None:
        """What last went wrong, if nothing was bought since it was resumed."""
        return self._trade.failure

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
        for index in sorted(self._trade.unproven):
            is_whole &= self._prove(range(index, index + 1))
            await trio.lowlevel.checkpoint()
        return is_whole and self.is_complete

    def _prove(self, wanted: range) -> bool:
        """Whether all of these chunks are here, and are what was bought."""
        for index in self._trade.unproven.intersection(wanted) if self._trade.unproven else ():
            self._trade.unproven.discard(index)
            if not self.record.is_intact(self.layout, index):
                self._trade.chunks.lose(index)
                self._note()
        return self._trade.chunks.has(wanted)

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
        self._problem = ""
        self._trade.failure = None
        for seller in self._trade.sellers:
            seller.pardon()
        try:
            self._trade.write()
        except OSError as error:
            self._trade.stop_for_disk(error)
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
        self._trade.bill.budget = budget
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
            self._trade.recover(nursery)
            while True:
                changed = self._changed
                self._start_due(nursery)
                with trio.move_on_after(self._seconds_to_next_try()):
                    await changed.wait()

    def _start_due(self, nursery: trio.Nursery) -> None:
        """Begin to buy as many chunks as are wanted and as there is room for."""
        now, window = trio.current_time(), self._trade.window.size(self.layout.chunk_size, self._price_msat())
        while not self._is_paused and not self._is_stopped and self._on_the_way() < window:
            wanted = self._demand.next_wanted(self._trade.chunks, self._slowest(), now)
            if wanted is None:
                return
            index, is_urgent = wanted
            seller = choose(self._trade.sellers, index, now, window, is_urgent=is_urgent)
            if seller is None:
                if all(seller.is_out for seller in self._trade.sellers):
                    self.stop(_reasons(self._trade.sellers))
                if not self._is_lacking(index, now) or self._parked >= MOST_PARKED:
                    return
                nursery.start_soon(self._park, index)
                self._trade.chunks.come(index)
                self._parked += 1
                continue
            try:
                self._trade.bill.reserve(seller.manifest.price_of(index))
            except OverBudget as over:
                self._trade.failure = over
                self.stop(str(over))
                return
            self._trade.chunks.come(index)
            seller.on_the_way += 1
            nursery.start_soon(self._trade.buy, index, seller)

    def _is_lacking(self, index: int, now: float) -> bool:
        """Whether the only reason to wait for a chunk is that its sellers buy it themselves."""
        return any(seller.is_ready(now) and not seller.has(index, now) for seller in self._trade.sellers)

    async def _park(self, index: int) -> None:
        """Leave a chunk that nobody has yet, so that others are bought meanwhile."""
        await trio.sleep(LACKING_SECONDS)
        self._parked -= 1
        self._trade.chunks.miss(index)
        self._note()

    def _on_the_way(self) -> int:
        return sum(seller.on_the_way - seller.stuck for seller in self._trade.sellers)

    def _slowest(self) -> float:
        return max(seller.seconds for seller in self._trade.sellers)

    def _price_msat(self) -> Msat:
        """Of the next chunk, from the cheapest that sells."""
        selling = [seller.price_msat for seller in self._trade.sellers if not seller.is_out]
        return min(selling, default=self.manifest.price_msat)

    def _seconds_to_next_try(self) -> float:
        now = trio.current_time()
        times = [seller.ready_at for seller in self._trade.sellers if not seller.is_out]
        times += [at for seller in self._trade.sellers for at in seller.lacking.values()]
        return min((at - now for at in times if at > now), default=float("inf"))

    def _note(self) -> None:
        """Something changed: wake the loop, the readers and whoever shows it."""
        self._version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    # --- after a crash

    # --- showing

    def snapshot(self) -> Snapshot:
        """The title as it stands now."""
        layout, now, bill, chunks = self.layout, trio.current_time(), self._trade.bill, self._trade.chunks
        price_msat = self._price_msat()
        away = [seller.problem for seller in self._trade.sellers if seller.problem]
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
            window=self._trade.window.size(layout.chunk_size, price_msat),
            price_msat=price_msat,
            spent_msat=bill.paid_msat,
            fee_msat=bill.fee_msat,
            reserved_msat=bill.reserved_msat,
            left_msat=bill.left_msat,
            budget=bill.budget,
            providers=tuple(seller_figures(seller, graph, now) for seller in self._trade.sellers),
            route=self._trade.route,
            is_paused=self._is_paused,
            is_stopped=self._is_stopped,
            is_complete=self.is_complete,
            delivered=str(self.delivered or ""),
            problem=self._problem or "; ".join(away),
            price_note=price_note(price_msat),
        )


def _reasons(sellers: Sequence[Seller]) -> str:
    reasons = list(dict.fromkeys(seller.problem for seller in sellers))
    return "nobody sells it any more: " + "; ".join(reasons)
