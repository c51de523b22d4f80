"""What is believed of channels: learned from each attempt, forgotten with time."""

import numpy as np
import pytest

from gossip.beliefs import Beliefs
from gossip.compact import compact
from gossip.graph import directed
from gossip.liquidity import believed, nothing_known
from tests.gossip.lines import a_line

CAPACITY = 10_000_000_000
THERE, BACK = directed(100, 0), directed(100, 1)


def bounds(beliefs: Beliefs, seconds: float = 0.0) -> tuple[tuple[int, int], tuple[int, int]]:
    """Least and most of channel 100, there and back."""
    graph = compact(a_line(3))
    liquidity = believed(beliefs, graph, seconds)
    edges = graph.edges([THERE, BACK])
    there, back = ((int(liquidity.least_msat[edge]), int(liquidity.most_msat[edge])) for edge in edges)
    return there, back


def test_nothing_known_is_any_division() -> None:
    assert bounds(Beliefs()) == ((0, CAPACITY), (0, CAPACITY))
    graph = compact(a_line(3))
    liquidity = nothing_known(graph)
    assert liquidity.chance(0, 0) == 1.0
    assert liquidity.chance(0, CAPACITY // 4) == pytest.approx(0.75)
    assert liquidity.chance(0, CAPACITY + 1) == 0.0
    assert np.allclose(liquidity.chances(CAPACITY // 4), 0.75)
    assert np.isinf(liquidity.doubts(CAPACITY + 1)).all()


def test_what_was_carried_can_be_carried_and_not_come_back() -> None:
    beliefs = Beliefs()
    beliefs.carried(THERE, CAPACITY, 3_000_000_000, 0.0)
    assert bounds(beliefs) == ((3_000_000_000, CAPACITY), (0, 7_000_000_000))


def test_what_was_refused_lies_on_the_other_side() -> None:
    beliefs = Beliefs()
    beliefs.refused(BACK, CAPACITY, 3_000_000_000, 0.0)
    assert bounds(beliefs) == ((7_000_000_001, CAPACITY), (0, 2_999_999_999))


def test_a_settled_payment_moves_the_bounds() -> None:
    beliefs = Beliefs()
    beliefs.settled(THERE, CAPACITY, 3_000_000_000, 0.0)
    assert bounds(beliefs) == ((0, 7_000_000_000), (3_000_000_000, CAPACITY))
    beliefs.settled(BACK, CAPACITY, 1_000_000_000, 0.0)
    assert bounds(beliefs)[0] == (1_000_000_000, 8_000_000_000)


def test_bounds_between_which_an_amount_lies_say_how_likely_it_is() -> None:
    beliefs = Beliefs()
    beliefs.carried(THERE, CAPACITY, 2_000_000_000, 0.0)
    beliefs.refused(THERE, CAPACITY, 6_000_000_001, 0.0)
    graph = compact(a_line(3))
    liquidity, edge = believed(beliefs, graph, 0.0), graph.edges([THERE])[0]
    assert liquidity.chance(edge, 2_000_000_000) == 1.0
    assert liquidity.chance(edge, 3_000_000_000) == pytest.approx(0.75)
    assert liquidity.chance(edge, 6_000_000_001) == 0.0


def test_what_was_learned_fades_by_half_in_each_half_life() -> None:
    beliefs = Beliefs(half_life_seconds=100.0)
    beliefs.refused(THERE, CAPACITY, 2_000_000_001, 1000.0)
    beliefs.carried(THERE, CAPACITY, 1_000_000_000, 1000.0)
    assert bounds(beliefs, 1100.0)[0] == (500_000_000, 6_000_000_000)
    assert bounds(beliefs, 1300.0)[0] == (125_000_000, 9_000_000_000)


def test_new_evidence_beats_old() -> None:
    beliefs = Beliefs()
    beliefs.refused(THERE, CAPACITY, 2_000_000_000, 0.0)
    beliefs.carried(THERE, CAPACITY, 5_000_000_000, 1.0)
    assert bounds(beliefs, 1.0)[0] == (5_000_000_000, CAPACITY)
    beliefs.refused(THERE, CAPACITY, 4_000_000_000, 1.0)
    assert bounds(beliefs, 1.0)[0] == (0, 3_999_999_999)
