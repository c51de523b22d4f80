"""Gossip over a line of routers: whatever the order of delivery, all learn the same network."""

from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.graph import Channel, Graph, Policy
from tests.gossip.lines import a_policy
from tests.gossip.routers import CAPACITY_SAT, NOW_SECONDS, Network, Party, a_scid, parties, updated

CHANNELS = [(one, other, a_scid(number)) for number, (one, other) in enumerate(pairwise(parties), start=1)]


def seen(graph: Graph) -> tuple[dict[int, Channel], dict[int, Policy], set[bytes]]:
    return graph.channels, graph.policies, set(graph.nodes)


def whole(network: Network) -> None:
    """Every router knows four channels, eight policies and five names, and nobody was warned."""
    graphs = [router.graph for router in network.routers.values()]
    assert all(seen(graph) == seen(graphs[0]) for graph in graphs)
    assert len(graphs[0]) == 4
    assert len(graphs[0].policies) == 8
    assert len(graphs[0].nodes) == 5
    assert all(
        channel.is_announced and channel.capacity_sat == CAPACITY_SAT
        for channel in graphs[0].channels.values()
    )
    assert network.warned == []


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_any_order_of_delivery_leads_all_to_the_same_graph(seed: int) -> None:
    """Messages overtake each other, peers connect late, filters come when they come."""
    chance = Random(seed)
    network = Network(parties)
    todo: list[tuple[Party, Party, bytes | None]] = [(one, other, None) for one, other, _ in CHANNELS]
    todo += [(who, who, raw) for channel in CHANNELS for who, raw in network.open(*channel)]
    chance.shuffle(todo)
    for one, other, short_channel_id in CHANNELS:
        changed = a_policy(timestamp=NOW_SECONDS + 1, fee_base_msat=chance.randrange(1000))
        before = todo.index((one, one, updated(one, other, short_channel_id)))
        after = chance.randint(before + 1, len(todo))
        todo.insert(after, (one, one, updated(one, other, short_channel_id, changed)))
    for one, other, raw in todo:
        if raw is None:
            network.connect(one, other)
        else:
            network.publish(one, raw)
        for _ in range(chance.randrange(4)):
            if network.under_way:
                network.deliver(chance.randrange(len(network.under_way)))
    network.settle(iter(lambda: chance.randrange(1 << 30), -1))
    whole(network)


def test_in_order_over_a_line_each_message_crosses_each_link_once() -> None:
    network = Network(parties)
    for one, other, _ in CHANNELS:
        network.connect(one, other)
    network.settle(iter(lambda: 0, -1))
    for channel in CHANNELS:
        for who, raw in network.open(*channel):
            network.publish(who, raw)
    crossings = 0
    while network.under_way:
        crossings += network.under_way[0][1].__class__.__name__ == "Send"
        network.deliver(0)
    whole(network)
    # 4 channels, 8 updates and 5 names over 4 links, and what both ends of a channel say at once
    assert crossings <= 17 * 4 + 4 * 4
