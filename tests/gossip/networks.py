"""Networks in columns for the tests of route search, and a search too plain to be wrong."""

from collections import defaultdict
from heapq import heappop, heappush
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from gossip.compact import CompactGraph, columns_of
from gossip.graph import Channel, Graph, Policy
from gossip.search import FINAL_CLTV_BLOCKS, Way
from tests.gossip.lines import node_id
from tests.house.sources import HOUSE
from wire.units import Msat, Sat

# The snapshot of mainnet lies beside a checkout for its developers; a user does not have it.
MAINNET = HOUSE.parent / "shared" / "data" / "mainnet-2026-02-03.csv.xz"

Incoming: TypeAlias = dict[int, list[tuple[int, int, int, int, int]]]


def a_network(seed: int, nodes: int = 300, channels: int = 900) -> CompactGraph:
    """Hubs and leaves, odd fees and limits, drawn from a seed."""
    chance = np.random.default_rng(seed)
    rows = []
    for scid in range(1, channels + 1):
        one, other = (int(nodes * chance.random() ** 2.5) for _ in range(2))
        if scid < nodes:
            one, other = scid, int(scid * chance.random())
        if one == other:
            continue
        capacity_sat = int(10 ** chance.uniform(4, 8))
        for direction, (source, target) in enumerate(sorted([(one, other), (other, one)])):
            rows.append((scid, direction, source, target, capacity_sat, *_policy(chance, capacity_sat)))
    return CompactGraph([str(node) for node in range(nodes)], columns_of(np.array(rows, np.int64)))


def _policy(chance: np.random.Generator, capacity_sat: int) -> tuple[int, ...]:
    return (
        int(chance.choice([0, 0, 1, 1000, 1000, 5000])),
        int(chance.choice([0, 1, 10, 300, 1000, 20_000])),
        int(chance.choice([0, 18, 40, 80, 144, 700])),
        int(chance.choice([0, 1, 1000, 100_000, 2_000_000])),
        int(capacity_sat * chance.choice([100, 990, 1000, 2000])),
        int(chance.random() < 0.8),
    )


def plain_dijkstra(into: Incoming, source: int, target: int, amount_msat: int) -> int | None:
    """The least fee, by the textbook: from the payee, the smallest amount first, only amounts limited."""
    least, heap = {target: amount_msat}, [(amount_msat, target)]
    while heap:
        amount, node = heappop(heap)
        if node == source:
            return amount - amount_msat
        if amount > least[node]:
            continue
        for before, base, millionths, low, high in into[node]:
            if low <= amount <= high:
                needed = amount if before == source else amount + base + amount * millionths // 1_000_000
                if needed < least.get(before, 1 << 80):
                    least[before] = needed
                    heappush(heap, (needed, before))
    return None


def incoming(graph: CompactGraph) -> Incoming:
    """From node, base, millionths, least, most of every usable edge, by the node it leads to."""
    into: Incoming = defaultdict(list)
    columns = (graph.source, graph.fee_base_msat, graph.fee_millionths, graph.least_msat, graph.most_msat)
    edges = zip(*(column.tolist() for column in columns), strict=True)
    for target, edge, is_enabled in zip(graph.target.tolist(), edges, graph.is_enabled.tolist(), strict=True):
        if is_enabled:
            into[target].append(edge)
    return into


def assert_keeps_every_limit(
    graph: CompactGraph, way: Way, source: int, target: int, amount_msat: int
) -> None:
    """Each HTLC of a way fits its edge, and pays the one behind it exactly."""
    edges, amounts, blocks = way.edges, way.amounts_msat, way.cltv_blocks
    assert (graph.source[edges[0]], graph.target[edges[-1]]) == (source, target)
    assert (amounts[-1], blocks[-1]) == (amount_msat, FINAL_CLTV_BLOCKS)
    assert len(edges) <= 20
    assert blocks[0] <= 2016
    for edge, amount in zip(edges, amounts, strict=True):
        assert graph.is_enabled[edge]
        assert graph.least_msat[edge] <= amount <= graph.most_msat[edge]
    for (edge, after), at in zip(pairwise(edges), range(len(edges)), strict=False):
        assert graph.target[edge] == graph.source[after]
        fee = (
            int(graph.fee_base_msat[after]) + amounts[at + 1] * int(graph.fee_millionths[after]) // 1_000_000
        )
        assert amounts[at] == amounts[at + 1] + fee
        assert blocks[at] == blocks[at + 1] + graph.cltv_delta[after]


def graph_of(columns: CompactGraph) -> Graph:
    """The same network as a node keeps it; nodes are numbered in order of their places."""
    graph = Graph()
    for edge in range(len(columns)):
        scid, source, target = (
            int(column[edge]) for column in (columns.short_channel_id, columns.source, columns.target)
        )
        if scid not in graph:
            low, high = sorted((source, target))
            capacity_sat = Sat(int(columns.capacity_msat[edge]) // 1000)
            graph.add_channel(Channel(scid, node_id(low), node_id(high), capacity_sat))
        policy = Policy(
            timestamp=1,
            cltv_expiry_delta=int(columns.cltv_delta[edge]),
            htlc_minimum_msat=Msat(int(columns.least_msat[edge])),
            htlc_maximum_msat=Msat(int(columns.most_msat[edge])),
            fee_base_msat=Msat(int(columns.fee_base_msat[edge])),
            fee_proportional_millionths=int(columns.fee_millionths[edge]),
            is_disabled=not columns.is_enabled[edge],
        )
        graph.apply_policy(scid, int(source > target), policy)
    return graph
