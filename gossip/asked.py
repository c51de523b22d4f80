"""What a payer asks of the network: an amount, from whom to whom, and on what terms."""

from collections.abc import Mapping

import msgspec

from gossip.beliefs import Beliefs, Doubts
from gossip.discounts import discounted, gives_discounts
from gossip.graph import Graph, Policy, directed, directed_parts
from gossip.private import Hint
from gossip.routes import MAX_CLTV_BLOCKS, Route, find_route
from wire.crypto.secp256k1 import Point

MOST_PARTS = 16


class Asked(msgspec.Struct, frozen=True, gc=False):
    """Routes that are wanted, and what they must keep to.

    `own_msat` is what each of the payer's own channels can send now, by short_channel_id; channels
    not named there are not used. None lets their policies count. `room_msat` bounds what directed
    channels shall carry, by their number.
    """

    source: Point
    target: Point
    amount_msat: int
    final_cltv_blocks: int
    own_msat: Mapping[int, int] | None = None
    max_fee_msat: int | None = None
    max_cltv_blocks: int = MAX_CLTV_BLOCKS
    excluded: frozenset[tuple[int, int]] = frozenset()  # directed channels
    excluded_nodes: frozenset[Point] = frozenset()
    room_msat: Mapping[int, int] = {}
    most_parts: int = 1
    # what this payment knows beside the graph (`gossip.private`)
    hints: tuple[Hint, ...] = ()
    policies: Mapping[int, Policy] = {}


def one_way(
    graph: Graph, asked: Asked, beliefs: Beliefs, seconds: float, patience: int | None = None
) -> tuple[Route, float]:
    """The best single route by price and doubt, and how likely it is to work.

    Our own channels are known; the doubt is about the others. `patience` as in `find_route`.

    Raises:
        NoRoute: with the wish that stands in the way.
    """
    doubts = Doubts(graph, beliefs, asked.amount_msat, seconds, asked.room_msat)
    route = find_route(
        graph,
        asked.source,
        asked.target,
        asked.amount_msat,
        asked.final_cltv_blocks,
        max_fee_msat=asked.max_fee_msat,
        max_cltv=asked.max_cltv_blocks,
        excluded=asked.excluded,
        excluded_nodes=asked.excluded_nodes,
        local_limits=_within_room(asked),
        doubts=doubts,
        patience=patience,
    )
    if gives_discounts(graph, route):
        route = discounted(graph, route)
    return route, chance_of(route, doubts)


def chance_of(route: Route, doubts: Doubts) -> float:
    """How likely every channel of a route carries its HTLC; the payer's own does."""
    chance = 1.0
    for hop in route.hops[1:]:
        chance *= doubts.chance(directed(hop.short_channel_id, hop.direction), hop.amount_msat)
    return chance


def _within_room(asked: Asked) -> Mapping[int, int] | None:
    """What the payer's own channels can and shall send."""
    if asked.own_msat is None:
        return None
    left = dict(asked.own_msat)
    for number, room in asked.room_msat.items():
        scid = directed_parts(number)[0]
        if scid in left:
            left[scid] = min(left[scid], room)
    return left
