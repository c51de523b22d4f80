"""What one looks at to see whether two networks are alike.

Sizes and terms, and what decides how routes run: who is joined to whom, how far it is, how much the
channels of one node have in common, and all of that again in the part of the network that is open.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

from gossip.compact import Bools, CompactGraph, Ints
from gossip.search import potentials

SAMPLE = 60  # of nodes from which distances are measured
LARGE_SAT = 10_000_000
CHEAP_MILLIONTHS = 10
BANDS_SAT = (100_000, 1_000_000, 10_000_000)

Reals = NDArray[np.float64]
Numbers = NDArray[np.generic]


def portrait(graph: CompactGraph) -> dict[str, float]:
    """All of it, by name; fees and limits are those of enabled directions."""
    told = {**_size(graph), **_shape(graph), **_sizes(graph), **_openness(graph), **_terms(graph)}
    return {name: round(float(value), 3) for name, value in told.items()}


def _size(graph: CompactGraph) -> dict[str, float]:
    degrees = degrees_of(graph)
    hub = int(np.argmax(degrees))
    return {
        "nodes": graph.nodes,
        "channels": graph.channels,
        "pairs of nodes with a channel": len(pairs_of(graph)),
        "nodes joined to the largest": _reached(graph, hub, np.ones(len(graph), np.bool_)),
        "nodes that the largest can pay": _reached(graph, hub, graph.is_enabled),
        "nodes with one channel, %": 100 * np.mean(degrees == 1),
        **_named("channels of a node", degrees, (50, 90, 99, 100)),
    }


def _shape(graph: CompactGraph) -> dict[str, float]:
    degrees, one = degrees_of(graph), one_edge_a_channel(graph)
    ends = degrees[graph.source[one]], degrees[graph.target[one]]
    lesser, greater = np.minimum(*ends), np.maximum(*ends)
    told: dict[str, float] = {
        "of one channel, at a node of over 100, %": 100 * _mean(greater[lesser == 1] > 100),
        "degrees of peers, rank correlation": _rank_correlation(
            np.concatenate(ends), np.concatenate(ends[::-1])
        ),
    }
    large = any_way(graph) & (graph.capacity_msat[one] >= LARGE_SAT * 1000)
    parts = {"all": np.ones(len(one), np.bool_), "open": any_way(graph), "open, 10M sat": large}
    for name, takes in parts.items():
        told |= {f"{name}: {what}": value for what, value in _knit(graph, one[takes]).items()}
    return told


def _knit(graph: CompactGraph, edges: Ints) -> dict[str, float]:
    """How the nodes that these edges join are knit together."""
    size = graph.nodes
    ends = _pairs(graph, edges)
    near, far = ends // size, ends % size
    joins = csr_matrix((np.ones(len(ends)), (near, far)), shape=(size, size))
    joins = joins + joins.T
    peers = np.asarray(joins.sum(axis=1)).ravel()
    circles = np.asarray((joins @ joins).multiply(joins).sum(axis=1)).ravel() / 2
    chances = peers * (peers - 1) / 2
    alive = np.flatnonzero(peers)
    chosen = np.random.default_rng(0).permutation(alive)[:SAMPLE]
    steps = shortest_path(joins, unweighted=True, indices=chosen) if len(chosen) else np.zeros(0)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    return {
        "nodes": len(alive),
        "most peers of a node": peers.max(initial=0),
        "clustering, nodes' mean": _mean(circles[chances > 0] / chances[chances > 0]),
        "clustering, of all pairs": circles.sum() / max(1, chances.sum()),
        "mean distance": _mean(steps),
    }


def _sizes(graph: CompactGraph) -> dict[str, float]:
    one = one_edge_a_channel(graph)
    capacity_sat = graph.capacity_msat[one] // 1000
    ranked = shared_ranks(capacity_sat)
    return {
        "capacity and lesser degree, rank corr.": capacity_by_degree(graph),
        "likeness of a node's capacities": _likeness(
            np.tile(ranked, 2), np.concatenate([graph.source[one], graph.target[one]])
        ),
        "capacity, BTC": capacity_sat.sum() / 1e8,
        **_named("capacity, sat", capacity_sat, (10, 50, 90, 99)),
    }


def _openness(graph: CompactGraph) -> dict[str, float]:
    one, is_open = one_edge_a_channel(graph), any_way(graph)
    capacity_sat = graph.capacity_msat[one] // 1000
    bands = {
        f"open of those from {least:,} sat, %": 100 * _mean(is_open[capacity_sat >= least])
        for least in BANDS_SAT
    }
    ends = np.concatenate([graph.source[one], graph.target[one]])
    return {
        "directions disabled, %": 100 * _mean(~graph.is_enabled),
        "of open channels, open one way only, %": 100 * one_way(graph).sum() / max(1, is_open.sum()),
        **bands,
        "likeness of a node's being open": _likeness(np.tile(is_open, 2), ends),
    }


def _terms(graph: CompactGraph) -> dict[str, float]:
    enabled = graph.is_enabled
    base = graph.fee_base_msat[enabled]
    by_source, by_target = fee_habits(graph, enabled)
    capacity = graph.capacity_msat[enabled]
    cheap = capacity[graph.fee_millionths[enabled] <= CHEAP_MILLIONTHS].sum() / max(1, capacity.sum())
    return {
        "directions without base fee, %": 100 * _mean(base == 0),
        **_named("base fee, msat", base, (50, 90, 99)),
        **_named("proportional fee, ppm", graph.fee_millionths[enabled], (25, 50, 75, 90, 99)),
        "likeness of fees from a node": by_source,
        "likeness of fees towards a node": by_target,
        "capacity at 10 ppm or less, %": 100 * cheap,
        "likeness of having a base fee": _likeness(base == 0, graph.source[enabled]),
        **_named("time lock, blocks", graph.cltv_delta[enabled], (10, 50, 90)),
        **_named("least HTLC, msat", graph.least_msat[enabled], (10, 50, 99)),
        "largest HTLC below 90% of capacity, %": 100 * _mean(most_shares(graph)[enabled] < 0.9),
    }


# --- of channels


def degrees_of(graph: CompactGraph) -> Ints:
    """How many channels each node has."""
    one = one_edge_a_channel(graph)
    ends = np.concatenate([graph.source[one], graph.target[one]])
    return np.bincount(ends, minlength=graph.nodes)


def one_edge_a_channel(graph: CompactGraph) -> Ints:
    """An edge of each channel."""
    return np.flatnonzero((graph.direction == 0) | (graph.twin < 0))


def pairs_of(graph: CompactGraph) -> Ints:
    """Each two nodes with a channel, as one number."""
    return _pairs(graph, one_edge_a_channel(graph))


def _pairs(graph: CompactGraph, edges: Ints) -> Ints:
    ends = graph.source[edges], graph.target[edges]
    return np.unique(np.minimum(*ends) * graph.nodes + np.maximum(*ends))


def one_way(graph: CompactGraph) -> Bools:
    """Of each channel, whether one direction alone is enabled."""
    one = one_edge_a_channel(graph)
    twin = graph.twin[one]
    return any_way(graph) & ~(graph.is_enabled[one] & (twin >= 0) & graph.is_enabled[twin])


def any_way(graph: CompactGraph) -> Bools:
    """Of each channel, whether any direction is enabled."""
    one = one_edge_a_channel(graph)
    twin = graph.twin[one]
    return graph.is_enabled[one] | ((twin >= 0) & graph.is_enabled[twin])


def capacity_by_degree(graph: CompactGraph) -> float:
    """How far larger channels join larger nodes: Spearman's coefficient, by the lesser end's degree."""
    degrees, one = degrees_of(graph), one_edge_a_channel(graph)
    lesser = np.minimum(degrees[graph.source[one]], degrees[graph.target[one]])
    return _rank_correlation(graph.capacity_msat[one], lesser)


def fee_habits(graph: CompactGraph, known: Bools) -> tuple[float, float]:
    """How far proportional fees are alike from one node, and towards one node."""
    dear = shared_ranks(graph.fee_millionths[known])
    return round(_likeness(dear, graph.source[known]), 3), round(_likeness(dear, graph.target[known]), 3)


def most_shares(graph: CompactGraph) -> Reals:
    """The largest HTLC's share of the capacity, in each direction."""
    shares: Reals = graph.most_msat / graph.capacity_msat
    return shares


# --- of numbers


def shared_ranks(values: Numbers) -> Reals:
    """The place of each value in ascending order; equal ones share the mean of theirs."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    places: Reals = (np.cumsum(count) - (count + 1) / 2)[which]
    return places


def _rank_correlation(one: Numbers, other: Numbers) -> float:
    return _correlation(shared_ranks(one), shared_ranks(other))


def _correlation(one: Reals, other: Reals) -> float:
    if len(one) < 2 or not (one.std() and other.std()):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _likeness(values: Numbers, groups: Ints) -> float:
    """The correlation of two values of one group, each group with the weight of its size."""
    spread = values.astype(np.float64)
    if not len(spread) or not spread.std():
        return 0.0
    spread = (spread - spread.mean()) / spread.std()
    count = np.bincount(groups)
    total, squares = np.bincount(groups, spread), np.bincount(groups, spread**2)
    several = count > 1
    each = (total**2 - squares)[several] / (count[several] - 1)
    return float(each.sum() / max(1, count[several].sum()))


def _named(what: str, values: Ints, percents: tuple[int, ...]) -> dict[str, float]:
    words = {50: "median", 100: "most"}
    return {
        f"{what}: {words.get(percent, f'{percent}%')}": float(
            np.percentile(values, percent) if len(values) else 0
        )
        for percent in percents
    }


def _mean(values: Numbers) -> float:
    return float(values.astype(np.float64).mean()) if len(values) else 0.0


def _reached(graph: CompactGraph, source: int, takes: Bools) -> int:
    far = 1 << 60
    return int(np.count_nonzero(potentials(graph, source, np.where(takes, 1, far)) < far))
