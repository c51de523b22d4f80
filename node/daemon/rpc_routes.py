"""Commands that look for routes, and send nothing."""

from collections.abc import Sequence
from typing import Any

from gossip.asked import MOST_PARTS, Asked, chance_of
from gossip.beliefs import Beliefs, Doubts
from gossip.no_route import AmountTooLarge, CltvTooFar, FeeTooHigh, NoOutgoingCapacity, NoRoute
from gossip.routes import MAX_CLTV_BLOCKS, Route, find_route
from node.daemon.node import Node
from node.daemon.rpc_parameters import (
    INVALID_PARAMETERS,
    U32,
    AmountMsat,
    Array,
    CommandFailed,
    NodeId,
    Number,
)
from wire import scid
from wire.crypto.secp256k1 import Point

NO_ROUTE = 205
TOO_EXPENSIVE = 206
NO_FUNDS = 215
NO_CAPACITY = 220

GETROUTE_FINAL_BLOCKS = 9
MILLION = 1_000_000
# what payments have taught is in the layer that Core Lightning gives the same name
KNOWN_LAYERS = {"auto.localchans", "auto.sourcefree", "auto.no_mpp_support", "xpay"}


class RouteCommands:
    """Routes."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def getroute(
        self,
        id: NodeId,
        amount_msat: AmountMsat,
        riskfactor: Number,  # noqa: ARG002
        cltv: U32 = GETROUTE_FINAL_BLOCKS,
        fromid: NodeId | None = None,
        fuzzpercent: Number | None = None,  # noqa: ARG002
        exclude: Array | None = None,
        maxhops: U32 = 20,
    ) -> dict[str, Any]:
        """A route for an amount, as the graph has it; nothing is sent."""
        edges, nodes = excluded(exclude or [])
        try:
            route = find_route(
                self._node.graph,
                fromid or self._node.node_id,
                id,
                max(1, amount_msat),
                cltv,
                max_cltv=MAX_CLTV_BLOCKS,
                excluded=edges,
                excluded_nodes=nodes,
            )
        except NoRoute as none:
            raise CommandFailed(NO_ROUTE, f"Could not find a route: {none}") from None
        if len(route.hops) > maxhops:
            raise CommandFailed(NO_ROUTE, f"Could not find a route of at most {maxhops} hops")
        return {"route": [_hop_view(route, at) for at in range(len(route.hops))]}

    async def getroutes(
        self,
        source: NodeId,
        destination: NodeId,
        amount_msat: AmountMsat,
        layers: Array,
        maxfee_msat: AmountMsat,
        final_cltv: U32,
        maxdelay: U32 = MAX_CLTV_BLOCKS,
        maxparts: U32 = MOST_PARTS,
    ) -> dict[str, Any]:
        """Routes that together bring an amount, as a payment would take them; nothing is sent."""
        for layer in map(str, layers):
            if layer not in KNOWN_LAYERS:
                raise CommandFailed(INVALID_PARAMETERS, f"layers: unknown layer '{layer}'")
        asked = Asked(
            source,
            destination,
            max(1, amount_msat),
            final_cltv,
            own_msat=self._node.payer.spendable() if "auto.localchans" in layers else None,
            max_fee_msat=maxfee_msat,
            max_cltv_blocks=min(maxdelay, MAX_CLTV_BLOCKS),
            most_parts=1 if "auto.no_mpp_support" in layers else min(maxparts, MOST_PARTS),
        )
        payer = self._node.payer
        beliefs = payer.beliefs if "xpay" in layers else Beliefs()
        try:
            routes = await payer.planner.routes(asked, beliefs)
        except NoRoute as none:
            raise CommandFailed(_code(none), f"We could not find a usable set of paths: {none}") from None
        doubts = Doubts(self._node.graph, beliefs, asked.amount_msat, self._node.switch.now())
        chances = [chance_of(route, doubts) for route in routes]
        together = 1.0
        for chance in chances:
            together *= chance
        return {
            "probability_ppm": int(MILLION * together),
            "routes": [
                _route_view(source, route, chance) for route, chance in zip(routes, chances, strict=True)
            ],
        }


def _code(none: NoRoute) -> int:
    """Core Lightning's number for why there is no route."""
    if isinstance(none, FeeTooHigh | CltvTooFar):
        return TOO_EXPENSIVE
    if isinstance(none, AmountTooLarge):
        return NO_CAPACITY
    return NO_FUNDS if isinstance(none, NoOutgoingCapacity) else NO_ROUTE


def excluded(exclude: Sequence[Any]) -> tuple[set[tuple[int, int]], set[Point]]:
    """The directed channels SCID/DIRECTION and the nodes of a list.

    Raises:
        CommandFailed: something in it is neither.
    """
    edges: set[tuple[int, int]] = set()
    nodes: set[Point] = set()
    for text in map(str, exclude):
        channel, slash, direction = text.partition("/")
        try:
            if slash:
                edges.add((scid.parse(channel), int(direction)))
            else:
                nodes.add(Point(bytes.fromhex(text)))
        except ValueError:
            why = f"exclude: should be short_channel_id/direction or node_id: invalid token '{text}'"
            raise CommandFailed(INVALID_PARAMETERS, why) from None
    return edges, nodes


def _hop_view(route: Route, at: int) -> dict[str, Any]:
    hop = route.hops[at]
    return {
        "id": hop.node_id.hex(),
        "channel": scid.text_of(hop.short_channel_id),
        "direction": hop.direction,
        "amount_msat": hop.amount_msat,
        "delay": hop.cltv_blocks,
        "style": "tlv",
    }


def _route_view(source: Point, route: Route, chance: float) -> dict[str, Any]:
    hops = route.hops
    starts = [source, *(hop.node_id for hop in hops)]
    # what its start is given for a channel; we take nothing for our own
    before = [hops[0], *hops[:-1]]
    return {
        "probability_ppm": int(MILLION * chance),
        "amount_msat": route.amount_msat,
        "final_cltv": hops[-1].cltv_blocks,
        "path": [
            {
                "short_channel_id_dir": f"{scid.text_of(hop.short_channel_id)}/{hop.direction}",
                "node_id_in": start.hex(),
                "node_id_out": hop.node_id.hex(),
                "amount_in_msat": given.amount_msat,
                "amount_out_msat": hop.amount_msat,
                "cltv_in": given.cltv_blocks,
                "cltv_out": hop.cltv_blocks,
                "next_node_id": hop.node_id.hex(),
                "amount_msat": given.amount_msat,
                "delay": given.cltv_blocks,
            }
            for start, given, hop in zip(starts, before, hops, strict=False)
        ],
    }
