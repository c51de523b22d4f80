"""A network as flow fidelity sees it: who has what in which channel, and who asks what for passing it on.

A direction of a channel is one number, twice the channel's plus 0 for what the first end sends and 1
for the second; `direction ^ 1` is the way back. Lists of plain integers, because a payment reads and
writes a dozen of them and a mainnet has a hundred thousand directions.

What a side may send is what a real channel of ours lets it: its balance without the reserve, and the
opener keeps the commitment's fee at twice its rate, by the very function of `htlc.limits`.
"""

from collections.abc import Sequence
from functools import cache

import msgspec

from htlc.dust import MOST_DUST_EXPOSURE_MSAT
from htlc.limits import opener_cost_msat
from htlc.opening import LOWEST_DUST_LIMIT_SAT, MOST_HTLCS
from htlc.relay import Exit, Toll
from htlc.transactions import ChannelFormat
from node.chain.embedded import DEFAULT_FEERATE_PER_KW
from node.lab.scenario.model import Scenario
from wire.discount import Discount
from wire.units import Msat, Sat, msat

RESERVE_SHARE = 100
DUST_MSAT = LOWEST_DUST_LIMIT_SAT * 1000


class FlowChannel(msgspec.Struct, frozen=True, gc=False):
    """A channel at the start: its ends, and what each has. Without a toll a side passes nothing on."""

    ends: tuple[int, int]
    capacity_sat: Sat
    balance_msat: Msat  # of the first end, which opened it
    tolls: tuple[Toll | None, Toll | None]


class FlowNetwork:
    """Channels with their present balances; HTLCs on their way count as nobody's."""

    def __init__(
        self, names: Sequence[str], channels: Sequence[FlowChannel], slots: int = MOST_HTLCS
    ) -> None:
        self.names = list(names)
        self.place = {name: place for place, name in enumerate(self.names)}
        self.slots = slots
        self.ends = [channel.ends for channel in channels]
        self.capacity_msat = [msat(channel.capacity_sat) for channel in channels]
        self.source = [end for channel in channels for end in channel.ends]
        self.target = [end for channel in channels for end in reversed(channel.ends)]
        self.balance_msat: list[int] = []
        for channel, capacity_msat in zip(channels, self.capacity_msat, strict=True):
            self.balance_msat += (channel.balance_msat, capacity_msat - channel.balance_msat)
        nothing = Toll()
        self.tolls = [toll or nothing for channel in channels for toll in channel.tolls]
        self.has_policy = [toll is not None for channel in channels for toll in channel.tolls]
        self.inbound: dict[int, Discount] = {}
        self.is_online = [True] * len(self.names)
        self.is_closed = [False] * len(channels)
        self.pending = [0] * len(self.source)
        self.in_flight_msat = [0] * len(self.source)
        self._untrimmed = [0] * len(channels)
        self._dust_msat = [0] * len(channels)
        self.out: list[list[int]] = [[] for _ in self.names]
        for direction, place in enumerate(self.source):
            self.out[place].append(direction)
        self.earned_msat = [0] * len(self.names)
        self.forwarded = [0] * len(self.source)
        self.forwarded_msat = [0] * len(self.source)
        self.fees_msat = [0] * len(self.source)

    def is_connected(self, direction: int) -> bool:
        """Whether both ends are there."""
        return self.is_online[self.source[direction]] and self.is_online[self.target[direction]]

    def is_usable(self, direction: int) -> bool:
        """Whether both ends are there, and the channel is open."""
        return self.is_connected(direction) and not self.is_closed[direction >> 1]

    def takes(self, direction: int, amount_msat: int) -> bool:
        """Whether one more HTLC of this amount finds room, a slot, and no bound on dust in its way."""
        if amount_msat < DUST_MSAT:
            exposure_msat = self._dust_msat[direction >> 1] + amount_msat
            if exposure_msat > MOST_DUST_EXPOSURE_MSAT:
                return False
        return self.room_msat(direction) >= amount_msat

    def exit(self, direction: int) -> Exit:
        """The direction as the next hop of somebody's route."""
        return Exit(b"", self.tolls[direction], self.is_usable(direction) and self.has_policy[direction])

    def room_msat(self, direction: int) -> int:
        """The most that one more HTLC can carry now."""
        if self.pending[direction] >= self.slots or not self.is_usable(direction):
            return 0
        channel = direction >> 1
        reserve_msat = self.capacity_msat[channel] // RESERVE_SHARE
        untrimmed = self._untrimmed[channel]
        if direction & 1:
            # the opener must afford one HTLC more on the commitment, or its peer may not add it
            if self.balance_msat[direction ^ 1] < reserve_msat + _cost_msat(1, untrimmed + 1):
                return 0
            return self.balance_msat[direction] - reserve_msat
        # update_add_htlc.2: the fee-spike buffer, twice the feerate and one HTLC more
        return self.balance_msat[direction] - reserve_msat - _cost_msat(2, untrimmed + 2)

    def lock(self, direction: int, amount_msat: int) -> None:
        """An HTLC is offered."""
        self.balance_msat[direction] -= amount_msat
        self.in_flight_msat[direction] += amount_msat
        self.pending[direction] += 1
        self._count(direction >> 1, amount_msat, 1)

    def settle(self, direction: int, amount_msat: int) -> None:
        """An HTLC is fulfilled: it is the other side's now."""
        self.balance_msat[direction ^ 1] += amount_msat
        self._unlock(direction, amount_msat)

    def release(self, direction: int, amount_msat: int) -> None:
        """An HTLC is failed: it is the sender's again."""
        self.balance_msat[direction] += amount_msat
        self._unlock(direction, amount_msat)

    def _unlock(self, direction: int, amount_msat: int) -> None:
        self.in_flight_msat[direction] -= amount_msat
        self.pending[direction] -= 1
        self._count(direction >> 1, amount_msat, -1)

    def _count(self, channel: int, amount_msat: int, change: int) -> None:
        if amount_msat < DUST_MSAT:
            self._dust_msat[channel] += change * amount_msat
        else:
            self._untrimmed[channel] += change

    def fee_msat(self, incoming: int, outgoing: int, amount_msat: int) -> int:
        """What the node between two directions asks for passing this amount on."""
        fee_msat = self.tolls[outgoing].fee_msat(Msat(amount_msat))
        discount = self.inbound.get(incoming)
        return fee_msat if discount is None else fee_msat - discount.off(amount_msat, fee_msat)

    def earn(self, outgoing: int, amount_msat: int, fee_msat: int) -> None:
        """A node has passed something on, for good."""
        self.earned_msat[self.source[outgoing]] += fee_msat
        self.forwarded[outgoing] += 1
        self.forwarded_msat[outgoing] += amount_msat
        self.fees_msat[outgoing] += fee_msat

    def check_conserved(self) -> None:
        """Every millisatoshi of every channel is one side's, or in an HTLC."""
        for channel, capacity_msat in enumerate(self.capacity_msat):
            pair = 2 * channel, 2 * channel + 1
            held_msat = sum(self.balance_msat[at] + self.in_flight_msat[at] for at in pair)
            assert held_msat == capacity_msat, f"channel {channel} holds {held_msat} of {capacity_msat} msat"
            assert min(self.balance_msat[at] for at in pair) >= 0, f"channel {channel} is overdrawn"


@cache
def _cost_msat(times: int, untrimmed: int) -> int:
    """What a commitment costs its opener at so many times the chain's usual feerate."""
    return opener_cost_msat(ChannelFormat.ANCHORS, times * DEFAULT_FEERATE_PER_KW, untrimmed)


def network_of(scenario: Scenario) -> FlowNetwork:
    """The network that a scenario describes."""
    place = {name: at for at, name in enumerate(scenario.names)}
    channels = []
    for spec in scenario.channel:
        a, b = spec.nodes
        tolls = scenario.toll_of(spec, a), scenario.toll_of(spec, b)
        channels.append(FlowChannel((place[a], place[b]), Sat(spec.capacity_sat), spec.balance_msat, tolls))
    return FlowNetwork(scenario.names, channels)
