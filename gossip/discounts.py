"""Routes made cheaper by what nodes give back for coming in over some channels (bLIP 18).

The search for a route reckons without them: a discount hangs on two channels at once, and an edge of
the search is one. What was found is priced anew, from the payee back.
"""

import msgspec

from gossip.graph import Graph, directed
from gossip.routes import Hop, Route
from wire.discount import NO_DISCOUNT
from wire.units import Msat


def discounted(graph: Graph, route: Route) -> Route:
    """The route with every discount taken off; as it is where an amount would be too small then."""
    hops = list(route.hops)
    amount_msat = int(hops[-1].amount_msat)
    for at in range(len(hops) - 1, 0, -1):
        before, hop = hops[at - 1], hops[at]
        fee_msat = _fee_msat(graph, before, hop, amount_msat)
        # what the payer's own node knows of may have no policy in the graph
        if fee_msat is None:
            return route
        amount_msat += fee_msat
        if not _takes(graph, before, amount_msat):
            return route
        hops[at - 1] = msgspec.structs.replace(before, amount_msat=Msat(amount_msat))
    return Route(tuple(hops))


def gives_discounts(graph: Graph, route: Route) -> bool:
    """Whether any node on the way gives something back."""
    return any(
        policy is not None and policy.inbound != NO_DISCOUNT
        for policy in (graph.policy(hop.short_channel_id, 1 - hop.direction) for hop in route.hops[:-1])
    )


def _fee_msat(graph: Graph, before: Hop, hop: Hop, amount_msat: int) -> int | None:
    """What the node between two hops asks."""
    out = graph.policies.get(directed(hop.short_channel_id, hop.direction))
    if out is None:
        return None
    fee_msat = int(out.fee_msat(amount_msat))
    back = graph.policy(before.short_channel_id, 1 - before.direction)
    return fee_msat if back is None else fee_msat - back.inbound.off(amount_msat, fee_msat)


def _takes(graph: Graph, hop: Hop, amount_msat: int) -> bool:
    policy = graph.policy(hop.short_channel_id, hop.direction)
    return policy is None or policy.htlc_minimum_msat <= amount_msat
