"""What a viewer is ready to spend: per chunk, per title, per hour, and on routing.

Pure: the hour is counted in minutes that the caller names.
"""

from msgspec import Struct

from wire.units import Msat

_MINUTES = 60


class OverBudget(Exception):
    """A price would pass a limit that the viewer set."""

    def __init__(self, limit: str, limit_msat: Msat, would_be_msat: int) -> None:
        self.limit, self.limit_msat, self.would_be_msat = limit, limit_msat, would_be_msat
        super().__init__(f"{would_be_msat} msat is over the budget of {limit_msat} msat per {limit}")


class Budget(Struct, frozen=True, gc=False):
    """Limits on prices, and on the routing fee of one payment; None is no limit."""

    per_chunk_msat: Msat
    per_title_msat: Msat
    fee_per_chunk_msat: Msat
    per_hour_msat: Msat | None = None


class Spent(Struct, frozen=True):
    """What was spent on one title, or is on its way."""

    msat: int = 0

    def reserve(self, budget: Budget, price_msat: Msat, this_hour_msat: int) -> "Spent":
        """With this price spent too.

        Raises:
            OverBudget: the price passes a limit.
        """
        if price_msat > budget.per_chunk_msat:
            raise OverBudget("chunk", budget.per_chunk_msat, price_msat)
        if self.msat + price_msat > budget.per_title_msat:
            raise OverBudget("title", budget.per_title_msat, self.msat + price_msat)
        if budget.per_hour_msat is not None and this_hour_msat + price_msat > budget.per_hour_msat:
            raise OverBudget("hour", budget.per_hour_msat, this_hour_msat + price_msat)
        return Spent(self.msat + price_msat)

    def release(self, price_msat: Msat) -> "Spent":
        """A payment that failed costs nothing."""
        return Spent(self.msat - price_msat)


class Hour(Struct, frozen=True):
    """What was spent in each of the last sixty minutes."""

    minutes: tuple[tuple[int, int], ...] = ()

    def add(self, minute: int, amount_msat: int) -> "Hour":
        """With an amount more, or less if it is negative, in this minute."""
        recent = dict(self._since(minute))
        recent[minute] = recent.get(minute, 0) + amount_msat
        return Hour(tuple(recent.items()))

    def spent_msat(self, minute: int) -> int:
        """The sum over the hour that ends with this minute."""
        return sum(amount for _, amount in self._since(minute))

    def _since(self, minute: int) -> tuple[tuple[int, int], ...]:
        return tuple(entry for entry in self.minutes if entry[0] > minute - _MINUTES)
