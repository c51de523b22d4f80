"""A payment's parts over the graph that a node keeps: the flow of `gossip.splitting` as routes."""

import msgspec
import numpy as np

from gossip.asked import Asked
from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph, compact
from gossip.graph import Graph, directed
from gossip.liquidity import Liquidity, believed
from gossip.no_route import AmountTooLarge, CltvTooFar, FeeTooHigh, NoOutgoingCapacity, NoRoute, Unreachable
from gossip.routes import Hop, Route
from gossip.search import Limits, Way, potentials
from gossip.splitting import Terms, single, split
from wire.crypto.secp256k1 import Point

_ENDLESS = 1 << 60


class Ground(msgspec.Struct, frozen=True, gc=False):
    """Where a plan is made: a graph in columns, and who pays whom in it."""

    columns: CompactGraph
    source: int
    target: int


def ground_of(graph: Graph, asked: Asked) -> Ground:
    """A graph put in columns for one plan; payer and payee must be in it."""
    closed = {graph.index[node] for node in asked.excluded_nodes if node in graph.index}
    columns = compact(graph, payer=None if asked.own_msat is None else asked.source, closed=closed)
    return Ground(columns, graph.index[asked.source], graph.index[asked.target])


def routes_in_parts(
    ground: Ground, asked: Asked, beliefs: Beliefs | None = None, now_seconds: float = 0.0
) -> tuple[Route, ...]:
    """Routes that together bring an amount, as likely and as cheap as can be; none if there are none.

    `beliefs` is what earlier attempts have told, as it is at `now_seconds`.
    """
    terms = Terms(most_parts=asked.most_parts, limits=_limits(asked))
    liquidity = _liquidity(ground, asked, beliefs or Beliefs(), now_seconds)
    ends = ground.source, ground.target
    ways = split(ground.columns, liquidity, *ends, asked.amount_msat, terms)
    return tuple(_route(ground.columns, way) for way in ways)


def why_none(ground: Ground, asked: Asked) -> NoRoute:
    """Which wish is in the way of the whole amount, as `find_route` would say it."""
    liquidity, amount_msat = _liquidity(ground, asked, Beliefs(), 0.0), asked.amount_msat
    own_msat = int(liquidity.most_msat[ground.columns.out_of(ground.source)].max(initial=0))
    if asked.final_cltv_blocks > asked.max_cltv_blocks:
        return CltvTooFar(asked.final_cltv_blocks, asked.max_cltv_blocks)
    if own_msat < amount_msat:
        return NoOutgoingCapacity(amount_msat, own_msat)
    anyhow = Terms(limits=Limits(max_cltv_blocks=_ENDLESS, final_cltv_blocks=asked.final_cltv_blocks))
    way = single(ground.columns, liquidity, ground.source, ground.target, amount_msat, anyhow)
    if way is not None and asked.max_fee_msat is not None and way.fee_msat > asked.max_fee_msat:
        return FeeTooHigh(way.fee_msat, asked.max_fee_msat)
    if way is not None:
        return CltvTooFar(way.cltv_blocks[0], asked.max_cltv_blocks)
    widest_msat = _widest(ground, liquidity, amount_msat)
    is_narrow = 0 < widest_msat < amount_msat
    return AmountTooLarge(amount_msat, widest_msat) if is_narrow else Unreachable(asked.target)


def _widest(ground: Ground, liquidity: Liquidity, amount_msat: int) -> int:
    """The most that some way carries, whatever it costs; found by halving, up to this amount."""
    columns, (low, high) = ground.columns, (0, amount_msat)
    most = np.where(columns.is_enabled, np.minimum(columns.most_msat, liquidity.most_msat), 0)
    most[np.isin(columns.source, list(columns.shunned - {ground.source}))] = 0
    while high - low > 1:
        middle = (low + high + 1) // 2
        weights = np.where(most >= middle, 1, _ENDLESS)
        if potentials(columns, ground.source, weights)[ground.target] < _ENDLESS:
            low = middle
        else:
            high = middle
    return low


def _limits(asked: Asked) -> Limits:
    return Limits(
        max_fee_msat=asked.max_fee_msat,
        max_cltv_blocks=asked.max_cltv_blocks,
        final_cltv_blocks=asked.final_cltv_blocks,
    )


def _liquidity(ground: Ground, asked: Asked, beliefs: Beliefs, now_seconds: float) -> Liquidity:
    liquidity = believed(beliefs, ground.columns, now_seconds)
    _bound(ground.columns, liquidity, ground.source, asked)
    return liquidity


def _bound(columns: CompactGraph, liquidity: Liquidity, source: int, asked: Asked) -> None:
    """Our own channels send what they can now, and nothing carries more than it shall."""
    ours = columns.out_of(source)
    now = columns.most_msat[ours]
    if asked.own_msat is not None:
        channels = [columns.channel_of(edge) for edge in ours.tolist()]
        now = np.array([asked.own_msat.get(channel, 0) for channel in channels], np.int64)
    least, most = liquidity.least_msat, liquidity.most_msat
    least[ours] = most[ours] = now
    rooms = {**asked.room_msat, **{directed(*pair): 0 for pair in asked.excluded}}
    for edge, room in zip(columns.edges(list(rooms)), rooms.values(), strict=True):
        if edge >= 0:
            most[edge] = max(0, min(int(most[edge]), room))
            least[edge] = min(least[edge], most[edge])


def _route(columns: CompactGraph, way: Way) -> Route:
    hops = zip(way.edges, way.amounts_msat, way.cltv_blocks, strict=True)
    return Route(
        tuple(
            Hop(
                Point(bytes.fromhex(columns.names[columns.target[edge]])),
                columns.channel_of(edge),
                int(columns.direction[edge]),
                amount,
                blocks,
            )
            for edge, amount, blocks in hops
        )
    )
