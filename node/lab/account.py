"""What a demo came to: the numbers that `rill demo` prints, in the shape of its JSON object."""

from collections.abc import Sequence
from math import ceil

import msgspec


class Film(msgspec.Struct, frozen=True):
    """The content that was bought."""

    name: str
    bytes: int
    chunks: int
    pieces_root: str
    sha256: str


class Seconds(msgspec.Struct, frozen=True):
    """How long each part took."""

    ready: float
    stream: float
    close: float
    total: float


class ChunkMs(msgspec.Struct, frozen=True):
    """From the request of a chunk to its being written, in milliseconds."""

    median: float
    p95: float


class BalanceSat(msgspec.Struct, frozen=True):
    """A node's coins on chain, before its channels were opened and after they were closed."""

    before: int
    after: int


class ChainAccount(msgspec.Struct, frozen=True):
    """What the chain itself says, read block by block."""

    height: int
    onchain_fees_sat: int
    transactions_per_channel: tuple[int, ...]


class Account(msgspec.Struct, frozen=True):
    """The whole demo in numbers."""

    film: Film
    route: tuple[str, ...]
    paid_msat: int
    fees_msat: dict[str, int]
    seconds: Seconds
    chunk_ms: ChunkMs
    goodput_mib_s: float
    balances_sat: dict[str, BalanceSat]
    chain: ChainAccount
    conserved: bool


def is_conserved(balances_sat: dict[str, BalanceSat], onchain_fees_sat: int) -> bool:
    """Whether every satoshi there was is a satoshi there is, or a fee that a miner got."""
    before = sum(balance.before for balance in balances_sat.values())
    after = sum(balance.after for balance in balances_sat.values())
    return before == after + onchain_fees_sat


def chunk_ms(seconds: Sequence[float]) -> ChunkMs:
    """The median and the 95th percentile (nearest rank) of the times of all chunks; zero of none."""
    if not seconds:
        return ChunkMs(0.0, 0.0)
    ranked = sorted(seconds)
    median = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
    p95 = ranked[ceil(0.95 * len(ranked)) - 1]
    return ChunkMs(round(median * 1000, 3), round(p95 * 1000, 3))
