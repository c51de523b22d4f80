"""Where the person is in the film, and so how much of it is handed to the player.

A browser takes whatever it is given, and what it takes is bought. So the page tells where the film
plays, and a response to it ends for the moment a few seconds after that place. Players that tell
nothing are held back by the network alone.
"""

from node.stream.merkle import BLOCK_BYTES

AHEAD_SECONDS = 3.0
START_BYTES = 8 * BLOCK_BYTES
"""What every request gets at once: enough for the index of a film, and to begin after a seek."""
LONGEST_SECONDS = 1e6
JUMP_SECONDS = 2.0
"""The page tells more often than that: a greater step is a seek."""


class Playhead:
    """The last place that the page told of."""

    def __init__(self) -> None:
        self._seconds, self._duration = 0.0, 0.0
        self.jumps = 0

    def move(self, seconds: float, duration: float) -> None:
        """The film plays here; a place that no film has is not heard."""
        if 0 < duration <= LONGEST_SECONDS and 0 <= seconds <= duration:
            self.jumps += abs(seconds - self._seconds) > JUMP_SECONDS
            self._seconds, self._duration = seconds, duration

    def offset(self, length: int) -> int:
        """The byte that is about to be played, if bytes were spread evenly over the time."""
        return int(length * self._seconds / self._duration) if self._duration else 0

    def may_have(self, offset: int, start: int, length: int) -> bool:
        """Whether the response that began at `start` goes on at this offset already."""
        if offset < start + START_BYTES or not self._duration:
            return offset < start + START_BYTES
        ahead = max(START_BYTES, int(length * AHEAD_SECONDS / self._duration))
        return offset < self.offset(length) + ahead
