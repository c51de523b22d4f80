"""Viewers pay their provider a little, again and again."""

from collections.abc import Iterator
from heapq import heapify, heapreplace
from random import Random
from typing import Annotated

import msgspec

from node.lab.flow.engine import SECOND_US, Wish
from node.lab.traffic.model import Some, Town, TrafficModel

Chunk = Annotated[float, msgspec.Meta(gt=0)]


class Streaming(TrafficModel, frozen=True, kw_only=True):
    """Every viewer has one provider, and pays it the price of a chunk each `chunk_seconds`."""

    amount_msat: int = 1_000_000
    chunk_seconds: Chunk = 2.0
    providers: Some = 1
    viewers: Some = 10

    def wishes(self, town: Town, random: Random) -> Iterator[Wish]:
        providers = town.some(self.providers, random)
        others = [place for place in town.people if place not in set(providers)]
        viewers = town.some(self.viewers, random, others)
        chunk_us = round(self.chunk_seconds * SECOND_US)
        due = [(random.randrange(chunk_us), viewer, random.choice(providers)) for viewer in viewers]
        heapify(due)
        while due:
            at_us, viewer, provider = due[0]
            yield Wish(at_us, viewer, provider, self.amount(random))
            heapreplace(due, (at_us + chunk_us, viewer, provider))
