"""Routes: amounts and time locks as the payee's end dictates them, within every limit."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.graph import Graph, Node, Policy
from gossip.no_route import (
    AmountTooLarge,
    CltvTooFar,
    FeeTooHigh,
    IncompatibleTarget,
    NoOutgoingCapacity,
    NoRoute,
    TargetIsSource,
    UnknownTarget,
    Unreachable,
)
from gossip.routes import OnionHop, Route, find_route
from tests.bolt import bolt
from tests.gossip.lines import a_line, a_policy, connect, every_route, node_id
from wire.units import Msat

A, B, C, D = (node_id(i) for i in range(4))
PLENTY = 10**10


def the_square() -> Graph:
    """The routing example of BOLT 7: A and C joined over B and over D."""
    graph = Graph()
    asked = {
        number: a_policy(
            cltv_expiry_delta=10 * k, fee_base_msat=100 * k, fee_proportional_millionths=1000 * k
        )
        for number, k in enumerate((1, 2, 3, 4))
    }
    for scid, (one, other) in enumerate([(0, 1), (0, 3), (1, 2), (3, 2)], start=1):
        connect(graph, scid, one, other, asked[one], asked[other])
    return graph


def test_the_specifications_example_over_b() -> None:
    route = find_route(the_square(), A, C, 4_999_999, 18 + 42)
    assert [(hop.node_id, hop.amount_msat, hop.cltv_blocks) for hop in route.hops] == [
        (B, 5_010_198, 20 + 18 + 42),
        (C, 4_999_999, 18 + 42),
    ]
    assert route.fee_msat == 10_199
    assert route.cltv_blocks == 80


def test_the_specifications_example_over_d() -> None:
    route = find_route(the_square(), A, C, 4_999_999, 18 + 42, excluded_nodes=[B])
    assert [(hop.amount_msat, hop.cltv_blocks) for hop in route.hops] == [(5_020_398, 100), (4_999_999, 60)]


def test_a_direct_payment_pays_no_fee_and_adds_no_blocks() -> None:
    route = find_route(the_square(), B, C, 4_999_999, 18)
    assert [(hop.amount_msat, hop.cltv_blocks) for hop in route.hops] == [(4_999_999, 18)]


def test_each_node_is_told_the_next_htlc_and_the_last_its_own() -> None:
    told = find_route(the_square(), A, C, 4_999_999, 60).for_onion(height=700)
    assert told == (
        OnionHop(B, Msat(4_999_999), 760, 3),
        OnionHop(C, Msat(4_999_999), 760, None),
    )


def test_an_excluded_direction_is_walked_around() -> None:
    graph = the_square()
    assert find_route(graph, A, C, 1000, 18, excluded={(3, 0)}).hops[0].node_id == D
    assert find_route(graph, A, C, 1000, 18, excluded={(3, 1)}).hops[0].node_id == B


def test_an_own_channel_is_used_up_to_what_it_can_send_now() -> None:
    graph = the_square()
    assert find_route(graph, A, C, 1000, 18, local_limits={1: 1201, 2: PLENTY}).hops[0].node_id == D
    assert find_route(graph, A, C, 1000, 18, local_limits={1: 1202, 2: PLENTY}).hops[0].node_id == B


def test_a_private_channel_of_ours_needs_no_policy() -> None:
    graph = a_line(3)
    del graph.policies[100 << 1]
    route = find_route(graph, A, C, 5000, 18, local_limits={100: PLENTY})
    assert [hop.short_channel_id for hop in route.hops] == [100, 101]


def test_a_disabled_edge_is_not_used() -> None:
    graph = the_square()
    graph.apply_policy(3, 0, a_policy(is_disabled=True))
    assert find_route(graph, A, C, 1000, 18).hops[0].node_id == D


def test_the_time_lock_can_outweigh_the_fee() -> None:
    graph = Graph()
    for scid, node in ((1, 1), (2, 2)):
        connect(graph, scid, 0, node, a_policy())
    connect(graph, 3, 1, 3, a_policy(cltv_expiry_delta=1000, fee_base_msat=0, fee_proportional_millionths=0))
    connect(graph, 4, 2, 3, a_policy(cltv_expiry_delta=10, fee_base_msat=1000, fee_proportional_millionths=0))
    assert find_route(graph, A, D, 100_000_000, 18).fee_msat == 1000
    assert find_route(graph, A, D, 100_000, 18).fee_msat == 0


def test_a_dearer_label_is_kept_when_the_cheapest_breaks_a_limit_further_on() -> None:
    graph = a_line(4)
    connect(graph, 9, 2, 3, a_policy(cltv_expiry_delta=90, fee_base_msat=0))
    assert find_route(graph, A, D, 1000, 18).cltv_blocks == 18 + 90 + 40
    assert find_route(graph, A, D, 1000, 18, max_cltv=140).cltv_blocks == 18 + 40 + 40
    assert find_route(graph, A, D, 1000, 18, local_limits={100: PLENTY}, max_cltv=140).fee_msat == 2000


def test_twenty_hops_are_the_most() -> None:
    assert len(find_route(a_line(21), A, node_id(20), 1000, 18).hops) == 20
    with pytest.raises(NoRoute):
        find_route(a_line(22), A, node_id(21), 1000, 18)


def test_paying_oneself_is_no_route() -> None:
    with pytest.raises(TargetIsSource):
        find_route(the_square(), A, A, 1000, 18)


def test_a_target_without_channels_is_unknown() -> None:
    with pytest.raises(UnknownTarget) as caught:
        find_route(the_square(), A, node_id(9), 1000, 18)
    assert caught.value.target == node_id(9)
    assert node_id(9).hex() in str(caught.value)


def test_the_error_says_what_our_channels_can_send() -> None:
    with pytest.raises(NoOutgoingCapacity) as caught:
        find_route(the_square(), A, C, 1000, 18, local_limits={1: 999, 2: 998})
    assert caught.value.largest_msat == 999
    assert "999 msat" in str(caught.value)


def test_the_error_says_what_the_fee_would_be() -> None:
    with pytest.raises(FeeTooHigh) as caught:
        find_route(the_square(), A, C, 4_999_999, 18, max_fee_msat=10_198)
    assert (caught.value.fee_msat, caught.value.max_fee_msat) == (10_199, 10_198)
    assert find_route(the_square(), A, C, 4_999_999, 18, max_fee_msat=10_199).fee_msat == 10_199


def test_the_error_says_how_long_the_money_would_be_locked() -> None:
    with pytest.raises(CltvTooFar) as caught:
        find_route(the_square(), A, C, 1000, 18, max_cltv=37)
    assert caught.value.cltv_blocks == 38
    with pytest.raises(CltvTooFar):
        find_route(the_square(), A, C, 1000, 38, max_cltv=37)


def test_the_error_says_what_the_widest_way_carries() -> None:
    graph = a_line(4)
    graph.apply_policy(101, 0, a_policy(htlc_maximum_msat=5000))
    with pytest.raises(AmountTooLarge) as caught:
        find_route(graph, A, D, 6000, 18)
    assert caught.value.largest_msat == 5000


def test_a_target_behind_unusable_channels_is_unreachable() -> None:
    graph = a_line(4)
    graph.apply_policy(101, 0, a_policy(is_disabled=True))
    with pytest.raises(Unreachable, match="no way"):
        find_route(graph, A, D, 6000, 18)


@bolt("validation.2")
def test_nothing_goes_through_a_node_with_unknown_even_features() -> None:
    graph = the_square()
    graph.set_node(B, Node(1, is_understood=False))
    assert find_route(graph, A, C, 1000, 18).hops[0].node_id == D
    graph.set_node(B, Node(2, is_understood=True))
    assert find_route(graph, A, C, 1000, 18).hops[0].node_id == B


@bolt("validation.2")
def test_nothing_goes_to_such_a_node_unless_its_invoice_asks_for_less() -> None:
    graph = the_square()
    graph.set_node(C, Node(1, is_understood=False))
    with pytest.raises(IncompatibleTarget):
        find_route(graph, A, C, 1000, 18, is_invoiced=False)
    assert find_route(graph, A, C, 1000, 18, is_invoiced=True).hops


AMOUNT = 1_000_000


def any_policy(chance: Random) -> Policy:
    return a_policy(
        cltv_expiry_delta=chance.choice([0, 10, 40, 144]),
        htlc_minimum_msat=chance.choice([0, 1, AMOUNT]),
        htlc_maximum_msat=chance.choice([AMOUNT - 1, AMOUNT, AMOUNT + 2000, 10**9, 10**9, 10**9]),
        fee_base_msat=chance.choice([0, 100, 1000, 2000]),
        fee_proportional_millionths=chance.choice([0, 1, 500, 20_000]),
        is_disabled=chance.random() < 0.05,
    )


def any_network(seed: int) -> tuple[Graph, dict[int, int]]:
    """A way from node 0 to node 1 over up to five others, with shortcuts and doubled channels.

    Drawn from a seed: it takes odd numbers all over the graph for a limit to bite far from where
    the cheaper label was made, and a draw that tends to small values never gets there.
    """
    chance = Random(seed)
    way = [0, *range(2, chance.randint(2, 7)), 1]
    ends = list(pairwise(way))
    ends += [
        pair for step in (1, 1, 2) for pair in zip(way, way[step:], strict=False) if chance.random() < 0.6
    ]
    graph, limits = Graph(), {}
    for scid, (one, other) in enumerate(ends, start=1):
        connect(graph, scid, one, other, any_policy(chance), any_policy(chance))
        if 0 in (one, other):
            limits[scid] = chance.choice([0, AMOUNT, AMOUNT + 1500, 10**9, 10**9])
    return graph, limits


networks = st.integers(0, 2**32).map(any_network)


def found(graph: Graph, limits: dict[int, int], max_fee: int | None, max_cltv: int) -> Route | None:
    try:
        return find_route(
            graph, A, B, AMOUNT, 18, max_fee_msat=max_fee, max_cltv=max_cltv, local_limits=limits
        )
    except NoRoute:
        return None


@settings(max_examples=1500)
@given(
    networks,
    st.sampled_from([None, 0, 1500, 5000, 22_000]),
    st.sampled_from([2016, 18, 60, 100, 180, 260, 330]),
)
def test_a_route_is_found_exactly_when_there_is_one(
    network: tuple[Graph, dict[int, int]], max_fee: int | None, max_cltv: int
) -> None:
    graph, limits = network
    all_routes = {hops: price for price, hops in every_route(graph, A, B, AMOUNT, 18, limits)}
    allowed = [
        hops
        for hops in all_routes
        if hops[0].cltv_blocks <= max_cltv and (max_fee is None or hops[0].amount_msat - AMOUNT <= max_fee)
    ]
    route = found(graph, limits, max_fee, max_cltv)
    assert (route is not None) == bool(allowed)
    assert route is None or route.hops in allowed


@settings(max_examples=300)
@given(networks)
def test_the_route_found_is_the_cheapest(network: tuple[Graph, dict[int, int]]) -> None:
    graph, limits = network
    for number, policy in list(graph.policies.items()):
        most = min(policy.htlc_maximum_msat, AMOUNT - 1) if policy.htlc_maximum_msat < AMOUNT else 10**9
        changed = a_policy(**{**_fields(policy), "htlc_maximum_msat": most})
        graph.apply_policy(number >> 1, number & 1, changed)
    limits = dict.fromkeys(limits, PLENTY)
    prices = {hops: price for price, hops in every_route(graph, A, B, AMOUNT, 18, limits)}
    route = found(graph, limits, None, 10_000)
    assert (route is None) == (not prices)
    assert route is None or prices[route.hops] == min(prices.values())


def _fields(policy: Policy) -> dict[str, int | bool]:
    return {name: getattr(policy, name) for name in Policy.__struct_fields__}
