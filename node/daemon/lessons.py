"""What each attempt teaches about channels, for all payments that come after it.

The attempt's route is counted as on its way from the turn that offers it to the outcome, whoever
still waits for it. Then every channel that the HTLC came past has shown that it could carry it, and
one that answered `temporary_channel_failure` that it could not. Other failures, and terms that come
with them, stay with their payment (`errand`, failures.2).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import msgspec

from gossip.beliefs import Beliefs
from gossip.graph import Graph, directed
from gossip.routes import Route
from node.daemon.payments import Attempt
from onion.failures import Attributed, FailureCode
from wire.units import msat


class Taught(msgspec.Struct, frozen=True, gc=False):
    """One channel of a route of which there is something to learn."""

    place: int  # its hop in the route; our own is 0
    number: int  # of the directed channel
    capacity_msat: int
    amount_msat: int  # of the HTLC


class Lessons:
    """Watches the attempts of one node, and keeps what they teach in its beliefs."""

    def __init__(self, beliefs: Beliefs, graph: Graph, now: Callable[[], float]) -> None:
        self._beliefs, self._graph, self._now = beliefs, graph, now

    def of(self, route: Route) -> tuple[Taught, ...]:
        """The channels of a route that it may tell something of.

        Not our own, of which we know all; nor what an invoice alone told of: nobody says how large
        it is, and no other payment goes there.
        """
        return tuple(self._foreign(route))

    def _foreign(self, route: Route) -> Iterator[Taught]:
        for place, (before, hop) in enumerate(pairwise(route.hops), start=1):
            channel = self._graph.channels.get(hop.short_channel_id)
            if channel is not None:
                # routes that our user wrote may name no direction
                number = directed(hop.short_channel_id, channel.direction_from(before.node_id))
                yield Taught(place, number, msat(channel.capacity_sat), hop.amount_msat)

    def begin(self, lesson: tuple[Taught, ...]) -> None:
        """An HTLC is on its way over these channels."""
        for taught in lesson:
            self._beliefs.sent(taught.number, taught.amount_msat)

    def end(self, lesson: tuple[Taught, ...], attempt: Attempt) -> None:
        """It has its outcome."""
        now, attributed = self._now(), attempt.attributed
        # the nodes that it came to are those up to the one that failed it
        reached = attributed.hop_index if attributed is not None else 0
        for taught in lesson:
            self._beliefs.landed(taught.number, taught.amount_msat)
            told = taught.number, taught.capacity_msat, taught.amount_msat, now
            if attempt.preimage is not None:
                self._beliefs.settled(*told)
            elif taught.place <= reached:
                self._beliefs.carried(*told)
            elif taught.place == reached + 1 and _is_short(attributed):
                self._beliefs.refused(*told)


def _is_short(attributed: Attributed | None) -> bool:
    """Whether somebody says that the channel after it has not enough to send."""
    failure = attributed.failure if attributed is not None else None
    return failure is not None and failure.code == FailureCode.temporary_channel_failure
