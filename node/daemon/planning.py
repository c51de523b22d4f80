"""Which routes a payment takes: by fees, time locks and doubt, whole or in parts (BOLT 7).

All payments of a node share what is believed of channels. A way that is likely to work is taken
whole; otherwise, if the payee takes parts, the minimum-cost flow says how to cut the amount. Beliefs
only steer: what they leave no room for is tried all the same once nothing else is left, since they
may be out of date. What the payment itself has seen fail is not: that is in `Asked.room_msat`.

In a network of some hundred channels the plain search finds the way, and numpy, which costs a
process a dozen MiB, is not even loaded before a payment has to be split.
"""

from collections.abc import Callable

from gossip.asked import Asked, one_way
from gossip.beliefs import SURE_ENOUGH, Beliefs
from gossip.graph import Graph
from gossip.no_route import CltvTooFar, NoRoute, TargetIsSource, UnknownTarget
from gossip.routes import Route

_WHATEVER_ITS_SIZE = (TargetIsSource, UnknownTarget, CltvTooFar)


class Planner:
    """Finds the routes of one node's payments."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    async def routes(self, graph: Graph, asked: Asked, beliefs: Beliefs) -> tuple[Route, ...]:
        """Routes that together bring the amount, over the graph as this payment sees it.

        Raises:
            NoRoute: as for the whole amount, whatever is believed.
        """
        try:
            return self._steered(graph, asked, beliefs)
        except NoRoute:
            if not beliefs.channels():
                raise
        return self._steered(graph, asked, Beliefs())

    def _steered(self, graph: Graph, asked: Asked, beliefs: Beliefs) -> tuple[Route, ...]:
        """Routes within what is believed."""
        now = self._now()
        try:
            route, chance = one_way(graph, asked, beliefs, now)
        except NoRoute as none:
            if asked.most_parts <= 1 or isinstance(none, _WHATEVER_ITS_SIZE):
                raise
            parts = _in_parts(graph, asked, beliefs, now)
            if not parts:
                raise
            return parts
        if asked.most_parts <= 1 or chance >= SURE_ENOUGH:
            return (route,)
        return _in_parts(graph, asked, beliefs, now) or (route,)


def _in_parts(graph: Graph, asked: Asked, beliefs: Beliefs, now_seconds: float) -> tuple[Route, ...]:
    # numpy is loaded, and the graph put in columns, only where a payment has to be split
    from gossip.parts import routes_in_parts

    return routes_in_parts(graph, asked, beliefs, now_seconds)
