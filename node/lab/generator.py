"""Networks with the figures of a real one, from a seed.

Degrees, capacities, fees, time locks and limits are drawn by rank, so that their distributions are
the real one's exactly, not in the mean. Channels join the nodes' ends at random (the configuration
model): mainnet has as many small islands as that gives. Three things that matter to a router are
kept besides: large channels are between large nodes (a Gaussian copula), small nodes are mostly
dead, so that their channels are disabled in both directions, and a node has much the same terms
on all its channels. Not kept is who knows whom: neighbours of a node are not joined more often
than others, and nodes have no place.
"""

import numpy as np
from numpy.typing import NDArray

from gossip.compact import Bools, Columns, CompactGraph, Ints
from node.lab.figures import DEGREE_GRID, GRID, Figures, classes_of, mainnet, ranks

# How much of the terms of a direction is its node's habit: in the snapshot two thirds of a node's
# directions have the terms that most of them have.
_HABIT = 0.7
_FIRST_BLOCK = 500_000
_ATTEMPTS = 100

Reals = NDArray[np.float64]


def generate(seed: int, figures: Figures | None = None) -> CompactGraph:
    """A network with these figures, or with those of mainnet; the same seed, the same network."""
    figures = figures or mainnet()
    chance = np.random.default_rng(seed)
    degrees = _degrees(figures)
    one, other = _joined(chance, degrees)
    capacity_sat = _capacities(chance, figures, np.minimum(degrees[one], degrees[other]))
    there, back = _enabled(chance, figures, degrees, one, other)
    number = np.arange(len(one))
    block, place = _FIRST_BLOCK + number // 4, number % 4 + 1
    source = np.concatenate([one, other])
    capacity = np.concatenate([capacity_sat, capacity_sat])
    is_enabled = np.concatenate([there, back])
    told = np.zeros((5, len(source)), np.int64)
    for kind in (is_enabled, ~is_enabled):
        told[:, kind] = _policies(chance, figures, source[kind], capacity[kind])
    base, delta, least, millionths, most = told
    columns = Columns(
        short_channel_id=np.tile(block << 40 | place << 16, 2),
        direction=np.repeat([0, 1], len(one)),
        source=source,
        target=np.concatenate([other, one]),
        capacity_sat=capacity,
        fee_base_msat=base,
        fee_millionths=millionths,
        cltv_delta=delta,
        least_msat=np.minimum(least, most),
        most_msat=most,
        is_enabled=is_enabled,
    )
    return CompactGraph([str(place) for place in range(figures.nodes)], columns)


def _degrees(figures: Figures) -> Ints:
    """The degree of each node, ascending; their sum is twice the channels."""
    at = (np.arange(figures.nodes) + 0.5) / figures.nodes
    found = np.maximum(1, np.rint(np.interp(at, DEGREE_GRID, figures.degrees))).astype(np.int64)
    surplus = int(found.sum()) - 2 * figures.channels
    # the rounding's surplus is spread over the larger nodes, in proportion
    share = np.where(found > 8, found, 0) if found.max() > 8 else found
    steps = np.rint(np.cumsum(share) / share.sum() * surplus).astype(np.int64)
    spread: Ints = found - np.diff(steps, prepend=0)
    return spread


def _joined(chance: np.random.Generator, degrees: Ints) -> tuple[Ints, Ints]:
    """The two ends of each channel, the lesser place first; nobody is joined to itself."""
    ends = chance.permutation(np.repeat(np.arange(len(degrees)), degrees)).reshape(-1, 2)
    for _ in range(_ATTEMPTS):
        loops = np.flatnonzero(ends[:, 0] == ends[:, 1])
        if not len(loops):
            break
        others = chance.integers(0, len(ends), len(loops))
        for loop, partner in zip(loops.tolist(), others.tolist(), strict=True):
            ends[loop, 1], ends[partner, 1] = ends[partner, 1], ends[loop, 1]
    ends = ends[ends[:, 0] != ends[:, 1]]
    return ends.min(axis=1), ends.max(axis=1)


def _capacities(chance: np.random.Generator, figures: Figures, lesser_degree: Ints) -> Ints:
    # 2 sin(pi r / 6) turns a rank correlation into a normal one's
    tie = 2 * np.sin(np.pi * figures.capacity_by_degree / 6)
    jitter = chance.random(len(lesser_degree))
    by_degree = _normal((ranks(lesser_degree + jitter) + 0.5) / len(lesser_degree))
    drawn = tie * by_degree + np.sqrt(1 - tie**2) * chance.standard_normal(len(lesser_degree))
    return np.maximum(1, _by_rank(drawn, figures.capacity_sat, GRID)).astype(np.int64)


def _enabled(
    chance: np.random.Generator, figures: Figures, degrees: Ints, one: Ints, other: Ints
) -> tuple[Bools, Bools]:
    """Which directions are enabled: both if both ends live, but for a few where only one is."""
    shares = np.array(figures.enabled_by_class)[classes_of(degrees)]
    # a direction is enabled if both its ends live; the larger nodes, most of whose peers live, all do
    wanted = np.average(shares, weights=degrees) / (1 - figures.one_way_share / 2)
    roots = np.linspace(0.5, 1.0, 501)[:, None]
    met = (np.minimum(1, np.unique(shares) / roots) @ _weights(shares, degrees)) ** 2
    lives = chance.random(len(degrees)) < shares / roots[np.argmin(np.abs(met - wanted))]
    is_open = lives[one] & lives[other]
    is_one_way = chance.random(len(one)) < figures.one_way_share
    is_there = chance.random(len(one)) < 0.5
    return is_open & ~(is_one_way & is_there), is_open & ~(is_one_way & ~is_there)


def _weights(shares: Reals, degrees: Ints) -> Reals:
    """Which part of all channels' ends belongs to nodes of each share."""
    _, which = np.unique(shares, return_inverse=True)
    weights: Reals = np.bincount(which, weights=degrees) / degrees.sum()
    return weights


def _policies(chance: np.random.Generator, figures: Figures, source: Ints, capacity_sat: Ints) -> Ints:
    """Base fee, time lock, least amount, proportional fee and most amount of each direction."""
    terms = np.array(sorted(figures.terms), np.int64)
    upto = np.cumsum(terms[:, 3]) / terms[:, 3].sum()
    at = (ranks(_habits(chance, source)) + 0.5) / len(source)
    base, delta, least, _ = terms[np.minimum(np.searchsorted(upto, at), len(terms) - 1)].T
    millionths, habits = np.zeros(len(source), np.int64), _habits(chance, source)
    for kind, quantiles in zip((base == 0, base > 0), figures.fee_millionths, strict=True):
        millionths[kind] = np.rint(_by_rank(habits[kind], quantiles, GRID)).astype(np.int64)
    shares = _by_rank(_habits(chance, source), figures.most_shares, GRID)
    most = np.maximum(1, capacity_sat * 1000 * shares).astype(np.int64)
    return np.stack([base, delta, least, millionths, most])


def _habits(chance: np.random.Generator, source: Ints) -> Reals:
    """A number for each direction; those of one node are alike."""
    nodes = chance.standard_normal(int(source.max(initial=0)) + 1)
    own: Reals = chance.standard_normal(len(source))
    return float(np.sqrt(_HABIT)) * nodes[source] + float(np.sqrt(1 - _HABIT)) * own


def _by_rank(drawn: Reals, quantiles: list[int] | list[float], grid: Reals) -> Reals:
    """The value at each draw's rank."""
    found: Reals = np.interp((ranks(drawn) + 0.5) / max(1, len(drawn)), grid, quantiles)
    return found


def _normal(shares: Reals) -> Reals:
    """The normal distribution's quantiles, near enough (Tukey's lambda)."""
    quantiles: Reals = (shares**0.1349 - (1 - shares) ** 0.1349) / 0.1975
    return quantiles
