"""Nodes whose fees a policy sets: each is asked again and again, and what it says is told at once."""

from random import Random
from typing import Any

from htlc.relay import Toll
from node.lab.fees.model import FeePolicy, View
from node.lab.flow.engine import SECOND_US, Engine
from node.lab.flow.network import Inbound

_NO_DISCOUNT = Inbound()


class Governor:
    """One node's policy at work."""

    def __init__(self, engine: Engine, place: int, policy: FeePolicy, random: Random) -> None:
        self._engine, self._place, self._policy, self._random = engine, place, policy, random
        network = engine.network
        self._out = list(network.out[place])
        self._first = {at: network.tolls[at] for at in self._out}
        self._memory: dict[int, dict[str, Any]] = {at: {} for at in self._out}
        self._earned = dict.fromkeys(self._out, 0)
        self._passed = dict.fromkeys(self._out, 0)
        engine.at(0, self._look)

    def _look(self) -> None:
        for direction in self._out:
            self._ask(direction)
        self._engine.at(self._engine.now_us + round(self._policy.every_seconds * SECOND_US), self._look)

    def _ask(self, direction: int) -> None:
        network = self._engine.network
        asked = self._policy.ask(self._view(direction))
        self._earned[direction] = network.fees_msat[direction]
        self._passed[direction] = network.forwarded[direction]
        is_new = asked.toll != network.tolls[direction]
        network.tolls[direction] = asked.toll
        # what comes in over a channel comes against the direction that we send in
        if asked.inbound is not None and asked.inbound != network.inbound.get(direction ^ 1, _NO_DISCOUNT):
            network.inbound[direction ^ 1] = asked.inbound
            self._engine.changed(direction ^ 1)
        if is_new:
            self._engine.changed(direction)

    def _view(self, direction: int) -> View:
        network = self._engine.network
        return View(
            toll=network.tolls[direction],
            first_toll=self._first[direction],
            capacity_msat=network.capacity_msat[direction >> 1],
            balance_msat=network.balance_msat[direction],
            earned_msat=network.fees_msat[direction] - self._earned[direction],
            passed=network.forwarded[direction] - self._passed[direction],
            rivals=self._rivals(direction),
            memory=self._memory[direction],
            random=self._random,
        )

    def _rivals(self, direction: int) -> list[Toll]:
        """What others ask for passing on to the same peer."""
        network = self._engine.network
        into = [at ^ 1 for at in network.out[network.target[direction]] if network.has_policy[at ^ 1]]
        return [network.tolls[at] for at in into if network.source[at] != self._place]
