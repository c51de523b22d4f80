"""Networks to experiment on: drawn by chance from a seed, or after a graph that gossip has told of.

In a drawn one newcomers open channels with those who have many already (Barabási and Albert, 1999), so
a few are large and most are small, as on mainnet; capacities and fees are log-normal. In either, who
has how much of a channel is uniform: nobody outside knows it.
"""

from random import Random
from typing import TYPE_CHECKING

from htlc.relay import Toll
from node.lab.flow.network import FlowChannel, FlowNetwork
from wire.units import Msat, Sat

if TYPE_CHECKING:
    from gossip.compact import CompactGraph

LEAST_CAPACITY_SAT = 20_000
CAPACITY = 14.8, 1.2  # of the logarithm of satoshi: the median is 2.7 million
FEE = 4.6, 1.3  # of the logarithm of millionths: the median is 100
MOST_MILLIONTHS = 5000


def drawn_town(nodes: int, channels_each: int, random: Random, slots: int = 483) -> FlowNetwork:
    """So many nodes, each of which opened so many channels with others when it came."""
    channels = drawn_channels(nodes, channels_each, random)
    return FlowNetwork([f"n{place}" for place in range(nodes)], channels, slots)


def drawn_channels(nodes: int, channels_each: int, random: Random) -> list[FlowChannel]:
    """The channels of such a town."""
    stubs, ends = [0, 1], [(0, 1)]
    for newcomer in range(2, nodes):
        for known in {random.choice(stubs) for _ in range(channels_each)}:
            ends.append((newcomer, known))
            stubs += newcomer, known
    return [_channel(pair, random) for pair in ends]


def town_of(graph: "CompactGraph", random: Random, slots: int = 483) -> FlowNetwork:
    """The network of a graph; a direction without a policy, or switched off, passes nothing on."""
    return FlowNetwork([str(name) for name in graph.names], channels_of(graph, random), slots)


def open_part(graph: "CompactGraph") -> "CompactGraph":
    """The channels that anything can pass, in any direction, and their nodes."""
    import numpy as np

    from gossip.compact import Columns, CompactGraph

    passes = graph.is_enabled & (graph.most_msat > 0)
    kept = np.flatnonzero(passes | (passes[graph.twin] & (graph.twin >= 0)))
    nodes, ends = np.unique(np.concatenate([graph.source[kept], graph.target[kept]]), return_inverse=True)
    columns = Columns(
        short_channel_id=graph.short_channel_id[kept],
        direction=graph.direction[kept].astype(np.int64),
        source=ends[: len(kept)],
        target=ends[len(kept) :],
        capacity_sat=graph.capacity_msat[kept] // 1000,
        fee_base_msat=graph.fee_base_msat[kept],
        fee_millionths=graph.fee_millionths[kept],
        cltv_delta=graph.cltv_delta[kept],
        least_msat=graph.least_msat[kept],
        most_msat=graph.most_msat[kept],
        is_enabled=graph.is_enabled[kept],
    )
    return CompactGraph([graph.names[place] for place in nodes.tolist()], columns)


def channels_of(graph: "CompactGraph", random: Random) -> list[FlowChannel]:
    """A graph's channels, each divided between its ends by chance."""
    twins, directions = graph.twin.tolist(), graph.direction.tolist()
    source, target = graph.source.tolist(), graph.target.tolist()
    capacity_msat = graph.capacity_msat.tolist()
    tolls = _tolls_of(graph)
    channels = []
    for edge, twin in enumerate(twins):
        # a channel is told by its first direction, or by the only one that it has
        if twin >= 0 and directions[edge]:
            continue
        balance_msat = Msat(round(capacity_msat[edge] * random.random()))
        pair = tolls[edge], None if twin < 0 else tolls[twin]
        capacity_sat = Sat(capacity_msat[edge] // 1000)
        channels.append(FlowChannel((source[edge], target[edge]), capacity_sat, balance_msat, pair))
    return channels


def _tolls_of(graph: "CompactGraph") -> list[Toll | None]:
    columns = zip(
        graph.fee_base_msat.tolist(),
        graph.fee_millionths.tolist(),
        graph.cltv_delta.tolist(),
        graph.least_msat.tolist(),
        graph.most_msat.tolist(),
        graph.is_enabled.tolist(),
        strict=True,
    )
    return [
        Toll(Msat(base), millionths, delta, Msat(least), Msat(most)) if is_enabled and most else None
        for base, millionths, delta, least, most, is_enabled in columns
    ]


def _channel(ends: tuple[int, int], random: Random) -> FlowChannel:
    capacity_sat = Sat(max(LEAST_CAPACITY_SAT, round(random.lognormvariate(*CAPACITY))))
    balance_msat = Msat(round(capacity_sat * 1000 * random.random()))
    return FlowChannel(ends, capacity_sat, balance_msat, (_toll(random), _toll(random)))


def _toll(random: Random) -> Toll:
    base_msat = random.choice((0, 0, 1000, random.randrange(2000)))
    millionths = min(MOST_MILLIONTHS, round(random.lognormvariate(*FEE)))
    return Toll(Msat(base_msat), millionths, random.choice((34, 40, 80, 144)))
