"""Finding a route, beside a plain Dijkstra over the graph's own values: a line, and networks with hubs.

The plain search is what the textbook says: objects, all limits checked at each edge, no potentials. It starts
at the payee too, since amounts are known there only.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from time import perf_counter

from gossip.graph import Channel, Graph, Policy
from gossip.no_route import NoRoute
from gossip.routes import HOP_PRICE_MSAT, RISK_BILLIONTHS, find_route
from tests.bench.harness import Report
from wire.crypto.secp256k1 import Point
from wire.units import Msat, Sat

AMOUNT_MSAT = 100_000
FINAL_CLTV_BLOCKS = 18
SEED = 7


def run(report: Report) -> None:
    """The five-node line, then random networks with hubs as real ones have."""
    line = a_line(5)
    ends = node_id(0), node_id(4)
    report.time("plain Dijkstra, line of five", lambda: plain(line, *ends))
    report.time(
        "route, line of five", lambda: route(line, *ends), floor="plain Dijkstra, line of five", goal=1e-4
    )
    for nodes, channels, pairs in ((2_000, 6_000, 100), (17_000, 51_000, 20)):
        name = f"{nodes:,} nodes"
        graph = a_network(nodes, channels)
        chance = Random(SEED)
        asked = [(node_id(chance.randrange(nodes)), node_id(chance.randrange(nodes))) for _ in range(pairs)]
        report.samples(f"plain Dijkstra, {name}", [seconds(plain, graph, *pair) for pair in asked])
        found = [seconds(route, graph, *pair) for pair in asked]
        report.samples(f"route, {name}", found, floor=f"plain Dijkstra, {name}")
    with report.profile("routes over 17,000 nodes"):
        for pair in asked[:5]:
            route(graph, *pair)


def seconds(
    search: Callable[[Graph, Point, Point], object], graph: Graph, source: Point, target: Point
) -> float:
    """How long one search takes."""
    start = perf_counter()
    search(graph, source, target)
    return perf_counter() - start


def route(graph: Graph, source: Point, target: Point) -> object:
    """Our search; None if there is no route."""
    try:
        return find_route(graph, source, target, AMOUNT_MSAT, FINAL_CLTV_BLOCKS)
    except NoRoute:
        return None


def plain(graph: Graph, source: Point, target: Point) -> list[Point]:
    """Dijkstra's algorithm by the same price, from the target until the source is settled."""
    prices, after, settled = {target: AMOUNT_MSAT}, {target: target}, set()
    amounts, blocks = {target: AMOUNT_MSAT}, {target: FINAL_CLTV_BLOCKS}
    heap = [(AMOUNT_MSAT, target)]
    while heap:
        price, node = heappop(heap)
        if node == source:
            return _way(after, source)
        if node in settled:
            continue
        settled.add(node)
        for channel in graph.channels_of(node):
            before, amount = channel.other_end(node), amounts[node]
            policy = graph.policy(channel.short_channel_id, channel.direction_from(before))
            if policy is None or policy.is_disabled or before in settled:
                continue
            if (
                not policy.htlc_minimum_msat
                <= amount
                <= min(policy.htlc_maximum_msat, channel.capacity_sat * 1000)
            ):
                continue
            dearer = price
            if before != source:
                risk = policy.cltv_expiry_delta * AMOUNT_MSAT * RISK_BILLIONTHS // 1_000_000_000
                dearer += policy.fee_msat(price) + risk + HOP_PRICE_MSAT
            if before not in prices or dearer < prices[before]:
                prices[before], after[before] = dearer, node
                amounts[before] = amount + policy.fee_msat(amount)
                blocks[before] = blocks[node] + policy.cltv_expiry_delta
                heappush(heap, (dearer, before))
    return []


def _way(after: dict[Point, Point], node: Point) -> list[Point]:
    way = [node]
    while after[node] != node:
        node = after[node]
        way.append(node)
    return way


def node_id(number: int) -> Point:
    """Bytes that look like a node's id."""
    return b"\x02" + number.to_bytes(32, "big")


def a_line(nodes: int) -> Graph:
    """Nodes in a row, as in the demo."""
    graph = Graph()
    for i in range(nodes - 1):
        _join(graph, i, i, i + 1, Random(i))
    return graph


def a_network(nodes: int, channels: int) -> Graph:
    """A random network in which nodes with many channels get more."""
    chance, graph = Random(SEED), Graph()
    ends = [0]
    for number in range(channels):
        one = number + 1 if number + 1 < nodes else chance.randrange(nodes)
        other = chance.choice(ends)
        if one != other:
            _join(graph, number, one, other, chance)
            ends += (one, other)
    return graph


def _join(graph: Graph, scid: int, one: int, other: int, chance: Random) -> None:
    low, high = sorted((one, other))
    graph.add_channel(Channel(scid, node_id(low), node_id(high), Sat(10_000_000)))
    for direction in (0, 1):
        policy = Policy(
            timestamp=1,
            cltv_expiry_delta=chance.choice((34, 40, 80, 144)),
            htlc_minimum_msat=Msat(1),
            htlc_maximum_msat=Msat(9_900_000_000),
            fee_base_msat=Msat(chance.choice((0, 0, 1, 1000))),
            fee_proportional_millionths=chance.randrange(2000),
        )
        graph.apply_policy(scid, direction, policy)
