"""Networks with the figures of a real one, from a seed.

Degrees, capacities, fees, time locks and limits are drawn by rank, so that their distributions are
the real one's exactly, not in the mean. `joining` says who has channels with whom. What matters to a
router besides is kept as far as a number or two can say it: large channels are between large nodes,
and a node's channels are alike in size (a Gaussian copula); a node has much the same terms on all its
channels; what leads to some nodes is dear whoever asks, and large channels are dearer than small ones,
up to the very largest, which are cheap.
Not kept is what only names would tell: which company stands behind several nodes, who opened a
channel, and what an exchange's hours do.
"""

import numpy as np

from gossip.compact import Bools, Columns, CompactGraph, Ints
from node.lab.figures import DEGREE_GRID, GRID, Figures, classes_of, mainnet, ranks, sizes_of
from node.lab.joining import Nodes, Reals, joined, peopled

# How much of the terms of a direction is its node's habit, and of a channel's size its ends' wealth:
# with these, two channels of one node are as much alike as in the snapshot.
_HABIT = 0.44
_WEALTH = 0.85
# What places do to sizes and degrees at once is taken off the correlation that is asked for.
_BY_DEGREE = 0.9
_FIRST_BLOCK = 500_000


def generate(seed: int, figures: Figures | None = None) -> CompactGraph:
    """A network with these figures, or with those of mainnet; the same seed, the same network."""
    figures = figures or mainnet()
    chance = np.random.default_rng(seed)
    nodes = peopled(chance, figures, _degrees(figures))
    one, other = joined(chance, figures, nodes)
    capacity_sat = _capacities(chance, figures, nodes, one, other)
    there, back = _enabled(chance, figures, nodes, one, other)
    number = np.arange(len(one))
    block, place = _FIRST_BLOCK + number // 4, number % 4 + 1
    source, target = np.concatenate([one, other]), np.concatenate([other, one])
    capacity = np.concatenate([capacity_sat, capacity_sat])
    is_enabled = np.concatenate([there, back])
    told = np.zeros((5, len(source)), np.int64)
    for kind in (is_enabled, ~is_enabled):
        told[:, kind] = _policies(chance, figures, nodes, (source[kind], target[kind], capacity[kind]))
    base, delta, least, millionths, most = told
    columns = Columns(
        short_channel_id=np.tile(block << 40 | place << 16, 2),
        direction=np.repeat([0, 1], len(one)),
        source=source,
        target=target,
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
    found[-1] = max(1, figures.degrees[-1])
    surplus = int(found.sum()) - 2 * figures.channels
    # the rounding's surplus is spread over the larger nodes, in proportion
    share = np.where(found > 8, found, 0) if found.max() > 8 else found
    steps = np.rint(np.cumsum(share) / share.sum() * surplus).astype(np.int64)
    spread: Ints = found - np.diff(steps, prepend=0)
    return spread


def _capacities(chance: np.random.Generator, figures: Figures, nodes: Nodes, one: Ints, other: Ints) -> Ints:
    # 2 sin(pi r / 6) turns a rank correlation into a normal one's
    tie = 2 * np.sin(np.pi * _BY_DEGREE * figures.capacity_by_degree / 6)
    lesser = np.minimum(nodes.degrees[one], nodes.degrees[other])
    by_degree = _normal((ranks(lesser + chance.random(len(lesser))) + 0.5) / max(1, len(lesser)))
    wealth = nodes.wealth[one] + nodes.wealth[other]
    wealth /= max(1e-9, wealth.std())
    own = chance.standard_normal(len(lesser))
    drawn = tie * by_degree + np.sqrt(1 - tie**2) * (np.sqrt(_WEALTH) * wealth + np.sqrt(1 - _WEALTH) * own)
    return np.maximum(1, _by_rank(drawn, figures.capacity_sat, GRID)).astype(np.int64)


def _enabled(
    chance: np.random.Generator, figures: Figures, nodes: Nodes, one: Ints, other: Ints
) -> tuple[Bools, Bools]:
    """Which directions are enabled: most of those between two who live, and a few one way only."""
    lesser = classes_of(np.minimum(nodes.degrees[one], nodes.degrees[other]))
    shares = np.array(figures.open_by_class)[lesser]
    is_open = nodes.is_alive[one] & nodes.is_alive[other] & (chance.random(len(one)) < shares)
    is_one_way = chance.random(len(one)) < figures.one_way_share
    is_there = chance.random(len(one)) < 0.5
    return is_open & ~(is_one_way & is_there), is_open & ~(is_one_way & ~is_there)


def _policies(
    chance: np.random.Generator, figures: Figures, nodes: Nodes, edges: tuple[Ints, Ints, Ints]
) -> Ints:
    """Base fee, time lock, least amount, proportional fee and most amount of each direction."""
    source, target, capacity_sat = edges
    terms = np.array(figures.terms, np.int64)
    has_base = _has_base(chance, figures, nodes, source)
    habits, dearness = _habits(chance, source), _dearness(chance, figures, source, target, capacity_sat)
    told, millionths = np.zeros((3, len(source)), np.int64), np.zeros(len(source), np.int64)
    for kind, quantiles in zip((False, True), figures.fee_millionths, strict=True):
        chosen = terms[(terms[:, 0] > 0) == kind]
        here = has_base == kind
        if len(chosen) and here.any():
            told[:, here] = _by_weight(habits[here], chosen)
            millionths[here] = np.rint(_by_rank(dearness[here], quantiles, GRID)).astype(np.int64)
    shares = _by_rank(_habits(chance, source), figures.most_shares, GRID)
    most = np.maximum(1, capacity_sat * 1000 * shares).astype(np.int64)
    return np.stack([*told, millionths, most])


def _has_base(chance: np.random.Generator, figures: Figures, nodes: Nodes, source: Ints) -> Bools:
    """Who asks a base fee: the smaller, the more of them."""
    habits, classes = _habits(chance, source), classes_of(nodes.degrees[source])
    found = np.ones(len(source), np.bool_)
    for number, share in enumerate(figures.no_base_by_class):
        members = np.flatnonzero(classes == number)
        found[members[np.argsort(habits[members], kind="stable")[: round(share * len(members))]]] = False
    return found


def _by_weight(habits: Reals, terms: Ints) -> Ints:
    """Of terms that are told as often as they are had, some for each habit."""
    upto = np.cumsum(terms[:, 3]) / terms[:, 3].sum()
    at = (ranks(habits) + 0.5) / len(habits)
    chosen: Ints = terms[np.minimum(np.searchsorted(upto, at), len(terms) - 1), :3].T
    return chosen


def _dearness(
    chance: np.random.Generator, figures: Figures, source: Ints, target: Ints, capacity_sat: Ints
) -> Reals:
    """How dear a direction is beside others: by who asks, by where it leads, by its channel's size."""
    by_source, by_target = (max(0.0, habit) for habit in figures.fee_habits)
    by_size = _normal(np.array(figures.fee_by_size))[sizes_of(capacity_sat)]
    count = 1 + int(max(source.max(initial=0), target.max(initial=0)))
    who, where = chance.standard_normal(count), chance.standard_normal(count)
    rest = max(0.0, 1 - by_source - by_target - float(by_size.var()))
    own = chance.standard_normal(len(source))
    habits = np.sqrt(by_source) * who[source] + np.sqrt(by_target) * where[target]
    found: Reals = habits + by_size + np.sqrt(rest) * own
    return found


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
