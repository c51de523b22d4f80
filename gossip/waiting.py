"""What cannot be judged yet (BOLT 7): announcements before their output was seen, updates and
nodes before their channel's announcement.

Anybody can send any number of them, so there is room for a fixed number. One sender has one place
for each thing it speaks of: a false message from one peer never pushes out the true one from
another.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

from gossip.errors import AlreadyKnown, Crowded, NotDeepEnough
from wire.crypto.secp256k1 import Point
from wire.scid import parts

K = TypeVar("K", bound=Hashable)
M = TypeVar("M")

ANNOUNCE_DEPTH_BLOCKS = 6
MOST_AHEAD_BLOCKS = 144


class Waiting(Generic[K, M]):
    """Messages by what they wait for, at most so many; the oldest give way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._kept: dict[K, dict[Hashable, tuple[int, Point, bytes, M]]] = {}

    def __len__(self) -> int:
        return self._count

    def keep(self, awaited: K, place: Hashable, timestamp: int, peer: Point, raw: bytes, message: M) -> None:
        """Keep a message unless its place holds a newer one."""
        places = self._kept.setdefault(awaited, {})
        held = places.get((peer, place))
        if held is not None and held[0] >= timestamp:
            return
        self._count += held is None
        places[peer, place] = (timestamp, peer, raw, message)
        while self._count > self._most:
            self.take(next(iter(self._kept)))

    def take(self, awaited: K) -> list[tuple[Point, bytes, M]]:
        """Everything that waited for this, which is kept no longer."""
        places = self._kept.pop(awaited, {})
        self._count -= len(places)
        return [(peer, raw, message) for _, peer, raw, message in places.values()]


class Candidates:
    """Signed channel announcements whose output is not seen yet, each with those who sent it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pending: dict[int, dict[bytes, set[Point]]] = {}
        self._early: set[int] = set()

    def __contains__(self, short_channel_id: int) -> bool:
        return short_channel_id in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    def check_new(self, short_channel_id: int, raw: bytes, peer: Point) -> None:
        """Whether these bytes deserve to have their signatures verified.

        Raises:
            AlreadyKnown: they are a candidate already.
            Crowded: this peer has another candidate there, or there is no room.
        """
        candidates = self._pending.get(short_channel_id, {})
        if raw in candidates:
            candidates[raw].add(peer)
            raise AlreadyKnown
        if any(peer in sources for sources in candidates.values()) or len(self._pending) >= self._most:
            raise Crowded(short_channel_id)

    def add(self, short_channel_id: int, raw: bytes, peer: Point, height: int) -> bool:
        """Take in a candidate; whether its output can be looked up now and is not being so.

        Raises:
            NotDeepEnough: its block lies far ahead of ours.
        """
        missing_blocks = _missing_blocks(short_channel_id, height)
        if missing_blocks > MOST_AHEAD_BLOCKS:
            raise NotDeepEnough(short_channel_id)
        candidates = self._pending.setdefault(short_channel_id, {})
        candidates[raw] = {peer}
        if missing_blocks > 0:
            self._early.add(short_channel_id)
        return len(candidates) == 1 and missing_blocks <= 0

    def take(self, short_channel_id: int) -> dict[bytes, set[Point]]:
        """The candidates for this output, which are kept no longer."""
        return self._pending.pop(short_channel_id, {})

    def put_back(self, short_channel_id: int, candidates: dict[bytes, set[Point]]) -> None:
        """The output was seen too early: it is to be looked up after the next block."""
        self._pending[short_channel_id] = candidates
        self._early.add(short_channel_id)

    def due(self, height: int) -> list[int]:
        """The outputs that have become deep enough to be looked up."""
        ripe = [known for known in self._early if _missing_blocks(known, height) <= 0]
        self._early.difference_update(ripe)
        return sorted(known for known in ripe if known in self._pending)


def _missing_blocks(short_channel_id: int, height: int) -> int:
    """How many blocks are still to come until the channel may be announced."""
    return ANNOUNCE_DEPTH_BLOCKS - (height - parts(short_channel_id)[0] + 1)
