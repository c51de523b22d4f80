"""Over whom an onion message reaches a node: the fewest nodes that pass such messages on (BOLT 4, 7).

A tree from our peers to all that they reach takes 70 ms at mainnet's size, a walk in it nothing. So
who answers strangers keeps a tree for a while, and who asks for himself makes a new one.
"""

from collections.abc import Collection, Mapping
from typing import TypeAlias

from gossip.graph import Graph
from wire.crypto.secp256k1 import Point
from wire.features import ONION_MESSAGES, Features

MOST_NODES = 8

# of every node that is reached, the one before it; None before a peer of ours
Tree: TypeAlias = Mapping[Point, Point | None]


def message_tree(graph: Graph, peers: Collection[Point], excluded: Collection[Point] = ()) -> Tree:
    """All that messages reach which begin at one of these peers, and how.

    Args:
        peers: those that we can send an onion message now.
        excluded: nodes that shall not pass it on.
    """
    tree: dict[Point, Point | None] = {peer: None for peer in peers if peer not in excluded}
    edge = list(tree)
    for _ in range(MOST_NODES - 1):
        reached = []
        for near in edge:
            for channel in graph.channels_of(near):
                far = channel.other_end(near)
                if far not in tree and far not in excluded and takes_messages(graph, far):
                    tree[far] = near
                    reached.append(far)
        edge = reached
    return tree


def route_in(tree: Tree, graph: Graph, target: Point) -> tuple[Point, ...] | None:
    """The nodes from a peer of ours to the target, both included; None if it is not reached."""
    nodes, node = [target], target
    if target not in tree:
        # whether it takes messages itself, who asks for a way to it must know
        ends = (channel.other_end(target) for channel in graph.channels_of(target))
        nearest = next((end for end in ends if end in tree), None)
        if nearest is None:
            return None
        nodes.append(nearest)
        node = nearest
    while (before := tree[node]) is not None:
        nodes.append(before)
        node = before
    return tuple(reversed(nodes))


def message_route(
    graph: Graph, peers: Collection[Point], target: Point, excluded: Collection[Point] = ()
) -> tuple[Point, ...] | None:
    """The way to one target as the graph is now, round the excluded nodes."""
    return route_in(message_tree(graph, peers, set(excluded) - {target}), graph, target)


def takes_messages(graph: Graph, node_id: Point) -> bool:
    """Whether a node has announced that it takes onion messages."""
    announced = graph.nodes.get(node_id)
    return announced is not None and Features.from_bytes(announced.features).has(ONION_MESSAGES)
