"""Routes in networks of mainnet's size: the optimum, exactly, under every limit."""

import lzma
from random import Random

import numpy as np
import pytest

from gossip.compact import CompactGraph, columns_of, compact
from gossip.graph import Graph
from gossip.imports import from_table
from gossip.no_route import NoRoute
from gossip.routes import find_route
from gossip.search import Limits, Search, Way
from tests.gossip.lines import a_policy, connect, every_route, node_id
from tests.gossip.networks import MAINNET, a_network, assert_keeps_every_limit, incoming, plain_dijkstra
from tests.gossip.test_routes import AMOUNT, any_network, the_square


def cheapest(graph: CompactGraph, source: int, target: int, amount_msat: int) -> Way | None:
    return Search(graph, source, amount_msat, is_cheapest=True).find(target, amount_msat)


def compare_with_dijkstra(graph: CompactGraph, seed: int, pairs: int) -> int:
    """Over random pairs and amounts the fee is Dijkstra's; how many pairs had a route."""
    chance, into, found = Random(seed), incoming(graph), 0
    for _ in range(pairs):
        source, target = chance.sample(range(graph.nodes), 2)
        amount_msat = int(10 ** chance.uniform(3, 9))
        way = cheapest(graph, source, target, amount_msat)
        fee_msat = plain_dijkstra(into, source, target, amount_msat)
        if way is None:
            # the plain search counts neither hops nor blocks
            assert fee_msat is None or _is_too_long(graph, source, target, amount_msat, fee_msat)
            continue
        found += 1
        assert_keeps_every_limit(graph, way, source, target, amount_msat)
        if any(graph.least_msat[edge] > amount_msat for edge in way.edges):
            # fees lift the amount above a minimum: the plain search has but one amount at each node
            assert fee_msat is None or way.fee_msat <= fee_msat
            continue
        assert fee_msat is not None
        if way.fee_msat != fee_msat:
            assert way.fee_msat > fee_msat
            assert _is_too_long(graph, source, target, amount_msat, fee_msat)
    return found


def _is_too_long(graph: CompactGraph, source: int, target: int, amount_msat: int, fee_msat: int) -> bool:
    """Whether that fee is had only by a way that is too long."""
    unlimited = Limits(max_cltv_blocks=1 << 30, max_hops=31)
    way = Search(graph, source, amount_msat, is_cheapest=True).find(target, amount_msat, unlimited)
    return way is not None and way.fee_msat == fee_msat and (way.cltv_blocks[0] > 2016 or len(way.edges) > 20)


@pytest.mark.slow
def test_a_thousand_pairs_cost_what_dijkstra_finds() -> None:
    assert sum(compare_with_dijkstra(a_network(seed), seed, 100) for seed in range(10)) > 400


@pytest.mark.slow
@pytest.mark.skipif(not MAINNET.exists(), reason="the snapshot of mainnet is not beside this checkout")
def test_a_thousand_pairs_on_mainnet_cost_what_dijkstra_finds() -> None:
    graph = from_table(lzma.decompress(MAINNET.read_bytes()))
    assert compare_with_dijkstra(graph, seed=1, pairs=1000) > 100


@pytest.mark.parametrize("block", range(10))
def test_under_all_limits_the_route_is_the_cheapest_of_all(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        graph, limits = any_network(seed)
        for max_fee, max_cltv in ((None, 2016), (5000, 180), (1500, 100), (22_000, 260)):
            allowed = [
                price
                for price, hops in every_route(graph, node_id(0), node_id(1), AMOUNT, 18, limits)
                if hops[0].cltv_blocks <= max_cltv
                and (max_fee is None or hops[0].amount_msat - AMOUNT <= max_fee)
            ]
            way = _limited(graph, limits, Limits(max_fee_msat=max_fee, max_cltv_blocks=max_cltv))
            assert (way is None) == (not allowed), seed
            # the risk of each edge is rounded to a msat, and so are the fees on it
            assert way is None or abs(way.price_msat - min(allowed)) <= 2 * len(way.edges), seed


def _limited(graph: Graph, own: dict[int, int], limits: Limits) -> Way | None:
    columns, source = compact(graph), graph.index[node_id(0)]
    ours = {int(edge): own.get(int(columns.short_channel_id[edge]), 0) for edge in columns.out_of(source)}
    return Search(columns, source, AMOUNT, own_msat=ours).find(graph.index[node_id(1)], AMOUNT, limits)


def test_a_further_part_is_found_from_the_same_potentials() -> None:
    graph = a_network(1)
    search = Search(graph, 290, 10_000, is_cheapest=True)
    for target in range(20, 60):
        way, again = search.find(target, 1_000_000), cheapest(graph, 290, target, 1_000_000)
        assert (way is None) == (again is None)
        assert way is None or again is None or way.fee_msat == again.fee_msat


def test_both_searches_agree_on_the_specifications_example() -> None:
    graph = the_square()
    way = Search(compact(graph), 0, 4_999_999).find(
        graph.index[node_id(2)], 4_999_999, Limits(final_cltv_blocks=60)
    )
    route = find_route(graph, node_id(0), node_id(2), 4_999_999, 60)
    assert way is not None
    assert way.amounts_msat == tuple(hop.amount_msat for hop in route.hops)
    assert way.cltv_blocks == tuple(hop.cltv_blocks for hop in route.hops)
    assert way.fee_msat == 10_199


def test_an_edge_whose_minimum_only_the_fees_reach_is_used() -> None:
    graph = Graph()
    connect(graph, 1, 0, 1, a_policy(htlc_minimum_msat=1_500_000))
    connect(graph, 2, 1, 2, a_policy(fee_base_msat=500_000, fee_proportional_millionths=0))
    way = Search(compact(graph), 0, 1_000_000).find(2, 1_000_000)
    assert way is not None
    assert way.amounts_msat == (1_500_000, 1_000_000)
    assert Search(compact(graph), 0, 999_999).find(2, 999_999) is None


def test_no_way_back_through_closed_nodes_or_excluded_edges() -> None:
    graph = compact(the_square())
    start, over_b, end, over_d = (graph.place(node_id(place).hex()) for place in range(4))
    way = Search(graph, start, 1000, closed=[over_b]).find(end, 1000)
    assert way is not None
    assert graph.target[way.edges[0]] == over_d
    again = Search(graph, start, 1000, excluded=[way.edges[0]]).find(end, 1000)
    assert again is not None
    assert graph.target[again.edges[0]] == over_b
    assert Search(graph, start, 1000, excluded=[*way.edges, *again.edges]).find(end, 1000) is None


def test_numbers_as_large_as_the_protocol_allows_overflow_nothing() -> None:
    most = (1 << 32) - 1
    rows = [(at, 0, at, at + 1, 21 * 10**14, most, most, (1 << 16) - 1, 0, (1 << 62), 1) for at in range(3)]
    graph = CompactGraph([str(at) for at in range(4)], columns_of(np.array(rows, np.int64)))
    unlimited = Limits(max_cltv_blocks=1 << 40)
    way = Search(graph, 0, 10**10).find(3, 10**10, unlimited)
    assert way is not None
    assert way.amounts_msat[1] == 10**10 + most + 10**10 * most // 1_000_000
    assert Search(graph, 0, 2 * 10**18).find(3, 2 * 10**18, unlimited) is None


def test_a_live_graph_and_its_columns_agree_on_whether_there_is_a_route() -> None:
    for seed in range(400, 500):
        graph, limits = any_network(seed)
        try:
            found = find_route(graph, node_id(0), node_id(1), AMOUNT, 18, local_limits=limits)
        except NoRoute:
            found = None
        assert (_limited(graph, limits, Limits()) is None) == (found is None)
