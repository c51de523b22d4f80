"""Nodes whose fees a policy sets: each is asked again and again, and what it says is told at once."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import overload

from htlc.relay import Toll
from node.lab.fees.advice import Adviser, Sight
from node.lab.fees.model import FeePolicy
from node.lab.flow.engine import LOOKING, SECOND_US, Engine
from node.lab.flow.network import FlowNetwork
from wire.discount import NO_DISCOUNT


class Governor:
    """One node's policy at work. A node that is away asks nothing; nobody asks for a closed channel."""

    def __init__(self, engine: Engine, place: int, policy: FeePolicy, random: Random) -> None:
        self._engine, self._place = engine, place
        self._adviser = Adviser(policy, random)
        self._every_us = round(policy.every_seconds * SECOND_US)
        self._out = list(engine.network.out[place])
        engine.at(0, self._look, rank=LOOKING)

    def _look(self) -> None:
        network = self._engine.network
        for direction in self._out if network.is_online[self._place] else ():
            if not network.is_closed[direction >> 1]:
                self._ask(direction)
        self._engine.at(self._engine.now_us + self._every_us, self._look, rank=LOOKING)

    def _ask(self, direction: int) -> None:
        network = self._engine.network
        asked = self._adviser.ask(direction, self._sight(direction))
        is_new = asked.toll != network.tolls[direction]
        network.tolls[direction] = asked.toll
        # what comes in over a channel comes against the direction that we send in
        if asked.inbound is not None and asked.inbound != network.inbound.get(direction ^ 1, NO_DISCOUNT):
            network.inbound[direction ^ 1] = asked.inbound
            self._engine.changed(direction ^ 1)
        if is_new:
            self._engine.changed(direction)

    def _sight(self, direction: int) -> Sight:
        network = self._engine.network
        return Sight(
            network.tolls[direction],
            network.capacity_msat[direction >> 1],
            network.balance_msat[direction],
            network.fees_msat[direction],
            network.forwarded[direction],
            _Rivals(network, direction),
        )


class _Rivals(Sequence[Toll]):
    """What others ask for passing on to the same peer, over channels that are open.

    Looked up only if a policy cares: a large node's peers have thousands of channels.
    """

    def __init__(self, network: FlowNetwork, direction: int) -> None:
        self._network, self._direction = network, direction

    def __iter__(self) -> Iterator[Toll]:
        network, own = self._network, self._network.source[self._direction]
        for back in network.out[network.target[self._direction]]:
            at = back ^ 1
            if network.has_policy[at] and network.source[at] != own and not network.is_closed[at >> 1]:
                yield network.tolls[at]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Toll: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Toll]: ...
    def __getitem__(self, index: int | slice) -> Toll | Sequence[Toll]:
        return list(self)[index]
