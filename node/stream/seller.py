"""One provider of a title, seen by its buyer: its price, its speed and its history."""

from collections.abc import Iterable

import msgspec

from node.stream.manifest import Manifest
from wire.units import Msat

MOST_STRIKES = 4
"""How often in a row a provider may fail before it is asked no more."""
FIRST_PAUSE_SECONDS = 0.5
UNKNOWN_SECONDS = 0.5
"""How long a chunk of a provider that has delivered none yet is taken to need."""
_NEWEST = 0.3
"""The weight of the latest chunk in the average time."""


class Seller(msgspec.Struct):
    """What is known of a provider; changes as it sells."""

    manifest: Manifest
    seconds: float = UNKNOWN_SECONDS
    """From asking to opening, an average over the last chunks."""
    on_the_way: int = 0
    chunks: int = 0
    bytes: int = 0
    paid_msat: int = 0
    fee_msat: int = 0
    busy_seconds: float = 0.0
    failures: int = 0
    strikes: int = 0
    ready_at: float = 0.0
    is_out: bool = False
    problem: str = ""

    @property
    def price_msat(self) -> Msat:
        return self.manifest.price_msat

    @property
    def bytes_per_second(self) -> float:
        """What it delivers on one order at a time."""
        return self.bytes / self.busy_seconds if self.busy_seconds else 0.0

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked."""
        return not self.is_out and now >= self.ready_at

    def state(self, now: float) -> str:
        """In a word, for people."""
        return "out" if self.is_out else "selling" if self.is_ready(now) else "away"

    def praise(self, seconds: float) -> None:
        """It sold a chunk, which took so long."""
        is_first = not self.chunks
        self.seconds = seconds if is_first else (1 - _NEWEST) * self.seconds + _NEWEST * seconds
        self.busy_seconds += seconds
        self.strikes, self.ready_at, self.problem = 0, 0.0, ""

    def blame(self, problem: str, now: float) -> None:
        """It failed in a way that may pass: leave it alone for a while, longer each time."""
        self.failures += 1
        self.problem = problem
        if now < self.ready_at:
            return  # a whole window fails at once, and counts once
        self.strikes += 1
        self.ready_at = now + FIRST_PAUSE_SECONDS * 2**self.strikes
        self.is_out = self.strikes >= MOST_STRIKES

    def expel(self, problem: str) -> None:
        """It did what can only be meant: never ask it again."""
        self.failures += 1
        self.is_out, self.problem = True, problem

    def pardon(self) -> None:
        """The user wants it tried again."""
        self.is_out, self.strikes, self.ready_at, self.problem = False, 0, 0.0, ""


def choose(sellers: Iterable[Seller], now: float, most_each: int) -> Seller | None:
    """Who gets the next order: the cheapest that has room; of equals the one that will be done first."""
    ready = [seller for seller in sellers if seller.is_ready(now) and seller.on_the_way < most_each]
    return min(ready, key=_rank, default=None)


def _rank(seller: Seller) -> tuple[int, float]:
    return seller.price_msat, (seller.on_the_way + 1) * seller.seconds * (1 + seller.failures)
