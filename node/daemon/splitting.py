"""How an amount is cut into parts that each find a way (BOLT 4, basic_mpp).

What does not pass whole is halved until it does. Between the pieces only this is shared: what a
channel already carries for the payment it cannot carry twice, and the fees are one budget.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from gossip.no_route import CltvTooFar, IncompatibleTarget, NoRoute, TargetIsSource, UnknownTarget
from gossip.routes import Route
from wire.units import Msat

MOST_PARTS = 16
LEAST_PART_MSAT = 1000
_WHATEVER_ITS_SIZE = (TargetIsSource, UnknownTarget, IncompatibleTarget, CltvTooFar)


class Burden(msgspec.Struct, frozen=True, gc=False):
    """What the parts of a plan put on channels that the next one must not count on."""

    carried_msat: Mapping[tuple[int, int], int]  # delivered over each directed channel
    sent_msat: Mapping[int, int]  # through each of our own channels, fees included
    fees_msat: int


FindRoute = Callable[[Msat, Burden], Route]
"""The best route for an amount on top of a burden; raises NoRoute."""


def split(find: FindRoute, amount_msat: Msat, most_parts: int = MOST_PARTS) -> list[Route]:
    """Routes that together bring the amount, as few as halving gives.

    Args:
        most_parts: 1 if the payee takes it only whole.

    Raises:
        NoRoute: as for the whole amount.
    """
    carried, sent, routes = Counter[tuple[int, int]](), Counter[int](), list[Route]()
    pieces, refused = [amount_msat], None
    while pieces:
        piece = pieces.pop()
        try:
            route = find(piece, Burden(carried, sent, sum(each.fee_msat for each in routes)))
        except NoRoute as none:
            refused = refused or none
            may_halve = len(routes) + len(pieces) + 2 <= most_parts and piece >= 2 * LEAST_PART_MSAT
            if isinstance(none, _WHATEVER_ITS_SIZE) or not may_halve:
                raise refused from None
            pieces += [Msat(piece // 2), Msat(piece - piece // 2)]
            continue
        routes.append(route)
        sent[route.hops[0].short_channel_id] += route.hops[0].amount_msat
        for hop in route.hops:
            carried[hop.short_channel_id, hop.direction] += piece
    return routes
