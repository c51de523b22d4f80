"""A payment's parts over the graph that a node keeps: the flow of `gossip.splitting` as routes.

The graph is put in columns for this, which takes a third of a second at mainnet's size: well spent
where a payment has to be split, too much for every payment.
"""

from collections.abc import Collection, Mapping

import numpy as np

from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph, compact
from gossip.graph import Graph, directed
from gossip.liquidity import Liquidity, believed
from gossip.routes import MAX_CLTV_BLOCKS, Hop, Route
from gossip.search import Limits, Way
from gossip.splitting import MOST_PARTS, Terms, split
from wire.crypto.secp256k1 import Point


def routes_in_parts(
    graph: Graph,
    source: Point,
    target: Point,
    amount_msat: int,
    final_cltv_delta: int,
    *,
    local_limits: Mapping[int, int] | None,
    beliefs: Beliefs | None = None,
    now_seconds: float = 0.0,
    max_fee_msat: int | None = None,
    max_cltv: int = MAX_CLTV_BLOCKS,
    excluded: Collection[tuple[int, int]] = frozenset(),
    excluded_nodes: Collection[Point] = frozenset(),
    most_parts: int = MOST_PARTS,
) -> tuple[Route, ...]:
    """Routes that together bring an amount, as likely and as cheap as can be; none if there are none.

    The arguments are those of `gossip.routes.find_route`. `beliefs` is what earlier attempts have
    told, as it is at `now_seconds`.
    """
    if source == target or target not in graph.index or source not in graph.index:
        return ()
    closed = {graph.index[node] for node in excluded_nodes if node in graph.index}
    columns = compact(graph, payer=None if local_limits is None else source, closed=closed)
    start, end = graph.index[source], graph.index[target]
    liquidity = believed(beliefs or Beliefs(), columns, now_seconds)
    _bound(columns, liquidity, start, local_limits, excluded)
    limits = Limits(max_fee_msat=max_fee_msat, max_cltv_blocks=max_cltv, final_cltv_blocks=final_cltv_delta)
    ways = split(columns, liquidity, start, end, amount_msat, Terms(most_parts=most_parts, limits=limits))
    return tuple(_route(graph, columns, way) for way in ways)


def _bound(
    columns: CompactGraph,
    liquidity: Liquidity,
    source: int,
    local_limits: Mapping[int, int] | None,
    excluded: Collection[tuple[int, int]],
) -> None:
    """Our own channels send what they can now, and what is excluded carries nothing."""
    ours = columns.out_of(source)
    now = columns.most_msat[ours]
    if local_limits is not None:
        channels = columns.short_channel_id[ours].tolist()
        now = np.array([local_limits.get(channel, 0) for channel in channels], np.int64)
    liquidity.least_msat[ours] = liquidity.most_msat[ours] = now
    gone = [edge for edge in columns.edges([directed(*pair) for pair in excluded]) if edge >= 0]
    liquidity.least_msat[gone] = liquidity.most_msat[gone] = 0


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
