"""The shapes that a network can have: which nodes get a channel with each other."""

from collections.abc import Callable
from itertools import pairwise
from math import isqrt
from random import Random

from node.lab.scenario.model import DEFAULT_CAPACITY_SAT, ChannelSpec, NodeSpec, Scenario

_PEOPLE = """
    alice bob carol diana eric frank grace heidi ivan judy kevin laura mike nora oscar peggy quinn rita steve
    trudy ursula victor wendy xavier yvonne zoe
"""
PEOPLE = _PEOPLE.split()
FEWEST_NODES, MOST_NODES = 2, 500
NEIGHBOURS, REWIRED_SHARE = 4, 0.15

Pairs = list[tuple[int, int]]


class WrongShape(Exception):
    """There is no network of this shape and size."""


def names_of(count: int) -> list[str]:
    """Names for so many nodes."""
    return PEOPLE[:count] + [f"node{number}" for number in range(len(PEOPLE) + 1, count + 1)]


def line(count: int, _: Random) -> Pairs:
    """One after another."""
    return list(pairwise(range(count)))


def ring(count: int, random: Random) -> Pairs:
    """A line whose ends meet."""
    return line(count, random) + ([(count - 1, 0)] if count > 2 else [])


def star(count: int, _: Random) -> Pairs:
    """The first in the middle."""
    return [(0, other) for other in range(1, count)]


def grid(count: int, _: Random) -> Pairs:
    """Rows as long as the columns are high, as nearly as it goes."""
    width = max(1, isqrt(count))
    right = [(at, at + 1) for at in range(count - 1) if (at + 1) % width]
    return right + [(at, at + width) for at in range(count - width)]


def tree(count: int, _: Random) -> Pairs:
    """Each with two below it."""
    return [((at - 1) // 2, at) for at in range(1, count)]


def small_world(count: int, random: Random) -> Pairs:
    """A ring of near neighbours, some of whose channels lead far away (Watts and Strogatz, 1998)."""
    reach = min(NEIGHBOURS // 2, (count - 1) // 2) or 1
    found = {frozenset((at, (at + step) % count)) for at in range(count) for step in range(1, reach + 1)}
    for at in range(count):
        # the ring itself stays, so that everybody can reach everybody
        near = frozenset((at, (at + reach) % count))
        far = frozenset((at, random.randrange(count)))
        if reach > 1 and random.random() < REWIRED_SHARE and len(far) == 2 and far not in found:
            found.discard(near)
            found.add(far)
    return sorted((min(pair), max(pair)) for pair in found)


SHAPES: dict[str, Callable[[int, Random], Pairs]] = {
    "line": line,
    "ring": ring,
    "star": star,
    "grid": grid,
    "tree": tree,
    "small-world": small_world,
}


def shaped(shape: str, count: int, seed: int = 0, capacity_sat: int = DEFAULT_CAPACITY_SAT) -> Scenario:
    """A network of this shape, every channel half on each side.

    Raises:
        WrongShape: there is none.
    """
    if shape not in SHAPES:
        raise WrongShape(f"there is no topology {shape!r}: there are {', '.join(SHAPES)}, or a scenario file")
    if not FEWEST_NODES <= count <= MOST_NODES:
        raise WrongShape(f"--nodes {count} is not between {FEWEST_NODES} and {MOST_NODES}")
    names = names_of(count)
    pairs = SHAPES[shape](count, Random(f"{shape}/{seed}"))
    return Scenario(
        name=f"{shape}{count}",
        about=f"{count} nodes, topology {shape}.",
        seed=seed,
        node=tuple([NodeSpec(name) for name in names]),
        channel=tuple([ChannelSpec((names[a], names[b]), capacity_sat) for a, b in pairs]),
    )
