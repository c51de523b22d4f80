"""Which of the wallet's coins pay for a transaction.

First a search for a set that needs no change, since change costs an output now and an input
later. Failing that, the smallest coin that is enough alone, or else the largest coins until they
are enough. No randomness: the same wallet gives the same transaction.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, TypeVar

import msgspec

from wire.units import Sat

INPUT_WEIGHT = 4 * 41 + 108
"""A P2WPKH input: outpoint, sequence, empty script; two witness items, the signature at its longest."""

TAPROOT_INPUT_WEIGHT = 4 * 41 + 66
"""A P2TR input that its key spends: one witness item of 64 bytes. Selection counts it as the above."""

CHANGE_WEIGHT = 4 * 31
CHANGE_DUST_SAT = Sat(294)
MAX_TRIES = 2000


class HasValue(Protocol):
    @property
    def value_sat(self) -> Sat: ...


C = TypeVar("C", bound=HasValue)


class Target(msgspec.Struct, frozen=True, gc=False):
    """What the coins must pay: outputs and whatever else, and the weight without any coin."""

    amount_sat: int
    base_weight: int
    feerate_per_kw: int
    needs_change: bool

    def fee_sat(self, weight: int) -> int:
        return -(-weight * self.feerate_per_kw // 1000)

    def need_sat(self, coin_count: int) -> int:
        """What so many coins must be worth when there is no change."""
        change_sat = self.change_need_sat if self.needs_change else 0
        return self.amount_sat + self.fee_sat(self.base_weight + coin_count * INPUT_WEIGHT) + change_sat

    @property
    def change_need_sat(self) -> int:
        """What a change output needs at least: its fee, and not to be dust."""
        return self.fee_sat(CHANGE_WEIGHT) + CHANGE_DUST_SAT


def select(coins: Sequence[C], target: Target) -> list[C] | None:
    """Coins that cover the target and their own fee, or None if all together do not.

    Coins that are worth less than the fee of spending them are never taken.
    """
    input_fee_sat = target.fee_sat(INPUT_WEIGHT)
    worth = sorted((coin for coin in coins if coin.value_sat > input_fee_sat), key=_largest_first)
    if not target.needs_change:
        exact = _without_change(worth, target, input_fee_sat)
        if exact is not None:
            return exact
    single = [coin for coin in worth if coin.value_sat >= target.need_sat(1) + target.change_need_sat]
    return single[-1:] or _largest(worth, target)


def _largest_first(coin: HasValue) -> int:
    return -coin.value_sat


def _largest(coins: Sequence[C], target: Target) -> list[C] | None:
    total_sat = 0
    for count, coin in enumerate(coins, start=1):
        total_sat += coin.value_sat
        if total_sat >= target.need_sat(count):
            return list(coins[:count])
    # no inputs at all can be enough when the caller brings its own
    return [] if target.need_sat(0) <= 0 else None


def _without_change(coins: Sequence[C], target: Target, input_fee_sat: int) -> list[C] | None:
    """Branch and bound: the first set whose excess is less than change would cost in the end."""
    need_sat = target.amount_sat + target.fee_sat(target.base_weight)
    most_sat = need_sat + target.fee_sat(CHANGE_WEIGHT) + input_fee_sat
    values = [coin.value_sat - input_fee_sat for coin in coins]
    left_sat = [*accumulate(reversed(values), initial=0)][::-1]
    chosen: list[int] = []
    total_sat, at = 0, 0
    for _ in range(MAX_TRIES):
        if need_sat <= total_sat <= most_sat:
            return [coins[index] for index in chosen]
        if total_sat > most_sat or at == len(values) or total_sat + left_sat[at] < need_sat:
            if not chosen:
                return None
            at = chosen.pop()
            total_sat -= values[at]
        else:
            chosen.append(at)
            total_sat += values[at]
        at += 1
    return None
