"""What a payer learns of channels: bounded, shared by payments, and the same for both searches."""

from random import Random

import pytest

from gossip.beliefs import Beliefs, Doubts
from gossip.compact import compact
from gossip.graph import Graph, directed
from gossip.liquidity import believed
from gossip.no_route import AmountTooLarge
from gossip.routes import HOP_PRICE_MSAT, find_route
from gossip.splitting import single
from tests.gossip.lines import a_line, node_id
from tests.gossip.test_parts import A, B, D, the_square
from tests.gossip.test_routes import AMOUNT, any_network

CAPACITY = 10_000_000_000
THERE, BACK = directed(3, 0), directed(3, 1)
OWN = {1: 8_000_000_000, 2: 8_000_000_000}


def test_what_is_on_its_way_cannot_be_sent_again() -> None:
    beliefs = Beliefs()
    beliefs.carried(THERE, CAPACITY, 3_000_000_000, 0.0)
    beliefs.sent(THERE, 2_000_000_000)
    assert beliefs.bounds(THERE, CAPACITY, 0.0) == (1_000_000_000, 8_000_000_000)
    assert beliefs.bounds(BACK, CAPACITY, 0.0) == (0, 7_000_000_000)
    # what is refused beside it tells of both together
    beliefs.refused(THERE, CAPACITY, 4_000_000_000, 0.0)
    beliefs.landed(THERE, 2_000_000_000)
    assert beliefs.bounds(THERE, CAPACITY, 0.0) == (3_000_000_000, 5_999_999_999)


def test_the_channels_heard_of_longest_ago_are_forgotten_first() -> None:
    beliefs = Beliefs(most_channels=3)
    for scid in (1, 2, 3, 1, 4, 5):
        beliefs.refused(directed(scid, 0), CAPACITY, 1000, 0.0)
    assert (len(beliefs), beliefs.channels()) == (3, {1, 4, 5})
    for _ in range(2):
        beliefs.sent(directed(7, 0), 1000)
    assert len(beliefs) == 3
    for _ in range(2):
        beliefs.landed(directed(7, 0), 1000)
    assert beliefs.channels() == {1, 4, 5}


def test_a_copy_learns_nothing_more() -> None:
    beliefs = Beliefs()
    before = beliefs.copy()
    beliefs.refused(THERE, CAPACITY, 1000, 0.0)
    beliefs.sent(THERE, 10)
    assert before.bounds(THERE, CAPACITY, 0.0) == (0, CAPACITY)


def test_a_route_goes_where_less_is_doubted() -> None:
    graph, beliefs = the_square(), Beliefs()
    beliefs.refused(directed(3, 0), CAPACITY, 2_000_000_000, 0.0)

    def first(amount_msat: int, seconds: float) -> int:
        doubts = Doubts(graph, beliefs, amount_msat, seconds)
        route = find_route(graph, A, D, amount_msat, 18, local_limits=OWN, doubts=doubts)
        return route.hops[1].short_channel_id

    assert first(1_500_000_000, 0.0) == 4
    assert first(3_000_000_000, 0.0) == 4
    beliefs.refused(directed(4, 0), CAPACITY, 1_000_000_000, 0.0)
    assert first(1_500_000_000, 0.0) == 3
    with pytest.raises(AmountTooLarge):
        find_route(graph, A, D, 3_000_000_000, 18, doubts=Doubts(graph, beliefs, 3_000_000_000, 0.0))
    assert first(3_000_000_000, 1e6) in (3, 4)


def test_doubt_is_no_fee() -> None:
    graph = a_line(4)
    sure, unsure, asked = Beliefs(), Beliefs(), (graph, node_id(0), node_id(3), 4_000_000_000, 18)
    unsure.refused(directed(101, 0), CAPACITY, 5_000_000_001, 0.0)
    first, second = (
        find_route(*asked, doubts=Doubts(graph, each, 4_000_000_000, 0.0)) for each in (sure, unsure)
    )
    assert first == second == find_route(*asked)


def test_the_search_in_arrays_and_the_other_doubt_alike() -> None:
    """Both find a way of the same price wherever there is one, whatever was learned before."""
    found = 0
    for seed in range(150):
        graph, limits = any_network(seed)
        beliefs, columns = a_past(graph, seed), compact(graph, payer=A)
        liquidity, doubts = believed(beliefs, columns, 100.0), Doubts(graph, beliefs, AMOUNT, 100.0)
        for edge in range(len(columns)):
            chance = doubts.chance(columns.number(edge), AMOUNT)
            assert chance == pytest.approx(liquidity.chance(edge, AMOUNT))
        own = columns.out_of(graph.index[A])
        now = [limits.get(scid, 0) for scid in columns.short_channel_id[own].tolist()]
        liquidity.least_msat[own] = liquidity.most_msat[own] = now
        way = single(columns, liquidity, graph.index[A], graph.index[B], AMOUNT)
        if way is None:
            continue
        found += 1
        route = find_route(graph, A, B, AMOUNT, 18, local_limits=limits, doubts=doubts)
        numbers = [directed(hop.short_channel_id, hop.direction) for hop in route.hops]
        ours = route.fee_msat + price(doubts, numbers)
        theirs = way.fee_msat + price(doubts, [columns.number(edge) for edge in way.edges])
        assert abs(ours - theirs) <= 20, seed
    assert found > 50


def price(doubts: Doubts, numbers: list[int]) -> int:
    """What doubt and length add to a way's fees."""
    return sum(HOP_PRICE_MSAT + (doubts.price_msat(number, 1) or 0) for number in numbers[1:])


def a_past(graph: Graph, seed: int) -> Beliefs:
    """What some attempts may have told."""
    beliefs, chance = Beliefs(), Random(seed)
    for scid, channel in graph.channels.items():
        lesson = chance.choice((beliefs.carried, beliefs.refused, beliefs.settled, None))
        if lesson is not None:
            amount_msat = chance.randrange(1, channel.capacity_sat * 1000)
            lesson(directed(scid, chance.randrange(2)), channel.capacity_sat * 1000, amount_msat, 0.0)
    return beliefs
