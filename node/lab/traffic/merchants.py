"""Consumers pay merchants, and never the other way."""

from collections.abc import Iterator
from random import Random

from node.lab.flow.engine import Wish
from node.lab.traffic.model import NobodyLeft, Rate, Some, Town, TrafficModel, moments


class Merchants(TrafficModel, frozen=True, kw_only=True):
    """A few are paid, and the others, or those with one or two channels, pay them."""

    per_second: Rate = 1.0
    merchants: Some = 2
    consumers: Some | None = None

    def wishes(self, town: Town, random: Random) -> Iterator[Wish]:
        merchants = town.some(self.merchants, random)
        others = [place for place in town.people if place not in set(merchants)]
        if self.consumers is None:
            if not others:
                raise NobodyLeft
            small = [place for place in others if len(town.network.out[place]) <= 2]
            consumers = small or others
        else:
            consumers = town.some(self.consumers, random, others)
        for at_us in moments(self.per_second, random):
            yield Wish(at_us, random.choice(consumers), random.choice(merchants), self.amount(random))
