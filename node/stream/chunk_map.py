"""Which chunks of a title are here, coming, or missing: a byte for each, searched at the speed of memory."""

from collections.abc import Iterator

_MISSING, _COMING, _HERE = b"\0", b"\1", b"\2"


class ChunkMap:
    """The state of every chunk."""

    def __init__(self, count: int) -> None:
        self._states = bytearray(count)
        self._here = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def here(self) -> int:
        """How many chunks are here."""
        return self._here

    @property
    def is_complete(self) -> bool:
        return self._here == len(self._states)

    def is_here(self, index: int) -> bool:
        return self._states[index] == _HERE[0]

    def has(self, wanted: range) -> bool:
        """Whether all of them are here."""
        return self._states.count(_HERE, wanted.start, wanted.stop) == len(wanted)

    def come(self, index: int) -> None:
        """It is being bought."""
        if not self.is_here(index):
            self._states[index] = _COMING[0]

    def miss(self, index: int) -> None:
        """It is not being bought after all."""
        if not self.is_here(index):
            self._states[index] = _MISSING[0]

    def arrive(self, index: int) -> None:
        """It is here."""
        self._here += not self.is_here(index)
        self._states[index] = _HERE[0]

    def lose(self, index: int) -> None:
        """It is not here after all."""
        self._here -= self.is_here(index)
        self._states[index] = _MISSING[0]

    def first_missing(self, start: int, stop: int) -> int | None:
        """The first chunk from `start` on, before `stop`, that nobody brings."""
        found = self._states.find(_MISSING, start, stop)
        return None if found < 0 else found

    def coming(self) -> Iterator[int]:
        """The chunks that are on their way."""
        at = -1
        while (at := self._states.find(_COMING, at + 1)) >= 0:
            yield at

    def runs(self) -> Iterator[tuple[int, int]]:
        """The runs of chunks that are here: the first, and the one after the last."""
        stop = 0
        while (start := self._states.find(_HERE, stop)) >= 0:
            ends = (self._states.find(other, start) for other in (_MISSING, _COMING))
            stop = min((end for end in ends if end >= 0), default=len(self._states))
            yield start, stop
