"""The figures of a network: what a generator needs to make another one like it.

They are facts about a network, not the network: quantiles, shares, correlations, and how many channels
there are between nodes of two kinds. Those of mainnet on 2026-02-03 come with the package.
"""

from collections import Counter
from importlib.resources import files

import msgspec
import numpy as np
from numpy.typing import NDArray

from gossip.compact import Bools, CompactGraph, Ints
from node.lab.parts import arrivals
from node.lab.portrait import (
    any_way,
    capacity_by_degree,
    degrees_of,
    fee_habits,
    most_shares,
    one_edge_a_channel,
    one_way,
    pairs_of,
    portrait,
    shared_ranks,
)

# Degrees are told more finely towards the hubs, whose channels carry most routes.
GRID = np.concatenate([np.linspace(0.0, 0.99, 100), 1.0 - np.geomspace(0.01, 1e-4, 20)[1:], [1.0]])
DEGREE_GRID = 1.0 - np.concatenate([np.geomspace(1.0, 1e-4, 160), [0.0]])
DEGREE_CLASSES = (1, 2, 3, 5, 9, 17, 31, 61, 121, 301, 801)  # a class reaches from one of these to the next
SIZES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)  # where a band of channels ends
COMMON_POLICIES = 150
RARE_POLICIES = 40


class Figures(msgspec.Struct, frozen=True):
    """What characterises a network.

    A node lives if any of its channels is open; its kind is twice the class of its degree, and one more
    if it lives. `mixing` counts the channels between kinds, one row for each with the kinds up to its
    own. `open_by_class` is the share of open channels between those who live, by the lesser degree's
    class. A policy's `terms` are (fee_base_msat, cltv_delta, least_msat, how many directions have them);
    those of a direction that is disabled are not counted, as snapshots have none. `fee_millionths` are
    quantiles by whether there is a base fee. `fee_habits` say how much alike the proportional fees of
    one node are, and how much those of what leads to one node; `fee_by_size` is their mean rank, from 0 to
    1, among the smallest channels up to the largest, in steps of SIZES.
    `most_shares` are quantiles of the largest HTLC's share of the capacity. `portrait` and `arrivals` are
    what a network that was made from this is compared with.
    """

    name: str
    nodes: int
    channels: int
    pairs: int
    degrees: list[int]
    capacity_sat: list[int]
    capacity_by_degree: float
    alive_by_class: list[float]
    mixing: list[list[int]]
    open_by_class: list[float]
    one_way_share: float
    terms: list[tuple[int, int, int, int]]
    no_base_by_class: list[float]
    fee_millionths: list[list[int]]
    fee_habits: tuple[float, float]
    fee_by_size: list[float]
    most_shares: list[float]
    portrait: dict[str, float]
    arrivals: dict[str, float]


def measured(graph: CompactGraph, name: str) -> Figures:
    """The figures of a network."""
    degrees, enabled = degrees_of(graph), graph.is_enabled
    one = one_edge_a_channel(graph)
    known = enabled if enabled.any() else np.ones(len(graph), np.bool_)
    has_base = graph.fee_base_msat > 0
    alive = _alive(graph)
    lesser = classes_of(np.minimum(degrees[graph.source[one]], degrees[graph.target[one]]))
    between_living = alive[graph.source[one]] & alive[graph.target[one]]
    by_source = classes_of(degrees[graph.source[known]])
    return Figures(
        name=name,
        nodes=graph.nodes,
        channels=graph.channels,
        pairs=len(pairs_of(graph)),
        degrees=_whole(degrees, DEGREE_GRID),
        capacity_sat=_whole(graph.capacity_msat[one] // 1000, GRID),
        capacity_by_degree=round(capacity_by_degree(graph), 3),
        alive_by_class=_shares(alive, classes_of(degrees)),
        mixing=_mixing(graph, 2 * classes_of(degrees) + alive),
        open_by_class=_shares(any_way(graph)[between_living], lesser[between_living]),
        one_way_share=round(float(one_way(graph).sum() / max(1, any_way(graph).sum())), 4),
        terms=_terms(graph, known),
        no_base_by_class=_shares(~has_base[known], by_source),
        fee_millionths=[_whole(graph.fee_millionths[known & kind], GRID) for kind in (~has_base, has_base)],
        fee_habits=fee_habits(graph, known),
        fee_by_size=_fee_by_size(graph, known),
        most_shares=[round(float(q), 4) for q in _quantiles(most_shares(graph)[known], GRID)],
        portrait=portrait(graph),
        arrivals=arrivals(graph),
    )


def mainnet() -> Figures:
    """Bitcoin's mainnet as its gossip had it on 2026-02-03."""
    return msgspec.json.decode(
        files("node.lab").joinpath("mainnet-2026-02-03.json").read_bytes(), type=Figures
    )


def classes_of(degrees: Ints) -> Ints:
    """The degree class of each node."""
    return np.maximum(np.searchsorted(DEGREE_CLASSES, degrees, side="right") - 1, 0)


def ranks(values: NDArray[np.generic]) -> Ints:
    """The place of each value in ascending order."""
    found = np.empty(len(values), np.int64)
    found[np.argsort(values, kind="stable")] = np.arange(len(values))
    return found


def _alive(graph: CompactGraph) -> Bools:
    """Of each node, whether any of its channels is open in any direction."""
    ends = np.concatenate([graph.source[graph.is_enabled], graph.target[graph.is_enabled]])
    return np.bincount(ends, minlength=graph.nodes) > 0


def _mixing(graph: CompactGraph, kinds: Ints) -> list[list[int]]:
    """The channels between two kinds, for each kind those with kinds up to its own."""
    one = one_edge_a_channel(graph)
    ends = kinds[graph.source[one]], kinds[graph.target[one]]
    table = np.zeros((2 * len(DEGREE_CLASSES),) * 2, np.int64)
    np.add.at(table, (np.maximum(*ends), np.minimum(*ends)), 1)
    return [row[: kind + 1] for kind, row in enumerate(table.tolist())]


def _shares(values: Bools, classes: Ints) -> list[float]:
    """The share of those that are so, in each class; of none, all."""
    count = np.bincount(classes, minlength=len(DEGREE_CLASSES))
    so = np.bincount(classes, values, len(DEGREE_CLASSES))
    found: list[float] = np.round(np.where(count > 0, so / np.maximum(count, 1), 1.0), 4).tolist()
    return found


def sizes_of(capacities: Ints) -> Ints:
    """The band of sizes that each of these belongs to."""
    return np.searchsorted(SIZES, shared_ranks(capacities) / max(1, len(capacities)), side="right")


def _fee_by_size(graph: CompactGraph, known: Bools) -> list[float]:
    dear = (shared_ranks(graph.fee_millionths[known]) + 0.5) / max(1, int(known.sum()))
    bands = sizes_of(graph.capacity_msat[known])
    count = np.bincount(bands, minlength=len(SIZES) + 1)
    total = np.bincount(bands, dear, len(SIZES) + 1)
    found: list[float] = np.round(np.where(count > 0, total / np.maximum(count, 1), 0.5), 4).tolist()
    return found


def _terms(graph: CompactGraph, known: Bools) -> list[tuple[int, int, int, int]]:
    """The commonest terms, and some of the others standing for all of those."""
    columns = (graph.fee_base_msat[known], graph.cltv_delta[known], graph.least_msat[known])
    counted = Counter(zip(*(column.tolist() for column in columns), strict=True)).most_common()
    common, rare = counted[:COMMON_POLICIES], sorted(counted[COMMON_POLICIES:])
    chosen = rare[:: max(1, len(rare) // RARE_POLICIES)]
    weight = sum(count for _, count in rare) // max(1, len(chosen))
    return sorted([(*terms, count) for terms, count in common] + [(*terms, weight) for terms, _ in chosen])


def _quantiles(values: NDArray[np.generic], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.quantile(values.astype(np.float64), grid) if len(values) else np.zeros(len(grid))


def _whole(values: NDArray[np.generic], grid: NDArray[np.float64]) -> list[int]:
    return [round(quantile) for quantile in _quantiles(values, grid).tolist()]
