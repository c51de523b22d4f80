"""What we believe that channels can carry, for every edge of a graph at once.

The array side of `gossip.beliefs`, for the search and the split over large graphs.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph, Ints
from gossip.graph import directed

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


def believed(beliefs: Beliefs, graph: CompactGraph, seconds: float) -> Liquidity:
    """What is believed of every edge at a moment."""
    least, most = np.zeros(len(graph), np.int64), graph.capacity_msat.copy()
    numbers = [directed(scid, direction) for scid in beliefs.channels() for direction in (0, 1)]
    for number, edge in zip(numbers, graph.edges(numbers), strict=True):
        if edge >= 0:
            least[edge], most[edge] = beliefs.bounds(number, int(graph.capacity_msat[edge]), seconds)
    return Liquidity(np.minimum(least, most), most)


def nothing_known(graph: CompactGraph) -> Liquidity:
    """Every division of every channel is as likely as any other."""
    return Liquidity(np.zeros(len(graph), np.int64), graph.capacity_msat)
