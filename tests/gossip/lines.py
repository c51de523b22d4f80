"""Small networks for the tests of graph and routes, and a route search too slow to be wrong."""

from collections.abc import Iterator, Mapping

import msgspec

from gossip.graph import Channel, Graph, Policy
from gossip.routes import HOP_PRICE_MSAT, RISK_BILLIONTHS, Hop
from wire.crypto.secp256k1 import Point
from wire.units import Msat, Sat


def node_id(number: int) -> Point:
    """Bytes that look like a node's id, in the order of their numbers."""
    return b"\x02" + number.to_bytes(32, "big")


def a_policy(**changes: int | bool) -> Policy:
    """What most nodes ask for, but for the changes."""
    usual = Policy(
        timestamp=1,
        cltv_expiry_delta=40,
        htlc_minimum_msat=Msat(1),
        htlc_maximum_msat=Msat(9_900_000_000),
        fee_base_msat=Msat(1000),
        fee_proportional_millionths=10,
    )
    return msgspec.structs.replace(usual, **changes)


def a_channel(scid: int, one: int, other: int, capacity_sat: int = 10_000_000) -> Channel:
    """A channel between two numbered nodes."""
    low, high = sorted((one, other))
    return Channel(scid, node_id(low), node_id(high), Sat(capacity_sat))


def a_line(nodes: int, policy: Policy | None = None) -> Graph:
    """Nodes in a row; channel 100 + i joins i and i + 1."""
    graph = Graph()
    for i in range(nodes - 1):
        connect(graph, 100 + i, i, i + 1, policy or a_policy())
    return graph


def connect(
    graph: Graph, scid: int, one: int, other: int, policy: Policy, back: Policy | None = None
) -> None:
    """A channel whose policy from `one` is given, and back the same if not told otherwise."""
    channel = a_channel(scid, one, other)
    graph.add_channel(channel)
    direction = channel.direction_from(node_id(one))
    graph.apply_policy(scid, direction, policy)
    graph.apply_policy(scid, 1 - direction, back or policy)


def every_route(
    graph: Graph, source: Point, target: Point, amount_msat: int, final_cltv: int, limits: Mapping[int, int]
) -> Iterator[tuple[int, tuple[Hop, ...]]]:
    """All routes without a loop that keep every edge's limits, with their prices."""
    yield from _ending(graph, source, (target,), amount_msat, (), amount_msat, final_cltv, limits)


def _ending(
    graph: Graph,
    source: Point,
    nodes: tuple[Point, ...],
    price: int,
    hops: tuple[Hop, ...],
    amount: int,
    cltv: int,
    limits: Mapping[int, int],
) -> Iterator[tuple[int, tuple[Hop, ...]]]:
    node, risk = nodes[0], hops[-1].amount_msat if hops else amount
    for channel in graph.channels_of(node):
        before = channel.other_end(node)
        direction = channel.direction_from(before)
        policy = graph.policy(channel.short_channel_id, direction)
        hop = (Hop(node, channel.short_channel_id, direction, Msat(amount), cltv), *hops)
        if before == source:
            least = policy.htlc_minimum_msat if policy else 0
            if least <= amount <= limits.get(channel.short_channel_id, 0):
                yield price, hop
        elif before not in nodes and policy and carries(channel, policy, amount):
            dearer = price + policy.fee_msat(price) + HOP_PRICE_MSAT
            dearer += policy.cltv_expiry_delta * risk * RISK_BILLIONTHS // 1_000_000_000
            needed, blocks = amount + policy.fee_msat(amount), cltv + policy.cltv_expiry_delta
            yield from _ending(graph, source, (before, *nodes), dearer, hop, needed, blocks, limits)


def carries(channel: Channel, policy: Policy, amount_msat: int) -> bool:
    """Whether an edge takes an HTLC of this size."""
    if policy.is_disabled or policy.htlc_maximum_msat > channel.capacity_sat * 1000:
        return False
    return policy.htlc_minimum_msat <= amount_msat <= policy.htlc_maximum_msat
