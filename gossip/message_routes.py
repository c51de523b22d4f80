"""Over whom an onion message reaches a node: the fewest nodes that pass such messages on (BOLT 4, 7)."""

from collections.abc import Collection

from gossip.graph import Graph
from wire.crypto.secp256k1 import Point
from wire.features import ONION_MESSAGES, Features

MOST_NODES = 8
_MOST_SEEN = 50_000


def message_route(
    graph: Graph, peers: Collection[Point], target: Point, excluded: Collection[Point] = ()
) -> tuple[Point, ...] | None:
    """The nodes from one of our peers to the target, both included; None if there are none.

    Args:
        peers: those that we can send an onion message now.
        excluded: nodes that shall not pass it on.
    """
    # backwards, level by level: the first peer that is met is at the fewest nodes' distance
    onward: dict[Point, Point | None] = {target: None}
    edge = [target]
    for _ in range(MOST_NODES):
        for node in edge:
            if node in peers and node not in excluded:
                return _walk(onward, node)
        edge = [near for node in edge for near in _before(graph, node, onward, peers, excluded)]
    return None


def _walk(onward: dict[Point, Point | None], start: Point) -> tuple[Point, ...]:
    nodes, node = [start], onward[start]
    while node is not None:
        nodes.append(node)
        node = onward[node]
    return tuple(nodes)


def _before(
    graph: Graph,
    node: Point,
    onward: dict[Point, Point | None],
    peers: Collection[Point],
    excluded: Collection[Point],
) -> list[Point]:
    """The nodes not yet seen that have a channel with this one and pass messages on."""
    found = []
    for channel in graph.channels_of(node):
        near = channel.other_end(node)
        if near in onward or near in excluded or len(onward) > _MOST_SEEN:
            continue
        if near in peers or takes_messages(graph, near):
            onward[near] = node
            found.append(near)
    return found


def takes_messages(graph: Graph, node_id: Point) -> bool:
    """Whether a node has announced that it takes onion messages."""
    announced = graph.nodes.get(node_id)
    return announced is not None and Features.from_bytes(announced.features).has(ONION_MESSAGES)
