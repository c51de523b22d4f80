"""A node's fee policy at work, at whichever fidelity: what the node sees goes in, what it asks comes out."""

from collections.abc import Hashable, Sequence
from random import Random
from typing import Any, NamedTuple

from htlc.relay import Toll
from node.lab.fees.model import Asked, FeePolicy, View


class Sight(NamedTuple):
    """One channel as the node that sends over it sees it, with sums since the beginning."""

    toll: Toll
    capacity_msat: int
    balance_msat: int  # its own side, without what is on its way
    fees_msat: int
    forwarded: int
    rivals: Sequence[Toll]


class Adviser:
    """Asks a policy about each channel of one node, and remembers what it saw and what the policy keeps."""

    def __init__(self, policy: FeePolicy, random: Random) -> None:
        self.policy, self._random = policy, random
        self._first: dict[Hashable, Toll] = {}
        self._last: dict[Hashable, Sight] = {}
        self._memory: dict[Hashable, dict[str, Any]] = {}

    def ask(self, channel: Hashable, sight: Sight) -> Asked:
        """What the policy asks over this channel from now on."""
        before = self._last.get(channel)
        self._last[channel] = sight
        view = View(
            toll=sight.toll,
            first_toll=self._first.setdefault(channel, sight.toll),
            capacity_msat=sight.capacity_msat,
            balance_msat=sight.balance_msat,
            earned_msat=sight.fees_msat - (before.fees_msat if before else 0),
            passed=sight.forwarded - (before.forwarded if before else 0),
            rivals=sight.rivals,
            memory=self._memory.setdefault(channel, {}),
            random=self._random,
        )
        return self.policy.ask(view)
