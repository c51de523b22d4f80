"""Money goes round: everybody pays the next in a circle."""

from collections.abc import Iterator
from random import Random

from node.lab.flow.engine import Wish
from node.lab.traffic.model import Rate, Town, TrafficModel, moments


class Circular(TrafficModel, frozen=True, kw_only=True):
    """Nobody gains in the long run: what one is paid it pays on to the next in a circle drawn by chance."""

    per_second: Rate = 1.0

    def wishes(self, town: Town, random: Random) -> Iterator[Wish]:
        people = town.everybody()
        circle = random.sample(people, len(people))
        after = dict(zip(circle, circle[1:] + circle[:1], strict=True))
        for at_us in moments(self.per_second, random):
            payer = random.choice(circle)
            yield Wish(at_us, payer, after[payer], self.amount(random))
