"""One provider of a title, seen by its buyer: its price, its speed and its history."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from node.stream.manifest import Manifest
from wire.units import Msat

MOST_STRIKES = 4
"""How often in a row a provider may fail before it is asked no more."""
FIRST_PAUSE_SECONDS = 0.5
UNKNOWN_SECONDS = 0.5
"""How long a chunk of a provider that has delivered none yet is taken to need."""
LACKING_SECONDS = 5.0
"""When a provider that lacked a chunk, because it buys itself, is asked for it again."""
LEAST_ORDER_SECONDS = 2.0
TIMES_SLOWER = 4.0
"""An order that takes so many times longer than others need goes to one of them."""
_NEWEST = 0.3
"""The weight of the latest chunk in the average time."""


class Seller(msgspec.Struct):
    """What is known of a provider; changes as it sells."""

    manifest: Manifest
    seconds: float = UNKNOWN_SECONDS
    """From asking to opening, an average over the last chunks."""
    on_the_way: int = 0
    stuck: int = 0
    """Of those on the way, how many wait for a key that should have come long ago."""
    chunks: int = 0
    bytes: int = 0
    paid_msat: int = 0
    fee_msat: int = 0
    busy_seconds: float = 0.0
    failures: int = 0
    strikes: int = 0
    ready_at: float = 0.0
    is_out: bool = False
    is_expelled: bool = False
    problem: str = ""
    proof: Path | None = None
    """Of its fraud, if it committed one."""
    lacking: dict[int, float] = msgspec.field(default_factory=dict)
    """Chunks that it did not have, and when it may be asked for them again."""

    @property
    def price_msat(self) -> Msat:
        return self.manifest.price_msat

    @property
    def bytes_per_second(self) -> float:
        """What it delivers on one order at a time."""
        return self.bytes / self.busy_seconds if self.busy_seconds else 0.0

    def is_ready(self, now: float) -> bool:
        """Whether it may be asked."""
        return not self.is_out and not self.stuck and now >= self.ready_at

    def has(self, index: int, now: float) -> bool:
        """Whether it may be asked for this chunk."""
        return now >= self.lacking.get(index, 0.0)

    def state(self, now: float) -> str:
        """In a word, for people."""
        if self.is_expelled:
            return "cheated" if self.proof else "expelled"
        return "out" if self.is_out else "selling" if self.is_ready(now) else "away"

    def praise(self, seconds: float, size: int) -> None:
        """It sold a chunk of so many bytes, which took so long."""
        is_first = not self.chunks
        self.seconds = seconds if is_first else (1 - _NEWEST) * self.seconds + _NEWEST * seconds
        self.busy_seconds += seconds
        self.chunks, self.bytes = self.chunks + 1, self.bytes + size
        if not self.is_out:
            self.strikes, self.ready_at, self.problem = 0, 0.0, ""

    def blame(self, problem: str, now: float) -> None:
        """It failed in a way that may pass: leave it alone for a while, longer each time."""
        self.failures += 1
        self.problem = problem
        if now < self.ready_at:
            return  # a whole window fails at once, and counts once
        self.strikes += 1
        self.ready_at = now + FIRST_PAUSE_SECONDS * 2**self.strikes
        self.is_out = self.is_out or self.strikes >= MOST_STRIKES

    def lacks(self, index: int, now: float) -> None:
        """It does not have this chunk yet."""
        self.lacking = {each: at for each, at in self.lacking.items() if at > now}
        self.lacking[index] = now + LACKING_SECONDS

    def expel(self, problem: str, proof: Path | None = None) -> None:
        """It did what can only be meant: never ask it again."""
        self.failures += 1
        self.is_out = self.is_expelled = True
        self.problem, self.proof = problem, proof or self.proof

    def pardon(self) -> None:
        """The user wants it tried again; one that cheated is not."""
        if not self.is_expelled:
            self.is_out, self.strikes, self.ready_at, self.problem = False, 0, 0.0, ""


def choose(
    sellers: Iterable[Seller], index: int, now: float, most_each: int, *, is_urgent: bool
) -> Seller | None:
    """Who gets the order of a chunk: the cheapest, or if somebody waits for it the quickest."""
    ready = [
        seller
        for seller in sellers
        if seller.is_ready(now) and seller.on_the_way < most_each and seller.has(index, now)
    ]

    def rank(seller: Seller) -> tuple[float, float]:
        delay = (seller.on_the_way + 1) * seller.seconds * (1 + seller.strikes)
        price = float(seller.manifest.price_of(index))
        return (delay, price) if is_urgent else (price, delay)

    return min(ready, key=rank, default=None)


def order_seconds(seller: Seller, sellers: Iterable[Seller], now: float) -> float:
    """How long an order may take before another provider gets it; without end if there is none."""
    others = [each.seconds for each in sellers if each is not seller and each.is_ready(now)]
    return max(LEAST_ORDER_SECONDS, TIMES_SLOWER * min(others)) if others else float("inf")
