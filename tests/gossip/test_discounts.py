"""Discounts for coming in: told in updates, taken off routes, never at the cost of a limit."""

from itertools import pairwise

import msgspec

from gossip.announcing import channel_update
from gossip.asked import Asked, one_way
from gossip.beliefs import Beliefs
from gossip.graph import Graph, Policy
from gossip.validation import policy_of
from tests.gossip.lines import a_policy, connect, node_id
from wire.crypto.secp256k1 import sign
from wire.discount import Discount
from wire.messages.catalogue import decode
from wire.messages.gossip import ChannelUpdate
from wire.units import Msat

A, B, C, D = (node_id(i) for i in range(4))
AMOUNT_MSAT = 10_000_000
DEAR = a_policy(fee_base_msat=2000, fee_proportional_millionths=300)
GIVES = msgspec.structs.replace(DEAR, inbound=Discount(500, 100))


def fees(*, of_b: Policy = DEAR, of_c: Policy = DEAR, into_c: Policy = DEAR) -> list[int]:
    """What B and C get for a payment along A, B, C and D; `of_b` and `of_c` is what they say towards A."""
    graph = Graph()
    connect(graph, 1, 0, 1, DEAR, of_b)
    connect(graph, 2, 1, 2, into_c, of_c)
    connect(graph, 3, 2, 3, DEAR)
    route, _ = one_way(graph, Asked(A, D, AMOUNT_MSAT, 18), Beliefs(), 0.0)
    amounts = [hop.amount_msat for hop in route.hops]
    return [before - after for before, after in pairwise(amounts)]


def test_an_update_tells_of_a_discount() -> None:
    raw = channel_update(GIVES, bytes(32), 7, 0, lambda digest: sign(b"\1" * 32, digest), is_announced=True)
    update = decode(raw)
    assert isinstance(update, ChannelUpdate)
    assert policy_of(update) == GIVES


def test_each_node_gives_back_for_the_channel_that_the_payment_comes_in_over() -> None:
    full = fees()
    assert full == [2000 + 10_005_000 * 300 // 1_000_000, 5000]
    c_off = 500 + (AMOUNT_MSAT + 5000) * 100 // 1_000_000
    to_c = AMOUNT_MSAT + 5000 - c_off
    b_fee = 2000 + to_c * 300 // 1_000_000
    assert fees(of_c=GIVES) == [b_fee, 5000 - c_off]
    b_off = 500 + (to_c + b_fee) * 100 // 1_000_000
    assert fees(of_b=GIVES, of_c=GIVES) == [b_fee - b_off, 5000 - c_off]


def test_what_a_node_says_of_other_channels_is_no_discount_here() -> None:
    # B's own word about the channel to C is for what comes in from C
    assert fees(into_c=GIVES) == fees()


def test_a_route_stays_dear_where_it_would_fall_below_a_least_amount() -> None:
    least = msgspec.structs.replace(DEAR, htlc_minimum_msat=Msat(AMOUNT_MSAT + 4000))
    assert fees(of_c=GIVES, into_c=least) == fees()
