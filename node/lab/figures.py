"""The figures of a network: what a generator needs to make another one like it, and a fit to show.

They are facts about a network, not the network: quantiles, shares and a correlation. Those of
mainnet on 2026-02-03 come with the package.
"""

from collections import Counter
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from gossip.compact import Bools, CompactGraph, Ints
from gossip.search import potentials

# Degrees are told more finely towards the hubs, whose channels carry most routes.
GRID = np.concatenate([np.linspace(0.0, 0.99, 100), 1.0 - np.geomspace(0.01, 1e-4, 20)[1:], [1.0]])
DEGREE_GRID = 1.0 - np.concatenate([np.geomspace(1.0, 1e-4, 160), [0.0]])
DEGREE_CLASSES = (1, 2, 4, 9, 31, 101)  # a class reaches from one of these to the next
COMMON_POLICIES = 150
RARE_POLICIES = 40


class Figures(msgspec.Struct, frozen=True):
    """What characterises a network.

    A policy's `terms` are (fee_base_msat, cltv_delta, least_msat, how many directions have them); those
    of a direction that is disabled are not counted, as snapshots have none. `fee_millionths` are
    quantiles by whether there is a base fee. `most_shares` are quantiles of the largest HTLC's
    share of the capacity.
    """

    name: str
    nodes: int
    channels: int
    degrees: list[int]
    capacity_sat: list[int]
    capacity_by_degree: float
    enabled_by_class: list[float]
    one_way_share: float
    terms: list[tuple[int, int, int, int]]
    fee_millionths: list[list[int]]
    most_shares: list[float]
    portrait: dict[str, float]


def measured(graph: CompactGraph, name: str) -> Figures:
    """The figures of a network."""
    degrees, enabled = degrees_of(graph), graph.is_enabled
    one = one_edge_a_channel(graph)
    known = enabled if enabled.any() else np.ones(len(graph), np.bool_)
    has_base = graph.fee_base_msat > 0
    return Figures(
        name=name,
        nodes=graph.nodes,
        channels=graph.channels,
        degrees=_whole(degrees, DEGREE_GRID),
        capacity_sat=_whole(graph.capacity_msat[one] // 1000, GRID),
        capacity_by_degree=round(capacity_by_degree(graph), 3),
        enabled_by_class=_enabled_by_class(graph, degrees),
        one_way_share=round(float(one_way(graph).sum() / max(1, _any_way(graph).sum())), 4),
        terms=_terms(graph, known),
        fee_millionths=[_whole(graph.fee_millionths[known & kind], GRID) for kind in (~has_base, has_base)],
        most_shares=[round(float(q), 4) for q in _quantiles(_most_shares(graph)[known], GRID)],
        portrait=portrait(graph),
    )


def portrait(graph: CompactGraph) -> dict[str, float]:
    """What one looks at to see whether two networks are alike; fees and limits of enabled directions."""
    degrees, one, enabled = degrees_of(graph), one_edge_a_channel(graph), graph.is_enabled
    capacity_sat = graph.capacity_msat[one] // 1000
    pairs = np.unique(
        np.minimum(graph.source, graph.target) * graph.nodes + np.maximum(graph.source, graph.target)
    )
    hub = int(np.argmax(degrees))
    told = {
        "nodes": graph.nodes,
        "channels": graph.channels,
        "pairs of nodes with a channel": len(pairs),
        "nodes joined to the largest": _reached(graph, hub, np.ones(len(graph), np.bool_)),
        "nodes that the largest can pay": _reached(graph, hub, enabled),
        "nodes with one channel, %": 100 * np.mean(degrees == 1),
        **_named("channels of a node", degrees, (50, 90, 99, 100)),
        "rank correlation of degrees over a channel": _correlation(
            degrees[graph.source], degrees[graph.target]
        ),
        "rank correlation of capacity and lesser degree": capacity_by_degree(graph),
        "capacity, BTC": capacity_sat.sum() / 1e8,
        **_named("capacity, sat", capacity_sat, (10, 50, 90, 99)),
        "directions disabled, %": 100 * np.mean(~enabled),
        "open channels open one way only, %": 100 * one_way(graph).sum() / max(1, _any_way(graph).sum()),
        "directions without base fee, %": 100 * np.mean(graph.fee_base_msat[enabled] == 0),
        **_named("base fee, msat", graph.fee_base_msat[enabled], (50, 90, 99)),
        **_named("proportional fee, ppm", graph.fee_millionths[enabled], (25, 50, 75, 90, 99)),
        **_named("time lock, blocks", graph.cltv_delta[enabled], (10, 50, 90)),
        **_named("least HTLC, msat", graph.least_msat[enabled], (10, 50, 99)),
        "largest HTLC below 90% of the capacity, %": 100 * np.mean(_most_shares(graph)[enabled] < 0.9),
    }
    return {name: round(float(value), 3) for name, value in told.items()}


def _named(what: str, values: Ints, percents: tuple[int, ...]) -> dict[str, float]:
    words = {50: "median", 100: "most"}
    return {
        f"{what}: {words.get(percent, f'{percent}%')}": float(
            np.percentile(values, percent) if len(values) else 0
        )
        for percent in percents
    }


def _reached(graph: CompactGraph, source: int, takes: Bools) -> int:
    far = 1 << 60
    return int(np.count_nonzero(potentials(graph, source, np.where(takes, 1, far)) < far))


def _correlation(one: Ints, other: Ints) -> float:
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1]) if len(one) > 1 else 0.0


def mainnet() -> Figures:
    """Bitcoin's mainnet as its gossip had it on 2026-02-03."""
    return msgspec.json.decode(
        files("node.lab").joinpath("mainnet-2026-02-03.json").read_bytes(), type=Figures
    )


def degrees_of(graph: CompactGraph) -> Ints:
    """How many channels each node has."""
    one = one_edge_a_channel(graph)
    ends = np.concatenate([graph.source[one], graph.target[one]])
    return np.bincount(ends, minlength=graph.nodes)


def one_edge_a_channel(graph: CompactGraph) -> Ints:
    """An edge of each channel."""
    return np.flatnonzero((graph.direction == 0) | (graph.twin < 0))


def one_way(graph: CompactGraph) -> Bools:
    """Of each channel, whether one direction alone is enabled."""
    return _any_way(graph) & ~_both_ways(graph)


def _both_ways(graph: CompactGraph) -> Bools:
    one = one_edge_a_channel(graph)
    twin = graph.twin[one]
    return graph.is_enabled[one] & (twin >= 0) & graph.is_enabled[twin]


def _any_way(graph: CompactGraph) -> Bools:
    one = one_edge_a_channel(graph)
    twin = graph.twin[one]
    return graph.is_enabled[one] | ((twin >= 0) & graph.is_enabled[twin])


def capacity_by_degree(graph: CompactGraph) -> float:
    """How far larger channels join larger nodes: Spearman's coefficient, by the lesser end's degree."""
    degrees, one = degrees_of(graph), one_edge_a_channel(graph)
    lesser = np.minimum(degrees[graph.source[one]], degrees[graph.target[one]])
    return _correlation(graph.capacity_msat[one], lesser)


def ranks(values: NDArray[np.generic]) -> Ints:
    """The place of each value in ascending order."""
    found = np.empty(len(values), np.int64)
    found[np.argsort(values, kind="stable")] = np.arange(len(values))
    return found


def classes_of(degrees: Ints) -> Ints:
    """The degree class of each node."""
    return np.maximum(np.searchsorted(DEGREE_CLASSES, degrees, side="right") - 1, 0)


def _enabled_by_class(graph: CompactGraph, degrees: Ints) -> list[float]:
    """The share of enabled directions of a node, by its degree class."""
    into = np.bincount(graph.source, weights=graph.is_enabled, minlength=graph.nodes) / np.maximum(degrees, 1)
    of_class = classes_of(degrees)
    found = [into[of_class == number] for number in range(len(DEGREE_CLASSES))]
    return [round(float(share.mean()), 4) if len(share) else 1.0 for share in found]


def _terms(graph: CompactGraph, known: Bools) -> list[tuple[int, int, int, int]]:
    """The commonest terms, and some of the others standing for all of those."""
    columns = (graph.fee_base_msat[known], graph.cltv_delta[known], graph.least_msat[known])
    counted = Counter(zip(*(column.tolist() for column in columns), strict=True)).most_common()
    common, rare = counted[:COMMON_POLICIES], sorted(counted[COMMON_POLICIES:])
    chosen = rare[:: max(1, len(rare) // RARE_POLICIES)]
    weight = sum(count for _, count in rare) // max(1, len(chosen))
    return [(*terms, count) for terms, count in common] + [(*terms, weight) for terms, _ in chosen]


def _most_shares(graph: CompactGraph) -> NDArray[np.float64]:
    return graph.most_msat / graph.capacity_msat


def _quantiles(values: NDArray[np.generic], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.quantile(values.astype(np.float64), grid) if len(values) else np.zeros(len(grid))


def _whole(values: NDArray[np.generic], grid: NDArray[np.float64]) -> list[int]:
    return [round(quantile) for quantile in _quantiles(values, grid).tolist()]
