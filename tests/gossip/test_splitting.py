"""Payments in parts: the cheapest flow of units, exact amounts, every limit kept by the parts together."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations_with_replacement
from math import log

import msgspec
import numpy as np
import pytest

from gossip.beliefs import Beliefs
from gossip.compact import CompactGraph, columns_of
from gossip.liquidity import Liquidity, believed, nothing_known
from gossip.search import Limits
from gossip.splitting import Flow, Terms, chance, single, split
from tests.gossip.networks import a_network

AMOUNT = 1_000_000_000
UNIT = 10_000


def two_ways(capacity_sat: int = 2_000_000, ppm: int = 100) -> CompactGraph:
    """0 to 3 over 1 or 2; the payer's own channels are large."""
    own = 100_000_000
    ends = [(0, 1, own, 0), (0, 2, own, 0), (1, 3, capacity_sat, ppm), (2, 3, capacity_sat, ppm)]
    rows = [
        (scid, 0, source, target, capacity, 0, fee, 40, 0, capacity * 1000, 1)
        for scid, (source, target, capacity, fee) in enumerate(ends, start=1)
    ]
    return CompactGraph(list("0123"), columns_of(np.array(rows, np.int64)))


def test_two_ways_alike_get_half_each() -> None:
    graph = two_ways()
    parts = split(graph, nothing_known(graph), 0, 3, AMOUNT)
    assert [part.amounts_msat[-1] for part in parts] == [AMOUNT // 2, AMOUNT // 2]
    assert all(part.fee_msat == AMOUNT // 2 // 10_000 for part in parts)


def test_what_no_way_carries_alone_is_carried_by_both() -> None:
    graph = two_ways(capacity_sat=600_000)
    assert single(graph, nothing_known(graph), 0, 3, AMOUNT) is None
    assert len(split(graph, nothing_known(graph), 0, 3, AMOUNT)) == 2
    assert split(graph, nothing_known(graph), 0, 3, 2 * AMOUNT) == ()


def test_what_is_too_much_for_one_htlc_goes_over_the_same_way_in_several() -> None:
    graph = two_ways()
    graph.most_msat[graph.source > 0] = AMOUNT * 3 // 10
    parts = split(graph, nothing_known(graph), 0, 3, AMOUNT)
    assert sum(part.amounts_msat[-1] for part in parts) == AMOUNT
    assert (len(parts), len({part.edges for part in parts})) == (4, 2)
    assert all(part.amounts_msat[1] <= AMOUNT * 3 // 10 for part in parts)


def test_a_payment_small_beside_the_channels_stays_whole() -> None:
    graph = two_ways()
    assert len(split(graph, nothing_known(graph), 0, 3, AMOUNT // 1000)) == 1


def test_what_an_attempt_taught_moves_the_parts() -> None:
    graph, beliefs = two_ways(), Beliefs()
    over_one = graph.number(int(np.flatnonzero(graph.source == 1)[0]))
    beliefs.refused(over_one, 2_000_000_000, AMOUNT // 4, 0.0)
    parts = split(graph, believed(beliefs, graph, 0.0), 0, 3, AMOUNT)
    assert max(part.amounts_msat[-1] for part in parts) > AMOUNT * 3 // 4
    assert len(split(graph, believed(beliefs, graph, 1e9), 0, 3, AMOUNT)) == 2


def test_the_fee_budget_is_for_all_parts_together() -> None:
    graph = two_ways()
    for budget, expected in ((100_000, 2), (99_999, 0)):
        terms = Terms(limits=Limits(max_fee_msat=budget))
        assert len(split(graph, nothing_known(graph), 0, 3, AMOUNT, terms)) == expected


def test_without_leave_for_parts_there_are_none() -> None:
    graph = two_ways()
    assert len(split(graph, nothing_known(graph), 0, 3, AMOUNT, Terms(most_parts=1))) == 1


def test_the_parts_together_keep_every_limit_and_add_up() -> None:
    assert sum(parted(a_network(seed, nodes=60, channels=240)) for seed in range(8)) > 20


def parted(graph: CompactGraph) -> int:
    """Pay some nodes some amounts; how many of the payments went in parts."""
    liquidity, carried = nothing_known(graph), 0
    for target in range(1, 12):
        for amount_msat in (10_000_000, 300_000_000, 3_000_000_000):
            parts = split(graph, liquidity, 50, target, amount_msat)
            if not parts:
                continue
            carried += len(parts) > 1
            assert sum(part.amounts_msat[-1] for part in parts) == amount_msat
            load: Counter[int] = Counter()
            for part in parts:
                assert part.cltv_blocks[0] <= 2016
                for edge, amount in zip(part.edges, part.amounts_msat, strict=True):
                    assert graph.least_msat[edge] <= amount <= graph.most_msat[edge]
                    load[edge] += amount
            assert all(amount <= liquidity.most_msat[edge] for edge, amount in load.items())
    return carried


def _ways(
    graph: CompactGraph, node: int, target: int, passed: tuple[int, ...] = ()
) -> Iterator[tuple[int, ...]]:
    if node == target:
        yield passed
        return
    seen = {0, *(int(graph.target[edge]) for edge in passed)}
    takes = graph.is_enabled & (graph.least_msat <= UNIT) & (graph.most_msat >= UNIT)
    for edge in np.flatnonzero(takes & (graph.source == node)).tolist():
        if int(graph.target[edge]) not in seen:
            yield from _ways(graph, int(graph.target[edge]), target, (*passed, edge))


def _price(flow: Flow, laid: Counter[int]) -> float:
    """What the flow minimises: by the unit fees, time locks and hops, by the edge the doubt in it."""
    total = 0.0
    for edge, units in laid.items():
        total += sum(flow.cost(edge, unit) for unit in range(units))
    return total


def test_no_other_flow_of_as_many_units_is_cheaper() -> None:
    assert sum(compared(a_network(seed, nodes=7, channels=16)) for seed in range(40)) > 40


def compared(graph: CompactGraph) -> int:
    """Lay four units to each node, and in every other way; to how many nodes there is a way at all."""
    checked = 0
    for target in range(1, 7):
        flow = Flow(graph, _tight(graph), 0, target, 4 * UNIT, Terms(doubt_msat=3000))
        assert (flow.units, flow.unit_msat) == (4, UNIT)
        ways = [way for way in _ways(graph, 0, target) if all(flow.cost(edge, 0) < 1 << 60 for edge in way)]
        prices = []
        for chosen in combinations_with_replacement(ways, 4):
            price = _price(flow, Counter(edge for way in chosen for edge in way))
            if price < 1 << 60:
                prices.append(price)
        is_full = flow.fill()
        assert is_full == bool(prices)
        if prices:
            checked += 1
            # one rank for each unit that was taken back is the price of never going in a circle
            assert _price(flow, Counter(flow.laid)) <= min(prices) + 16
    return checked


def _tight(graph: CompactGraph) -> Liquidity:
    """Channels that hold a few units each, so that the flow has to spread and take back."""
    chance_of = np.random.default_rng(len(graph))
    most = np.minimum(graph.capacity_msat, chance_of.integers(9_000, 50_000, len(graph)))
    return Liquidity(np.zeros(len(graph), np.int64), most)


def test_the_chance_of_a_way_is_that_of_all_its_foreign_channels() -> None:
    graph = two_ways()
    liquidity = nothing_known(graph)
    way = single(graph, liquidity, 0, 3, AMOUNT)
    assert way is not None
    assert chance(liquidity, way) == pytest.approx(0.5)
    assert -log(chance(liquidity, way)) == pytest.approx(float(liquidity.doubts(AMOUNT)[way.edges[1]]))
    assert msgspec.structs.replace(way, price_msat=0) != way
