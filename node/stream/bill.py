"""What one title has cost, and what its budget still allows.

A price is set aside before its chunk is asked for, and given back if nothing was paid; so what is
on the way counts as spent, and no budget is passed by many chunks at once.
"""

from node.stream.budget import Budget, Spent
from node.stream.ports import Payment
from node.stream.till import Till
from wire.units import Msat


class Bill:
    """The account of one title; the hour is the till's, over all titles."""

    def __init__(self, till: Till, budget: Budget, paid_msat: int = 0, fee_msat: int = 0) -> None:
        """With what was paid for it before."""
        self._till, self.budget = till, budget
        self._taken = Spent(paid_msat)
        self.paid_msat, self.fee_msat = Msat(paid_msat), Msat(fee_msat)

    @property
    def reserved_msat(self) -> Msat:
        """Set aside for what is on the way."""
        return Msat(self._taken.msat - self.paid_msat)

    @property
    def left_msat(self) -> Msat:
        """What may still be spent on this title."""
        return Msat(max(0, self.budget.per_title_msat - self._taken.msat))

    def reserve(self, price_msat: Msat) -> None:
        """Set a price aside.

        Raises:
            OverBudget: it passes a limit.
        """
        self._taken = self._till.reserve(self._taken, self.budget, price_msat)

    def reserve_again(self, price_msat: Msat) -> None:
        """A price that was set aside before the node ended; no limit is looked at."""
        self._taken = Spent(self._taken.msat + price_msat)
        self._till.count(price_msat)

    def release(self, price_msat: Msat) -> None:
        """It was not paid."""
        self._taken = self._till.release(self._taken, price_msat)

    def settle(self, payment: Payment) -> None:
        """What was set aside is paid."""
        self.paid_msat = Msat(self.paid_msat + payment.amount_msat)
        self.fee_msat = Msat(self.fee_msat + payment.fee_msat)
