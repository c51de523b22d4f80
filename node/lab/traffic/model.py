"""What a traffic model is: from a town and chance to wishes in order of time."""

from collections.abc import Iterator, Sequence
from math import exp
from random import Random
from typing import Annotated

import msgspec

from node.lab.flow.engine import SECOND_US, Wish
from node.lab.flow.network import FlowNetwork

Rate = Annotated[float, msgspec.Meta(gt=0)]
Amount = Annotated[int, msgspec.Meta(ge=1)]
Spread = Annotated[float, msgspec.Meta(ge=0, le=5)]
Some = int | list[str]


class ImpossibleTraffic(Exception):
    """This traffic cannot be in this network."""


class UnknownPerson(ImpossibleTraffic):
    """Traffic names a node that is not in the network."""

    def __init__(self, name: str) -> None:
        super().__init__(f"traffic names {name}, and there is no node of that name")


class NobodyLeft(ImpossibleTraffic):
    """There are fewer nodes with channels than it takes."""

    def __init__(self) -> None:
        super().__init__("traffic needs somebody who pays and somebody else who is paid, both with channels")


class Town:
    """What a model may know of the network: the nodes, and how much each has in channels."""

    def __init__(self, network: FlowNetwork) -> None:
        self.network = network
        self.people = [place for place, out in enumerate(network.out) if out]
        self.capacity_msat = [sum(network.capacity_msat[at >> 1] for at in out) for out in network.out]

    def everybody(self) -> list[int]:
        """All who can pay and be paid.

        Raises:
            NobodyLeft: there are not two of them.
        """
        if len(self.people) < 2:
            raise NobodyLeft
        return self.people

    def some(self, wanted: Some, random: Random, among: Sequence[int] | None = None) -> list[int]:
        """Those who are named, or so many: the more likely, the more they have.

        Raises:
            UnknownPerson: a name is nobody's.
            NobodyLeft: it would be nobody.
        """
        people = list(self.people if among is None else among)
        if not wanted or (isinstance(wanted, int) and (wanted < 0 or not people)):
            raise NobodyLeft
        if isinstance(wanted, int):
            # without replacement, each by its weight: the largest of random^(1/weight) (Efraimidis, Spirakis)
            keyed = [(random.random() ** (1 / self.capacity_msat[place]), place) for place in people]
            return sorted(place for _, place in sorted(keyed, reverse=True)[:wanted])
        for name in wanted:
            if name not in self.network.place:
                raise UnknownPerson(name)
        return [self.network.place[name] for name in wanted]


class TrafficModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model. Its fields are its options; amounts vary by a factor of exp(spread × normal)."""

    amount_msat: Amount = 10_000_000
    spread: Spread = 0.0

    def wishes(self, town: Town, random: Random) -> Iterator[Wish]:
        """Payments in order of time, without end."""
        raise NotImplementedError

    def amount(self, random: Random) -> int:
        """The amount of one payment."""
        if not self.spread:
            return self.amount_msat
        return max(1, round(self.amount_msat * exp(random.gauss(0.0, self.spread))))


def moments(per_second: float, random: Random) -> Iterator[int]:
    """Moments of a Poisson process, in microseconds."""
    now = 0.0
    while True:
        now += random.expovariate(per_second)
        yield round(now * SECOND_US)
