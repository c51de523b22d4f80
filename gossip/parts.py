"""A payment's parts over the graph that a node keeps: the flow of `gossip.splitting` as routes."""

import numpy as np

from gossip.asked import Asked
from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph, compact
from gossip.graph import Graph, directed
from gossip.liquidity import Liquidity, believed
from gossip.routes import Hop, Route
from gossip.search import Limits, Way
from gossip.splitting import Terms, split


def routes_in_parts(
    graph: Graph, asked: Asked, beliefs: Beliefs | None = None, now_seconds: float = 0.0
) -> tuple[Route, ...]:
    """Routes that together bring an amount, as likely and as cheap as can be; none if there are none.

    `beliefs` is what earlier attempts have told, as it is at `now_seconds`.
    """
    source, target = asked.source, asked.target
    if source == target or target not in graph.index or source not in graph.index:
        return ()
    closed = {graph.index[node] for node in asked.excluded_nodes if node in graph.index}
    columns = compact(graph, payer=None if asked.own_msat is None else source, closed=closed)
    start, end = graph.index[source], graph.index[target]
    liquidity = believed(beliefs or Beliefs(), columns, now_seconds)
    _bound(columns, liquidity, start, asked)
    limits = Limits(
        max_fee_msat=asked.max_fee_msat,
        max_cltv_blocks=asked.max_cltv_blocks,
        final_cltv_blocks=asked.final_cltv_blocks,
    )
    terms = Terms(most_parts=asked.most_parts, limits=limits)
    ways = split(columns, liquidity, start, end, asked.amount_msat, terms)
    return tuple(_route(graph, columns, way) for way in ways)


def _bound(columns: CompactGraph, liquidity: Liquidity, source: int, asked: Asked) -> None:
    """Our own channels send what they can now, and nothing carries more than it shall."""
    ours = columns.out_of(source)
    now = columns.most_msat[ours]
    if asked.own_msat is not None:
        channels = columns.short_channel_id[ours].tolist()
        now = np.array([asked.own_msat.get(channel, 0) for channel in channels], np.int64)
    least, most = liquidity.least_msat, liquidity.most_msat
    least[ours] = most[ours] = now
    rooms = {**asked.room_msat, **{directed(*pair): 0 for pair in asked.excluded}}
    for edge, room in zip(columns.edges(list(rooms)), rooms.values(), strict=True):
        if edge >= 0:
            most[edge] = max(0, min(int(most[edge]), room))
            least[edge] = min(least[edge], most[edge])


def _route(graph: Graph, columns: CompactGraph, way: Way) -> Route:
    hops = zip(way.edges, way.amounts_msat, way.cltv_blocks, strict=True)
    return Route(
        tuple(
            Hop(
                graph.node_ids[columns.target[edge]],
                int(columns.short_channel_id[edge]),
                int(columns.direction[edge]),
                amount,
                blocks,
            )
            for edge, amount, blocks in hops
        )
    )
