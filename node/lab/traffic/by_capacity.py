"""Who has more in channels pays and is paid more often."""

from collections.abc import Iterator
from itertools import accumulate
from random import Random

from node.lab.flow.engine import Wish
from node.lab.traffic.model import Rate, Town, TrafficModel, moments


class ByCapacity(TrafficModel, frozen=True, kw_only=True):
    """Payer and payee are chosen by what they have in channels."""

    per_second: Rate = 1.0

    def wishes(self, town: Town, random: Random) -> Iterator[Wish]:
        people = town.everybody()
        weights = list(accumulate(town.capacity_msat[place] for place in people))
        for at_us in moments(self.per_second, random):
            payer = payee = random.choices(people, cum_weights=weights)[0]
            while payee == payer:
                payee = random.choices(people, cum_weights=weights)[0]
            yield Wish(at_us, payer, payee, self.amount(random))
