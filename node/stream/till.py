"""Where a viewer pays: offers that were verified, within what its user allows.

A payment without a route just now is tried again after a pause, because liquidity on the way
comes and goes. What was spent in the last hour is counted here, over all titles.
"""

import logging
import time
from collections.abc import Callable, Iterable

import msgspec
import trio

from node.daemon.paying import PaymentFailed
from node.daemon.payments import AlreadyPaid
from node.stream.budget import Budget, Hour, Spent
from node.stream.offer import Offer, OfferReused
from node.stream.orders import Patience, PurchaseFailed
from node.stream.ports import Node, Payment
from wire.crypto.secp256k1 import Point
from wire.units import Msat

log = logging.getLogger("rill.stream")


class ChunkNotPaid(PurchaseFailed):
    """No payment for the chunk goes through."""

    def __init__(self, index: int, tries: int, why: str) -> None:
        self.index, self.tries, self.why = index, tries, why
        super().__init__(f"chunk {index} could not be paid in {tries} tries: {why}")


class Gift(msgspec.Struct, frozen=True, gc=False):
    """The payment for a chunk that is free."""

    preimage: bytes
    amount_msat: Msat = Msat(0)
    fee_msat: Msat = Msat(0)
    route: tuple[Point, ...] = ()
    short_channel_ids: tuple[int, ...] = ()


class Till:
    """Pays for the chunks of all titles of one node."""

    def __init__(self, node: Node, patience: Patience, *, clock: Callable[[], float] = time.time) -> None:
        self._node, self._patience, self._clock = node, patience, clock
        self._hour = Hour()

    @property
    def hour_msat(self) -> Msat:
        """What was spent in the last hour, or is on its way."""
        return Msat(self._hour.spent_msat(self._minute()))

    def reserve(self, spent: Spent, budget: Budget, price_msat: Msat) -> Spent:
        """Set a price aside before a chunk is asked for.

        Raises:
            OverBudget: it passes a limit.
        """
        after = spent.reserve(budget, price_msat, self.hour_msat)
        self._hour = self._hour.add(self._minute(), price_msat)
        return after

    def count(self, price_msat: Msat) -> None:
        """Set a price aside that was on its way before."""
        self._hour = self._hour.add(self._minute(), price_msat)

    def remember(self, spent: Iterable[tuple[int, int]]) -> None:
        """What was spent before, as seconds since 1970 and msat."""
        for seconds, msat in spent:
            self._hour = self._hour.add(seconds // 60, msat)

    def release(self, spent: Spent, price_msat: Msat) -> Spent:
        """Nothing was paid after all."""
        self._hour = self._hour.add(self._minute(), -price_msat)
        return spent.release(price_msat)

    async def pay(self, offer: Offer, max_fee_msat: Msat) -> Payment:
        """Pay an offer; one that is free tells the preimage itself.

        Raises:
            ChunkNotPaid: nothing was paid.
            OfferReused: its payment hash served for another sale.
        """
        terms, why = offer.terms, "its offer has ended"
        if not terms.price_msat:
            return Gift(terms.payment_secret)
        for attempt in range(self._patience.payments):
            if terms.expiry - self._clock() < self._patience.margin_seconds:
                break
            try:
                return await self._node.pay(
                    terms.provider,
                    terms.payment_hash,
                    terms.payment_secret,
                    terms.price_msat,
                    max_fee_msat=max_fee_msat,
                )
            except AlreadyPaid:
                raise OfferReused(terms.index) from None
            except PaymentFailed as reason:
                why = reason.reason
                log.debug("payment of chunk %d failed: %s", terms.index, why)
            await trio.sleep(self._patience.pause_seconds * 2**attempt)
        raise ChunkNotPaid(terms.index, self._patience.payments, self._plainly(terms.price_msat, why))

    def _plainly(self, price_msat: Msat, why: str) -> str:
        """The reason of the last attempt, unless it is that we have no money there."""
        spendable_msat = self._node.spendable_msat
        if spendable_msat >= price_msat:
            return why
        return f"it costs {price_msat} msat, and the channels of this node can send {spendable_msat} msat now"

    def _minute(self) -> int:
        return int(self._clock() // 60)
