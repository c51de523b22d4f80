"""What attempts have told of channels: bounds on what each can send, which fade with time.

A channel's capacity is public, how it is divided is not. Of each channel we keep one interval, in
which the part lies that `node_id_1` could send; what the other end could send is the rest of the
capacity. Knowing nothing, every division is as likely as any other. An HTLC that came past a
channel raises the lower bound, one that it refused lowers the upper, one that was settled moves
both; what is on its way is missing from the side it left. Balances change behind our back, so
bounds drift back to nothing known, by half in each half-life.

The uniform prior is Pickhardt's (arXiv 2103.08576). A prior with more weight on lopsided channels
(as LDK has it) was left out: the snapshot tells nothing about balances to fit it to.

One such memory serves all payments of a node, so that what one has learned spares the next its
attempts. It learns only how far an HTLC came and which channel was short of balance. Terms that
come inside a failure are never kept here (failures.2): who tells them to us alone would know us by
them again. Something can be probed all the same: whoever makes this node pay, and sees over which
channels, may guess that a channel passed by was found empty lately, so that somebody tried to pay
that way; and a node may claim that its own channel is short, to be passed by for some hours, which
costs it the fees. Both are what every node with a memory allows, and fading bounds both.

The memory is not written to disk. Most of it would have faded before a node that was stopped is
needed again, and a file of what we paid over, kept for that, would outlive its use.

Nothing here needs numpy: a payment over one way in a small network does without.
"""

from collections import Counter
from collections.abc import Mapping
from math import log

import msgspec

from gossip.graph import Graph, directed_parts
from wire.units import msat

HALF_LIFE_SECONDS = 6 * 3600.0
MOST_CHANNELS = 5000
MOST_DOUBT = 1e6
# where one way is this likely to work, parts would cost more than they help
SURE_ENOUGH = 0.95


class Belief(msgspec.Struct, frozen=True, gc=False):
    """Between these bounds lies what direction 0 could send, as of a moment."""

    capacity_msat: int
    least_msat: int
    most_msat: int
    seconds: float

    def at(self, seconds: float, half_life_seconds: float) -> "Belief":
        """What is left of it later."""
        if seconds <= self.seconds:
            return self
        kept = 0.5 ** ((seconds - self.seconds) / half_life_seconds)
        least = int(self.least_msat * kept)
        most = self.capacity_msat - int((self.capacity_msat - self.most_msat) * kept)
        return Belief(self.capacity_msat, least, most, seconds)

    def holding_at_least(self, least_msat: int) -> "Belief":
        """New evidence for a lower bound; an upper bound that contradicts it has lost its worth."""
        least = min(max(self.least_msat, least_msat), self.capacity_msat)
        most = self.capacity_msat if self.most_msat < least else self.most_msat
        return Belief(self.capacity_msat, least, most, self.seconds)

    def holding_at_most(self, most_msat: int) -> "Belief":
        """New evidence for an upper bound; a lower bound that contradicts it has lost its worth."""
        most = max(min(self.most_msat, most_msat), 0)
        least = 0 if self.least_msat > most else self.least_msat
        return Belief(self.capacity_msat, least, most, self.seconds)

    def moved(self, by_msat: int) -> "Belief":
        """So much has come to this side."""
        least, most = (
            min(max(bound + by_msat, 0), self.capacity_msat) for bound in (self.least_msat, self.most_msat)
        )
        return Belief(self.capacity_msat, least, most, self.seconds)


class Beliefs:
    """What attempts have told, by channel; the channels heard of longest ago are forgotten first."""

    def __init__(
        self, half_life_seconds: float = HALF_LIFE_SECONDS, most_channels: int = MOST_CHANNELS
    ) -> None:
        self.half_life_seconds, self._most_channels = half_life_seconds, most_channels
        self._channels: dict[int, Belief] = {}
        self._flying_msat: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._channels)

    def copy(self) -> "Beliefs":
        """What is believed now, for a search that goes on while more is learned."""
        copied = Beliefs(self.half_life_seconds, self._most_channels)
        copied._channels, copied._flying_msat = dict(self._channels), Counter(self._flying_msat)
        return copied

    def channels(self) -> set[int]:
        """The channels of which anything is believed."""
        return {*self._channels, *(number >> 1 for number in self._flying_msat)}

    # --- what is learned

    def sent(self, number: int, amount_msat: int) -> None:
        """An HTLC of ours is on its way over a directed channel."""
        self._flying_msat[number] += amount_msat

    def landed(self, number: int, amount_msat: int) -> None:
        """It is not any more."""
        self._flying_msat[number] -= amount_msat
        if self._flying_msat[number] <= 0:
            del self._flying_msat[number]

    def carried(self, number: int, capacity_msat: int, amount_msat: int, seconds: float) -> None:
        """A directed channel carried an HTLC that failed further on: it can carry as much again."""
        belief = self._now(number, capacity_msat, seconds)
        if directed_parts(number)[1]:
            self._learn(number, belief.holding_at_most(capacity_msat - amount_msat))
        else:
            self._learn(number, belief.holding_at_least(amount_msat))

    def refused(self, number: int, capacity_msat: int, amount_msat: int, seconds: float) -> None:
        """A directed channel could not carry this much, on top of what of ours is on its way over it."""
        belief, all_msat = self._now(number, capacity_msat, seconds), amount_msat + self._flying_msat[number]
        if directed_parts(number)[1]:
            self._learn(number, belief.holding_at_least(capacity_msat - all_msat + 1))
        else:
            self._learn(number, belief.holding_at_most(all_msat - 1))

    def settled(self, number: int, capacity_msat: int, amount_msat: int, seconds: float) -> None:
        """An HTLC was paid over a directed channel: it could carry it, and now carries that much less."""
        belief = self._now(number, capacity_msat, seconds)
        if directed_parts(number)[1]:
            belief = belief.holding_at_most(capacity_msat - amount_msat).moved(amount_msat)
        else:
            belief = belief.holding_at_least(amount_msat).moved(-amount_msat)
        self._learn(number, belief)

    def _learn(self, number: int, belief: Belief) -> None:
        scid = directed_parts(number)[0]
        self._channels.pop(scid, None)
        self._channels[scid] = belief
        if len(self._channels) > self._most_channels:
            del self._channels[next(iter(self._channels))]

    # --- what is believed

    def bounds(self, number: int, capacity_msat: int, seconds: float) -> tuple[int, int]:
        """What a directed channel can send at least and at most, in msat, beside what is on its way."""
        scid, direction = directed_parts(number)
        if scid in self._channels:
            belief = self._now(number, capacity_msat, seconds)
            low, high = belief.least_msat, belief.most_msat
        else:
            low, high = 0, capacity_msat
        if direction:
            low, high = capacity_msat - high, capacity_msat - low
        flying = self._flying_msat.get(number, 0)
        return max(0, low - flying), max(0, high - flying)

    def _now(self, number: int, capacity_msat: int, seconds: float) -> Belief:
        """The belief about a channel, faded up to a moment; nothing known, if there was none."""
        belief = self._channels.get(directed_parts(number)[0])
        if belief is None or belief.capacity_msat != capacity_msat:
            return Belief(capacity_msat, 0, capacity_msat, seconds)
        return belief.at(seconds, self.half_life_seconds)


def worth_of_doubt_msat(amount_msat: int) -> int:
    """What -ln(chance) = 1 is worth to who pays this amount: a thousandth of it, at least a satoshi.

    It is about what one would pay in fees for two attempts in three not to fail.
    """
    return max(1000, amount_msat // 1000)


class Doubts:
    """What the doubt in each channel adds to the price of one payment, in msat.

    The price of a channel is the doubt that it carries the payment's amount, as in
    `gossip.splitting.single`; whether it can carry the HTLC at all is asked with the HTLC's own
    amount, of which no directed channel carries more than `room_msat`, by its number.
    """

    def __init__(
        self,
        graph: Graph,
        beliefs: Beliefs,
        amount_msat: int,
        seconds: float,
        room_msat: Mapping[int, int] | None = None,
    ) -> None:
        self._graph, self._beliefs, self._seconds = graph, beliefs, seconds
        self._amount_msat, self._worth_msat = amount_msat, worth_of_doubt_msat(amount_msat)
        self._room_msat, self._known = room_msat or {}, dict[int, tuple[int, int]]()

    def price_msat(self, number: int, carried_msat: int) -> int | None:
        """What a directed channel costs beside its fees; None if it cannot carry an HTLC of this size."""
        least, most = self._bounds(number)
        if carried_msat > most:
            return None
        if self._amount_msat <= least:
            return 0
        doubt = -log((most - self._amount_msat + 1) / (most - least + 1))
        return int(min(doubt, MOST_DOUBT) * self._worth_msat)

    def most_msat(self, number: int) -> int:
        """What a directed channel can carry at most."""
        return self._bounds(number)[1]

    def chance(self, number: int, carried_msat: int) -> float:
        """How likely a directed channel carries an HTLC of this size."""
        least, most = self._bounds(number)
        return min(1.0, max(0.0, (most - carried_msat + 1) / (most - least + 1)))

    def _bounds(self, number: int) -> tuple[int, int]:
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self._bounds_now(number)
        return known

    def _bounds_now(self, number: int) -> tuple[int, int]:
        capacity_sat = self._graph.channels[directed_parts(number)[0]].capacity_sat
        least, most = self._beliefs.bounds(number, msat(capacity_sat), self._seconds)
        most = min(most, self._room_msat.get(number, most))
        return min(least, most), most
