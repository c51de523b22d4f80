"""Routes from trees beside routes from the exact search, in the same networks."""

from random import Random

import pytest

from node.lab.flow.engine import Engine, Wish
from node.lab.flow.network import FlowNetwork
from node.lab.flow.routing import ExactRouter, Router
from node.lab.flow.towns import drawn_town, town_of
from node.lab.flow.trees import TreeRouter
from node.lab.generator import generate


def price_msat(network: FlowNetwork, path: list[int], amount_msat: int) -> int:
    """What the nodes on the way get."""
    carried_msat = amount_msat
    for before, after in zip(path[-2::-1], path[:0:-1], strict=True):
        carried_msat += network.fee_msat(before, after, carried_msat)
    return carried_msat - amount_msat


@pytest.mark.slow
def test_trees_find_a_way_where_there_is_one_at_nearly_the_least_price() -> None:
    random = Random(3)
    network = drawn_town(300, 3, random)
    trees, exact = TreeRouter(network), ExactRouter(network)
    routers: tuple[Router, ...] = (trees, exact)
    paid_msat = dict.fromkeys(routers, 0)
    for number in range(200):
        payer, payee = random.sample(range(300), 2)
        amount_msat = round(10 ** random.uniform(5, 9))
        avoided: set[int] = set()
        first = trees.path(payer, payee, amount_msat, avoided)
        if number % 2 and first is not None:
            avoided = {random.choice(first)}
        ways = {router: router.path(payer, payee, amount_msat, avoided) for router in paid_msat}
        assert (ways[trees] is None) == (ways[exact] is None)
        for router, way in ways.items():
            if way is not None:
                assert avoided.isdisjoint(way)
                assert [network.source[at] for at in way] == [payer, *(network.target[at] for at in way[:-1])]
                assert network.target[way[-1]] == payee
                paid_msat[router] += price_msat(network, way, amount_msat)
    assert paid_msat[exact] > 0
    assert paid_msat[trees] < 1.02 * paid_msat[exact]


def test_a_tree_hears_of_what_changes() -> None:
    network = drawn_town(30, 2, Random(5))
    router = TreeRouter(network)
    engine = Engine(network, router)
    way = router.path(29, 0, 1000, ())
    assert way is not None
    gone = network.source[way[-1]]
    engine.set_online(gone, is_online=False)
    other = router.path(29, 0, 1000, ())
    assert other is None or gone not in {network.source[at] for at in other}
    engine.set_online(gone, is_online=True)
    assert router.path(29, 0, 1000, ()) == way


def test_payments_over_trees_keep_every_millisatoshi() -> None:
    random = Random(9)
    network = drawn_town(120, 2, random)
    total = sum(network.balance_msat)
    engine = Engine(network, TreeRouter(network))
    for at_us in range(0, 40_000_000, 100_000):
        payer, payee = random.sample(range(120), 2)
        engine.wish(Wish(at_us, payer, payee, round(10 ** random.uniform(5, 9.5))))
    engine.run()
    network.check_conserved()
    assert sum(network.balance_msat) == total
    assert {outcome.is_paid for outcome in engine.outcomes} == {True, False}


@pytest.mark.slow
def test_a_graph_of_mainnets_size_becomes_a_network_that_pays() -> None:
    graph = generate(1)
    network = town_of(graph, Random(1))
    assert len(network.names) == graph.nodes
    assert len(network.ends) == graph.channels
    assert sum(network.has_policy) == int(graph.is_enabled.sum())
    engine = Engine(network, TreeRouter(network))
    is_open = network.has_policy
    large = sorted(range(graph.nodes), key=lambda place: -sum(is_open[at] for at in network.out[place]))[:40]
    for number in range(200):
        payer, payee = Random(number).sample(large, 2)
        engine.wish(Wish(number * 1000, payer, payee, 2_000_000))
    engine.run()
    network.check_conserved()
    assert sum(outcome.is_paid for outcome in engine.outcomes) > 190
