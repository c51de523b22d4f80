"""What we believe channels can carry now: bounds that learn from every attempt, and fade.

A channel's capacity is public, how it is divided is not. Of each channel we keep one interval, in
which the part lies that `node_id_1` could send; what the other end could send is the rest of the
capacity. Knowing nothing, every division is as likely as any other. An HTLC that came past a
channel raises the lower bound, one that it refused lowers the upper, one that was settled moves
both. Balances change behind our back, so bounds drift back to nothing known, by half in each half-life.

The uniform prior is Pickhardt's (arXiv 2103.08576). A prior with more weight on lopsided channels
(as LDK has it) was left out: the snapshot tells nothing about balances to fit it to.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from gossip.compact import CompactGraph, Ints
from gossip.graph import directed, directed_parts

HALF_LIFE_SECONDS = 6 * 3600.0

Reals = NDArray[np.float64]


class Liquidity(msgspec.Struct, frozen=True, gc=False):
    """For every edge of a graph, what it carries for sure, and what it can carry at most, in msat."""

    least_msat: Ints
    most_msat: Ints

    def chances(self, amount_msat: int) -> Reals:
        """How likely each edge carries this amount."""
        room = (self.most_msat - amount_msat + 1) / (self.most_msat - self.least_msat + 1)
        return np.clip(room, 0.0, 1.0)

    def doubts(self, amount_msat: int) -> Reals:
        """-ln of the chances, so that they add up along a way; infinite where there is no chance."""
        with np.errstate(divide="ignore"):
            return -np.log(self.chances(amount_msat))

    def chance(self, edge: int, amount_msat: int) -> float:
        """How likely one edge carries this amount."""
        least, most = int(self.least_msat[edge]), int(self.most_msat[edge])
        return min(1.0, max(0.0, (most - amount_msat + 1) / (most - least + 1)))


class _Belief(msgspec.Struct, gc=False):
    """Between these bounds lies what direction 0 can send, as of a moment."""

    capacity_msat: int
    least_msat: int
    most_msat: int
    seconds: float


class Beliefs:
    """What attempts have told, by channel."""

    def __init__(self, half_life_seconds: float = HALF_LIFE_SECONDS) -> None:
        self._half_life_seconds = half_life_seconds
        self._channels: dict[int, _Belief] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def carried(self, number: int, capacity_msat: int, amount_msat: int, seconds: float) -> None:
        """A directed channel carried an HTLC that failed further on: it can carry as much again."""
        belief = self._now(number, capacity_msat, seconds)
        if directed_parts(number)[1]:
            _lower(belief, capacity_msat - amount_msat)
        else:
            _raise(belief, amount_msat)

    def refused(self, number: int, capacity_msat: int, amount_msat: int, seconds: float) -> None:
        """A directed channel could not carry this much."""
        belief = self._now(number, capacity_msat, seconds)
        if directed_parts(number)[1]:
            _raise(belief, capacity_msat - amount_msat + 1)
        else:
            _lower(belief, amount_msat - 1)

    def settled(self, number: int, capacity_msat: int, amount_msat: int, seconds: float) -> None:
        """An HTLC was paid over a directed channel: it could carry it, and now carries that much less."""
        self.carried(number, capacity_msat, amount_msat, seconds)
        belief = self._channels[directed_parts(number)[0]]
        moved = amount_msat if directed_parts(number)[1] else -amount_msat
        belief.least_msat = min(max(belief.least_msat + moved, 0), capacity_msat)
        belief.most_msat = min(max(belief.most_msat + moved, 0), capacity_msat)

    def liquidity(self, graph: CompactGraph, seconds: float) -> Liquidity:
        """What is believed of every edge at a moment."""
        least, most = np.zeros(len(graph), np.int64), graph.capacity_msat.copy()
        numbers = [directed(scid, direction) for scid in self._channels for direction in (0, 1)]
        for number, edge in zip(numbers, graph.edges(numbers), strict=True):
            if edge < 0:
                continue
            scid, direction = directed_parts(number)
            belief = self._now(number, self._channels[scid].capacity_msat, seconds)
            low, high = belief.least_msat, belief.most_msat
            if direction:
                low, high = belief.capacity_msat - high, belief.capacity_msat - low
            least[edge], most[edge] = max(0, low), max(0, min(high, int(most[edge])))
        return Liquidity(np.minimum(least, most), most)

    def _now(self, number: int, capacity_msat: int, seconds: float) -> _Belief:
        """The belief about a channel, faded up to a moment; nothing known, if there was none."""
        scid = directed_parts(number)[0]
        belief = self._channels.get(scid)
        if belief is None or belief.capacity_msat != capacity_msat:
            belief = self._channels[scid] = _Belief(capacity_msat, 0, capacity_msat, seconds)
        age = max(0.0, seconds - belief.seconds)
        kept = 0.5 ** (age / self._half_life_seconds)
        belief.least_msat = int(belief.least_msat * kept)
        belief.most_msat = capacity_msat - int((capacity_msat - belief.most_msat) * kept)
        belief.seconds = max(seconds, belief.seconds)
        return belief


def nothing_known(graph: CompactGraph) -> Liquidity:
    """Every division of every channel is as likely as any other."""
    return Liquidity(np.zeros(len(graph), np.int64), graph.capacity_msat)


def _raise(belief: _Belief, least_msat: int) -> None:
    """New evidence for a lower bound; an upper bound that contradicts it has lost its worth."""
    belief.least_msat = min(max(belief.least_msat, least_msat), belief.capacity_msat)
    if belief.most_msat < belief.least_msat:
        belief.most_msat = belief.capacity_msat


def _lower(belief: _Belief, most_msat: int) -> None:
    """New evidence for an upper bound; a lower bound that contradicts it has lost its worth."""
    belief.most_msat = max(min(belief.most_msat, most_msat), 0)
    if belief.least_msat > belief.most_msat:
        belief.least_msat = 0
