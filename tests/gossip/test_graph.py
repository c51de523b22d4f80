"""The graph: channels come, change and go; only usable edges can be walked."""

import msgspec

from gossip.graph import Graph, Node, directed, directed_parts
from tests.bolt import bolt
from tests.gossip.lines import a_channel, a_line, a_policy, connect, node_id


def edges(graph: Graph) -> set[tuple[bytes, bytes, int]]:
    """(from, to, directed number) of all usable edges."""
    return {
        (graph.node_ids[edge[0]], graph.node_ids[place], edge[6])
        for place, into in enumerate(graph.incoming)
        for edge in into.values()
    }


def test_a_directed_channel_is_one_number() -> None:
    assert directed_parts(directed(0xFFFFFFFFFFFFFFFF, 1)) == (0xFFFFFFFFFFFFFFFF, 1)


def test_a_channel_without_policies_has_no_edges() -> None:
    graph = Graph()
    graph.add_channel(a_channel(7, 0, 1))
    assert 7 in graph
    assert edges(graph) == set()


def test_each_direction_is_an_edge_of_its_own() -> None:
    graph = Graph()
    graph.add_channel(a_channel(7, 0, 1))
    graph.apply_policy(7, 1, a_policy())
    assert edges(graph) == {(node_id(1), node_id(0), directed(7, 1))}
    graph.apply_policy(7, 0, a_policy())
    graph.apply_policy(7, 1, a_policy(is_disabled=True))
    assert edges(graph) == {(node_id(0), node_id(1), directed(7, 0))}


def test_limits_that_contradict_each_other_make_no_edge() -> None:
    graph = a_line(2)
    graph.apply_policy(100, 0, a_policy(htlc_minimum_msat=10, htlc_maximum_msat=9))
    graph.apply_policy(100, 1, a_policy(htlc_maximum_msat=10_000_000_001))
    assert edges(graph) == set()


@bolt("validation.2")
def test_a_channel_with_unknown_even_features_has_no_edges() -> None:
    graph = a_line(2)
    graph.add_channel(msgspec.structs.replace(graph.channels[100], is_understood=False))
    assert edges(graph) == set()


def test_a_removed_channel_takes_its_lonely_nodes_with_it() -> None:
    graph = a_line(3)
    graph.set_node(node_id(0), Node(1))
    graph.remove_channel(100)
    assert node_id(0) not in graph.index
    assert node_id(0) not in graph.nodes
    assert {number >> 1 for _, _, number in edges(graph)} == {101}
    assert list(graph.channels_of(node_id(0))) == []


def test_a_forgotten_nodes_place_is_used_again() -> None:
    graph = a_line(3)
    graph.remove_channel(100)
    connect(graph, 200, 2, 9, a_policy())
    assert len(graph.node_ids) == 3
    assert (node_id(9), node_id(2), directed(200, 1)) in edges(graph)


def test_every_change_is_a_new_version() -> None:
    graph = a_line(2)
    before = graph.version
    graph.apply_policy(100, 0, a_policy(timestamp=2))
    assert graph.version > before
    graph.remove_channel(12345)
    assert len(graph) == 1
