"""How fast a title is read, how far ahead of its reader it is bought, and how much at once."""

from collections import deque

from htlc.dust import MOST_DUST_EXPOSURE_MSAT
from wire.units import Msat

MEMORY_SECONDS = 10.0
LEAST_SECONDS = 4.0
"""A reader begins with a gulp, which says little of its pace."""
AHEAD_SECONDS = 20.0
"""At the pace of reading, so much lies ready if the network allows."""
LEAST_CHUNKS = 4
MOST_AHEAD_BYTES = 64 << 20
_DELAYS = 6
"""Slow providers are met by buying earlier: so many times what a chunk takes."""

DUST_LIMIT_SAT = 354
"""Below it, an HTLC has no output of its own on chain (BOLT 3, trimmed outputs)."""
FIRST_AT_ONCE = 4
MOST_AT_ONCE = 64
"""HTLCs of one title in a channel, which holds 483 at most for everybody (BOLT 2)."""
MOST_BYTES_AT_ONCE = 16 << 20


class Pace:
    """The bytes read in the last seconds."""

    def __init__(self) -> None:
        self._reads: deque[tuple[float, int]] = deque()
        self._bytes = 0

    def note(self, size: int, now: float) -> None:
        """So many bytes were read."""
        self._reads.append((now, size))
        self._bytes += size
        self._forget(now)

    def bytes_per_second(self, now: float) -> float:
        """The pace over the last seconds."""
        self._forget(now)
        if not self._reads:
            return 0.0
        return self._bytes / max(LEAST_SECONDS, min(MEMORY_SECONDS, now - self._reads[0][0]))

    def ahead_chunks(self, chunk_size: int, chunk_seconds: float, now: float) -> int:
        """How many chunks should lie ready when each takes so long to buy."""
        wanted = self.bytes_per_second(now) * max(AHEAD_SECONDS, _DELAYS * chunk_seconds)
        return max(LEAST_CHUNKS, -(-int(min(wanted, MOST_AHEAD_BYTES)) // chunk_size))

    def _forget(self, now: float) -> None:
        while self._reads and self._reads[0][0] < now - MEMORY_SECONDS:
            self._bytes -= self._reads.popleft()[1]


class Window:
    """How many chunks are bought at once: more after each success, half after a payment that failed."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._size = float(min(FIRST_AT_ONCE, most))

    def size(self, chunk_size: int, price_msat: Msat) -> int:
        """The window now, within what a channel, the memory and the dust exposure allow."""
        limit = min(self._most, max(1, MOST_BYTES_AT_ONCE // chunk_size))
        if 0 < price_msat < DUST_LIMIT_SAT * 1000:
            # half of what our channel takes: others pay too, and the peers may allow less
            limit = min(limit, max(1, MOST_DUST_EXPOSURE_MSAT // 2 // price_msat))
        return max(1, min(int(self._size), limit))

    def grow(self) -> None:
        """A payment went through."""
        self._size = min(self._most, self._size + 1)

    def shrink(self) -> None:
        """A payment did not go through: perhaps there were too many."""
        self._size = max(1.0, self._size / 2)
