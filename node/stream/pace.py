"""How fast a title is read, and how far ahead of its reader it should be bought."""

from collections import deque

MEMORY_SECONDS = 10.0
AHEAD_SECONDS = 20.0
"""At the pace of reading, so much lies ready if the network allows."""
LEAST_CHUNKS = 4
MOST_AHEAD_BYTES = 64 << 20
_DELAYS = 6
"""Slow providers are met by buying earlier: so many times what a chunk takes."""


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
        return self._bytes / max(1.0, min(MEMORY_SECONDS, now - self._reads[0][0]))

    def ahead_chunks(self, chunk_size: int, chunk_seconds: float, now: float) -> int:
        """How many chunks should lie ready when each takes so long to buy."""
        wanted = self.bytes_per_second(now) * max(AHEAD_SECONDS, _DELAYS * chunk_seconds)
        return max(LEAST_CHUNKS, -(-int(min(wanted, MOST_AHEAD_BYTES)) // chunk_size))

    def _forget(self, now: float) -> None:
        while self._reads and self._reads[0][0] < now - MEMORY_SECONDS:
            self._bytes -= self._reads.popleft()[1]
