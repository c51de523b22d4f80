"""What is wanted of a title: by readers who wait, ahead of the playhead, or all of it."""

from node.stream.chunk_map import ChunkMap
from node.stream.merkle import Layout
from node.stream.pace import LEAST_CHUNKS, Pace

MOST_AHEAD_PART = 5


class Demand:
    """Who waits for which chunks, where the viewer is, and how fast it reads."""

    def __init__(self, layout: Layout) -> None:
        self.wants_all = False
        self.playhead = 0
        self._is_watched = False
        self.pace = Pace()
        self._layout = layout
        self._readers: list[range] = []

    def wait_for(self, wanted: range) -> None:
        """A reader needs these chunks now."""
        self.playhead, self._is_watched = wanted.start, True
        self._readers.append(wanted)

    def leave(self, wanted: range) -> None:
        """The reader waits no more."""
        self._readers.remove(wanted)

    def prefer(self, offset: int) -> None:
        """The viewer is at this byte."""
        last = self._layout.chunk_count - 1
        self.playhead, self._is_watched = max(0, min(offset // self._layout.chunk_size, last)), True

    def ahead(self, chunk_seconds: float, now: float) -> int:
        """How many chunks from the playhead on should be here, when each takes so long to buy."""
        if not self._is_watched:
            return 0
        wanted = self.pace.ahead_chunks(self._layout.chunk_size, chunk_seconds, now)
        # whoever stops watching early has not paid for much more than was seen
        return min(wanted, max(LEAST_CHUNKS, self._layout.chunk_count // MOST_AHEAD_PART))

    def next_wanted(self, chunks: ChunkMap, chunk_seconds: float, now: float) -> tuple[int, bool] | None:
        """The chunk that is missed most, and whether somebody waits for it."""
        for wanted in self._readers:
            found = chunks.first_missing(wanted.start, wanted.stop)
            if found is not None:
                return found, True
        stop = len(chunks) if self.wants_all else self.playhead + self.ahead(chunk_seconds, now)
        found = chunks.first_missing(self.playhead, stop)
        if found is None and self.wants_all:
            found = chunks.first_missing(0, self.playhead)
        return None if found is None else (found, False)
