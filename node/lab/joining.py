"""Who has channels with whom, in a network that is made up.

Nodes are of kinds: their degree's class, and whether they live, that is, have any channel that is
open. How many channels there are between two kinds is the real network's. Within that, nodes have a
place on a line, and channels join those who are near: neighbours' neighbours know each other, and
districts are rich and alive, or poor and dead. That gives the real network's clustering and lengths.
Channels beside one that there is already are as many as in the real one, rather than as many as
chance gives, which joins the largest nodes to each other again and again.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gossip.compact import Bools, Ints
from node.lab.figures import Figures, classes_of

Reals = NDArray[np.float64]

# Chosen so that mainnet's clustering, distances, and the likeness of a node's channels come out:
# how far an end may be from its place, in standard deviations of places; how far a place decides
# what a node has, what a node has whether it lives, and both together whether its peers do.
_ASTRAY = 0.1
_PLACE, _LIFE, _COMPANY = 0.7, 0.4, 0.9

_BALANCINGS = 100
_ROUNDS, _PATIENCE, _WIDENING = 60, 40, 1.15


class Nodes(NamedTuple):
    """What a node is, by its number."""

    degrees: Ints
    place: Reals
    wealth: Reals  # how large its channels are beside those of others of its degree
    is_alive: Bools

    @property
    def kinds(self) -> Ints:
        """Twice the class of its degree, and one more if it lives."""
        return 2 * classes_of(self.degrees) + self.is_alive


def peopled(chance: np.random.Generator, figures: Figures, degrees: Ints) -> Nodes:
    """Nodes of these degrees, in their places."""
    place = chance.standard_normal(len(degrees))
    wealth = _mixed(_PLACE, place, chance)
    vigour = _mixed(_LIFE, wealth, chance)
    is_alive = np.zeros(len(degrees), np.bool_)
    classes = classes_of(degrees)
    for number, share in enumerate(figures.alive_by_class):
        members = np.flatnonzero(classes == number)
        best = np.argsort(-vigour[members], kind="stable")[: round(share * len(members))]
        is_alive[members[best]] = True
    return Nodes(degrees, place, wealth, is_alive)


def joined(chance: np.random.Generator, figures: Figures, nodes: Nodes) -> tuple[Ints, Ints]:
    """The two ends of each channel, the lesser node first; nobody is joined to itself."""
    blocks = list(_blocks(chance, nodes, _table(figures, nodes)))
    one, other = (np.concatenate(ends) for ends in zip(*blocks, strict=True))
    bounds = np.cumsum([0, *(len(block[0]) for block in blocks)])
    _part(chance, figures, nodes, (one, other), bounds)
    apart = one != other
    one, other = one[apart], other[apart]
    return np.minimum(one, other), np.maximum(one, other)


def _mixed(share: float, drawn: Reals, chance: np.random.Generator) -> Reals:
    """Normal numbers that have so much of their variance from these."""
    own: Reals = chance.standard_normal(len(drawn))
    return float(np.sqrt(share)) * drawn + float(np.sqrt(1 - share)) * own


def _table(figures: Figures, nodes: Nodes) -> Ints:
    """How many ends each kind has in channels with each kind: as in the figures, for these nodes' ends."""
    half = np.zeros((2 * len(figures.alive_by_class),) * 2)
    for kind, row in enumerate(figures.mixing):
        half[kind, : len(row)] = row
    table = half + half.T
    wanted = np.bincount(nodes.kinds, nodes.degrees, len(table))
    for _ in range(_BALANCINGS):
        # Sinkhorn's: rows and columns alike, so that the table stays symmetric
        missing = np.sqrt(wanted / np.maximum(table.sum(axis=1), 1e-9))
        table *= missing[:, None] * missing
    return np.floor(table).astype(np.int64)


def _blocks(chance: np.random.Generator, nodes: Nodes, table: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The channels between each two kinds, and those whose ends the table's rounding left."""
    rows, left = zip(*(_row(chance, nodes, kind, table[kind]) for kind in range(len(table))), strict=True)
    loose = list(left)
    for kind, row in enumerate(rows):
        own = chance.permutation(row[kind])
        loose.append(own[len(own) // 2 * 2 :])
        yield _matched(chance, nodes, own[: len(own) // 2], own[len(own) // 2 : len(own) // 2 * 2])
        for after in range(kind + 1, len(rows)):
            yield _matched(chance, nodes, row[after], rows[after][kind])
    rest = chance.permutation(np.concatenate(loose))
    yield rest[: len(rest) // 2], rest[len(rest) // 2 : len(rest) // 2 * 2]


def _row(chance: np.random.Generator, nodes: Nodes, kind: int, counts: Ints) -> tuple[Sequence[Ints], Ints]:
    """The ends of a kind's channels, by the kind at the other end; and those that belong nowhere.

    The better off meet the living rather than the dead.
    """
    members = np.flatnonzero(nodes.kinds == kind)
    ends = chance.permutation(np.repeat(members, nodes.degrees[members]))
    kept, rest = ends[: counts.sum()], ends[counts.sum() :]
    kept = kept[np.argsort(_mixed(_COMPANY, nodes.wealth[kept], chance), kind="stable")]
    partners = chance.permutation(np.repeat(np.arange(len(counts)), counts))
    partners = partners[np.argsort(partners % 2, kind="stable")]
    return [kept[partners == other] for other in range(len(counts))], rest


def _matched(chance: np.random.Generator, nodes: Nodes, one: Ints, other: Ints) -> tuple[Ints, Ints]:
    """Each with one who is near."""

    def in_place(ends: Ints) -> Ints:
        seen = nodes.place[ends] + _ASTRAY * chance.standard_normal(len(ends))
        return ends[np.argsort(seen, kind="stable")]

    return in_place(one), in_place(other)


def _part(
    chance: np.random.Generator, figures: Figures, nodes: Nodes, ends: tuple[Ints, Ints], bounds: Ints
) -> None:
    """Exchange the ends of those joined to themselves, or once too often, with those of channels near by."""
    one, other = ends
    block = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    first, last = bounds[block], bounds[block + 1] - 1
    for number in range(_ROUNDS):
        wrong = _wrong(figures, nodes, one, other)
        if not len(wrong):
            return
        steps = chance.integers(1, 2 + int(4 * _WIDENING**number), len(wrong))
        partners = np.clip(wrong + steps * chance.choice((-1, 1), len(wrong)), first[wrong], last[wrong])
        if number > _PATIENCE:
            # what small blocks cannot settle among themselves is settled with anybody
            partners = chance.integers(0, len(one), len(wrong))
        for here, there in zip(wrong.tolist(), partners.tolist(), strict=True):
            other[here], other[there] = other[there], other[here]


def _wrong(figures: Figures, nodes: Nodes, one: Ints, other: Ints) -> Ints:
    """Channels from a node to itself; and of those beside another, so many as are too many.

    Those between large nodes go first: who has channels beside each other is small at one end.
    """
    itself = np.flatnonzero(one == other)
    pairs = np.minimum(one, other) * len(nodes.degrees) + np.maximum(one, other)
    order = np.argsort(pairs, kind="stable")
    again = order[1:][pairs[order[1:]] == pairs[order[:-1]]]
    again = again[one[again] != other[again]]
    surplus = len(again) - (figures.channels - figures.pairs)
    lesser = np.minimum(nodes.degrees[one[again]], nodes.degrees[other[again]])
    return np.concatenate([itself, again[np.argsort(-lesser, kind="stable")[: max(0, surplus)]]])
