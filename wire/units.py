"""Money and time as Lightning counts them: integers, with the unit in the type.

A millisatoshi amount never meets a satoshi amount without one of the two conversions below,
so the type checker finds a factor of 1000 before a peer does.
"""

from typing import NewType

Msat = NewType("Msat", int)
Sat = NewType("Sat", int)

MAX_SAT = Sat(21_000_000 * 100_000_000)
MAX_MSAT = Msat(MAX_SAT * 1000)


def msat(amount_sat: int) -> Msat:
    """The same amount in millisatoshi."""
    return Msat(amount_sat * 1000)


def sat(amount_msat: int) -> Sat:
    """The same amount in whole satoshi, rounded down (BOLT 3, trimmed outputs)."""
    return Sat(amount_msat // 1000)
