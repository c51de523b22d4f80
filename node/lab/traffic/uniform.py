"""Anybody pays anybody."""

from collections.abc import Iterator
from random import Random

from node.lab.flow.engine import Wish
from node.lab.traffic.model import Rate, Town, TrafficModel, moments


class Uniform(TrafficModel, frozen=True, kw_only=True):
    """Payer and payee are chosen without preference."""

    per_second: Rate = 1.0

    def wishes(self, town: Town, random: Random) -> Iterator[Wish]:
        people = town.everybody()
        for at_us in moments(self.per_second, random):
            payer, payee = random.sample(people, 2)
            yield Wish(at_us, payer, payee, self.amount(random))
