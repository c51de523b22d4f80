"""Parts over the graph that a node keeps: routes that fit together, as the search for one would make them."""

from collections import Counter
from contextlib import suppress
from itertools import pairwise
from random import Random

import msgspec
import pytest

from gossip.asked import Asked
from gossip.beliefs import Beliefs
from gossip.graph import Graph, directed
from gossip.no_route import NoRoute
from gossip.parts import ground_of, routes_in_parts
from gossip.routes import Route, find_route
from tests.gossip.lines import a_line, a_policy, connect, node_id
from tests.gossip.test_routes import AMOUNT, any_network
from wire.units import Sat

A, B, C, D = (node_id(number) for number in range(4))
OWN = {1: 8_000_000_000, 2: 8_000_000_000}


def the_square(capacity_sat: int = 10_000_000) -> Graph:
    """0 and 3 joined over 1 and over 2."""
    graph = Graph()
    for scid, (one, other) in enumerate([(0, 1), (0, 2), (1, 3), (2, 3)], start=1):
        connect(graph, scid, one, other, a_policy(htlc_maximum_msat=capacity_sat * 1000))
        channel = graph.channels[scid]
        graph.add_channel(msgspec.structs.replace(channel, capacity_sat=Sat(capacity_sat)))
    return graph


def parts(graph: Graph, amount_msat: int, **options: object) -> tuple[Route, ...]:
    beliefs = options.pop("beliefs", None)
    asked = Asked(A, D, amount_msat, 18, **{"own_msat": OWN, "most_parts": 16, **options})  # type: ignore[arg-type]
    return routes_in_parts(ground_of(graph, asked), asked, beliefs)  # type: ignore[arg-type]


def test_what_our_channels_cannot_send_alone_goes_over_both() -> None:
    found = parts(the_square(), 9_000_000_000)
    assert len(found) == 2
    assert sum(route.amount_msat for route in found) == 9_000_000_000
    sent = {route.hops[0].short_channel_id: route.hops[0].amount_msat for route in found}
    assert all(OWN[scid] >= amount for scid, amount in sent.items())
    assert {route.hops[-1].node_id for route in found} == {D}


def test_a_small_payment_is_the_route_that_the_search_finds() -> None:
    graph = the_square()
    [route] = parts(graph, 1_000_000)
    assert route.fee_msat == find_route(graph, A, D, 1_000_000, 18, local_limits=OWN).fee_msat


def test_a_channel_of_ours_needs_no_policy() -> None:
    graph = a_line(4)
    del graph.policies[directed(100, 0)]
    [route] = parts(graph, 5000, own_msat={100: 10_000})
    assert [hop.short_channel_id for hop in route.hops] == [100, 101, 102]
    assert parts(graph, 5000, own_msat={}) == ()


def test_nothing_goes_where_it_must_not() -> None:
    graph = the_square()
    [route] = parts(graph, 7_000_000_000, excluded=frozenset({(3, 0)}))
    assert [hop.short_channel_id for hop in route.hops] == [2, 4]
    [route] = parts(graph, 7_000_000_000, excluded_nodes=frozenset({node_id(2)}))
    assert [hop.short_channel_id for hop in route.hops] == [1, 3]
    assert parts(graph, 9_000_000_000, most_parts=1) == ()
    assert parts(graph, 9_000_000_000, max_fee_msat=1) == ()


def test_what_is_believed_moves_the_parts() -> None:
    beliefs = Beliefs()
    beliefs.refused(directed(3, 0), 10_000_000_000, 1_000_000, 0.0)
    [route] = parts(the_square(), 5_000_000_000, beliefs=beliefs)
    assert [hop.short_channel_id for hop in route.hops] == [2, 4]


SIZES_SAT = (1_500_000, 4_000_000, 9_000_000)


def three_ways() -> tuple[Graph, dict[int, int]]:
    """0 and 4 joined over three others by channels of three sizes, and what 0 has in its own."""
    graph, own = Graph(), {}
    for at, size_sat in enumerate(SIZES_SAT, start=1):
        for scid, ends in ((at, (0, at)), (10 + at, (at, 4))):
            connect(graph, scid, *ends, a_policy(htlc_maximum_msat=size_sat * 1000))
            graph.add_channel(msgspec.structs.replace(graph.channels[scid], capacity_sat=Sat(size_sat)))
        own[at] = size_sat * 980
    return graph, own


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97, 0.99, 0.998])
def test_unequal_channels_can_be_filled_to_the_brim(share: float) -> None:
    graph, own = three_ways()
    amount_msat = int(sum(own.values()) * share)
    asked = Asked(A, node_id(4), amount_msat, 18, own_msat=own, most_parts=16)
    routes = routes_in_parts(ground_of(graph, asked), asked)
    assert sum(route.amount_msat for route in routes) == amount_msat
    assert len(routes) <= 3
    assert all(route.hops[0].amount_msat <= own[route.hops[0].short_channel_id] for route in routes)


def test_in_any_network_the_parts_fit_together() -> None:
    found = 0
    for seed in range(300):
        graph, limits = any_network(seed)
        asked = Asked(A, B, AMOUNT, 18, own_msat=limits, most_parts=16)
        routes = routes_in_parts(ground_of(graph, asked), asked)
        with suppress(NoRoute):
            find_route(graph, A, B, AMOUNT, 18, local_limits=limits)
            assert routes, seed
        if routes:
            found += 1
            check_fit(graph, asked, routes)
    assert found > 100


def test_whatever_is_believed_and_known_the_parts_fit_together() -> None:
    split = 0
    for seed in range(300):
        chance, (graph, limits) = Random(seed), any_network(seed)
        beliefs, room = Beliefs(), dict[int, int]()
        for scid, channel in graph.channels.items():
            number, capacity_msat = directed(scid, chance.randrange(2)), channel.capacity_sat * 1000
            if chance.random() < 0.5:
                room[number] = chance.randrange(AMOUNT * 3 // 2)
            lesson = chance.choice((beliefs.carried, beliefs.refused, beliefs.settled))
            lesson(number, capacity_msat, chance.randrange(1, 2 * AMOUNT), 0.0)
        own = {scid: most + AMOUNT // 3 for scid, most in limits.items()}
        asked = Asked(A, B, AMOUNT, 18, own_msat=own, room_msat=room, max_fee_msat=9000, most_parts=5)
        routes = routes_in_parts(ground_of(graph, asked), asked, beliefs, chance.choice((0.0, 1e5)))
        split += len(routes) > 1
        if routes:
            check_fit(graph, asked, routes)
    assert split > 10


def check_fit(graph: Graph, asked: Asked, routes: tuple[Route, ...]) -> None:
    """The parts bring the amount, pay what is asked, and together keep every limit."""
    assert sum(route.amount_msat for route in routes) == asked.amount_msat
    assert len(routes) <= asked.most_parts
    if asked.max_fee_msat is not None:
        assert sum(route.fee_msat for route in routes) <= asked.max_fee_msat
    load: Counter[int] = Counter()
    for route in routes:
        load[directed(route.hops[0].short_channel_id, route.hops[0].direction)] += route.hops[0].amount_msat
        for before, hop in pairwise(route.hops):
            policy = graph.policy(hop.short_channel_id, hop.direction)
            assert policy is not None
            assert policy.htlc_minimum_msat <= hop.amount_msat <= policy.htlc_maximum_msat
            assert before.amount_msat == hop.amount_msat + policy.fee_msat(hop.amount_msat)
            load[directed(hop.short_channel_id, hop.direction)] += hop.amount_msat
    assert asked.own_msat is not None
    for number, carried_msat in load.items():
        scid = number >> 1
        assert carried_msat <= asked.room_msat.get(number, carried_msat)
        assert carried_msat <= asked.own_msat.get(scid, carried_msat)
        assert carried_msat <= graph.channels[scid].capacity_sat * 1000
