"""Which routes a payment takes: by fees, time locks and doubt, whole or in parts (BOLT 7).

All payments of a node share what is believed of channels. A way that is likely to work is taken
whole; otherwise, if the payee takes parts, the minimum-cost flow says how to cut the amount. Beliefs
only steer: what they leave no room for is tried all the same once nothing else is left, since they
may be out of date. What the payment itself has seen fail is not: that is in `Asked.room_msat`.

There are two searches, of one price. The plain one mostly finds a way within a millisecond, and
numpy, which costs a process a dozen MiB, is not even loaded before a payment has to be split. In a
network of mainnet's size it may as well take seconds, above all to find nothing. So there it gives
up after some milliseconds, and the plan is made on a chart that follows the graph, in a thread: the
owner loop goes on meanwhile.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from gossip.asked import Asked, one_way
from gossip.beliefs import SURE_ENOUGH, Beliefs
from gossip.graph import Graph
from gossip.no_route import CltvTooFar, NoOutgoingCapacity, NoRoute, TargetIsSource, UnknownTarget
from gossip.private import private_view
from gossip.routes import Route
from wire.crypto.secp256k1 import Point

if TYPE_CHECKING:
    from gossip.chart import Chart, Plot

MOST_CHANNELS_BY_HAND = 2000
_PATIENCE = 2 * MOST_CHANNELS_BY_HAND


class Planner:
    """Finds the routes of one node's payments."""

    def __init__(self, graph: Graph, payer: Point, now: Callable[[], float]) -> None:
        self._graph, self._payer, self._now = graph, payer, now
        self._chart: Chart | None = None
        self._lock = trio.Lock()

    async def routes(self, asked: Asked, beliefs: Beliefs) -> tuple[Route, ...]:
        """Routes that together bring the amount.

        Raises:
            NoRoute: as for the whole amount, whatever is believed.
        """
        graph, now = private_view(self._graph, asked.hints, asked.policies), self._now()
        _check_means(graph, asked)
        is_ours = asked.source == self._payer and asked.own_msat is not None
        if is_ours and len(self._graph) > MOST_CHANNELS_BY_HAND:
            return _at_hand(graph, asked, beliefs, now) or await self._on_chart(asked, beliefs)
        try:
            return _by_hand(graph, asked, beliefs, now)
        except NoRoute:
            if not beliefs.channels():
                raise
        return _by_hand(graph, asked, Beliefs(), now)

    async def _on_chart(self, asked: Asked, beliefs: Beliefs) -> tuple[Route, ...]:
        async with self._lock:
            if self._chart is None:
                chart_of = await trio.to_thread.run_sync(_chart_class)
                self._chart = chart_of(self._graph, self._payer)
            for _ in self._chart.read():
                await trio.lowlevel.checkpoint()
            # nothing is waited for between here and the plot, so that it is of one moment
            view = private_view(self._graph, asked.hints, asked.policies)
            _check_means(view, asked)
            plot, now = self._chart.plot(view, asked), self._now()
            known = beliefs.copy()
            return await trio.to_thread.run_sync(lambda: _on_plot(plot, asked, known, now))


def _chart_class() -> "type[Chart]":
    # numpy comes with it, which takes a tenth of a second
    from gossip.chart import Chart

    return Chart


def _check_means(graph: Graph, asked: Asked) -> None:
    """Refuse what needs no search to be refused."""
    if asked.source == asked.target:
        raise TargetIsSource
    if asked.target not in graph.index:
        raise UnknownTarget(asked.target)
    own = list(asked.own_msat.values()) if asked.own_msat is not None else [asked.amount_msat]
    if asked.source not in graph.index:
        own = []
    if asked.amount_msat > (sum(own) if asked.most_parts > 1 else max(own, default=0)):
        raise NoOutgoingCapacity(asked.amount_msat, max(own, default=0))


def _at_hand(graph: Graph, asked: Asked, beliefs: Beliefs, now_seconds: float) -> tuple[Route, ...]:
    """The whole amount over one way, if that is likely to work and found soon."""
    try:
        route, chance = one_way(graph, asked, beliefs, now_seconds, _PATIENCE)
    except NoRoute:
        return ()
    return (route,) if asked.most_parts <= 1 or chance >= SURE_ENOUGH else ()


def _by_hand(graph: Graph, asked: Asked, beliefs: Beliefs, now_seconds: float) -> tuple[Route, ...]:
    """Routes within what is believed, in a small network."""
    try:
        route, chance = one_way(graph, asked, beliefs, now_seconds)
    except NoRoute as none:
        if asked.most_parts <= 1 or isinstance(none, CltvTooFar):
            raise
        parts = _in_parts(graph, asked, beliefs, now_seconds)
        if not parts:
            raise
        return parts
    if asked.most_parts <= 1 or chance >= SURE_ENOUGH:
        return (route,)
    return _in_parts(graph, asked, beliefs, now_seconds) or (route,)


def _in_parts(graph: Graph, asked: Asked, beliefs: Beliefs, now_seconds: float) -> tuple[Route, ...]:
    # numpy is loaded, and the graph put in columns, only where a payment has to be split
    from gossip.parts import ground_of, routes_in_parts

    return routes_in_parts(ground_of(graph, asked), asked, beliefs, now_seconds)


def _on_plot(plot: "Plot", asked: Asked, beliefs: Beliefs, now_seconds: float) -> tuple[Route, ...]:
    """Routes in a large network; nothing that is used here changes meanwhile."""
    from gossip.parts import routes_in_parts, why_none

    ground = plot.ground()
    routes = routes_in_parts(ground, asked, beliefs, now_seconds)
    if not routes and beliefs.channels():
        routes = routes_in_parts(ground, asked, Beliefs(), now_seconds)
    if not routes:
        raise why_none(ground, asked)
    return routes
