"""What each attempt teaches about channels, for all payments that come after it.

The attempt's route is counted as on its way from the turn that offers it to the outcome, whoever
still waits for it. Then every channel that the HTLC came past has shown that it could carry it, and
one that answered `temporary_channel_failure` that it could not. Other failures, and terms that come
with them, stay with their payment (`errand`, failures.2).
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from gossip.beliefs import Beliefs
from gossip.graph import Graph, directed
from gossip.routes import Route
from node.daemon.payments import Attempt
from onion.failures import Attributed, FailureCode
from wire.units import msat


class Lessons:
    """Watches the attempts of one node, and keeps what they teach in its beliefs."""

    def __init__(self, beliefs: Beliefs, graph: Graph, now: Callable[[], float]) -> None:
        self._beliefs, self._graph, self._now = beliefs, graph, now

    def begin(self, route: Route) -> None:
        """An HTLC is on its way along this route."""
        for _, number, _, amount_msat in self._foreign(route):
            self._beliefs.sent(number, amount_msat)

    def end(self, route: Route, attempt: Attempt) -> None:
        """It has its outcome."""
        now, attributed, beliefs = self._now(), attempt.attributed, self._beliefs
        # the nodes that it came to are those up to the one that failed it
        reached = attributed.hop_index if attributed is not None else 0
        for at, number, capacity_msat, amount_msat in self._foreign(route):
            beliefs.landed(number, amount_msat)
            if attempt.preimage is not None:
                beliefs.settled(number, capacity_msat, amount_msat, now)
            elif at <= reached:
                beliefs.carried(number, capacity_msat, amount_msat, now)
            elif at == reached + 1 and _is_short(attributed):
                beliefs.refused(number, capacity_msat, amount_msat, now)

    def _foreign(self, route: Route) -> Iterator[tuple[int, int, int, int]]:
        """Each hop's place, directed channel, capacity and HTLC, where there is something to learn.

        That is not so of our own channel, of which we know all, nor of what an invoice alone told
        of: nobody says how large it is, and no other payment goes there.
        """
        for at, (before, hop) in enumerate(pairwise(route.hops), start=1):
            channel = self._graph.channels.get(hop.short_channel_id)
            if channel is not None:
                # routes that our user wrote may name no direction
                number = directed(hop.short_channel_id, channel.direction_from(before.node_id))
                yield at, number, msat(channel.capacity_sat), hop.amount_msat


def _is_short(attributed: Attributed | None) -> bool:
    """Whether somebody says that the channel after it has not enough to send."""
    failure = attributed.failure if attributed is not None else None
    return failure is not None and failure.code == FailureCode.temporary_channel_failure
