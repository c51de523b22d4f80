"""Payers of flow fidelity that choose their ways as real nodes do: by price and by doubt, with a memory.

The search, the beliefs and what an attempt teaches are those of `node.daemon.planning` and
`node.daemon.lessons`: every payer remembers what its attempts have told of channels, until it goes away.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

from gossip.asked import Asked, one_way
from gossip.beliefs import Beliefs
from gossip.graph import directed
from gossip.no_route import NoRoute
from gossip.routes import Route
from node.lab.flow.network import FlowNetwork
from node.lab.flow.routing import FINAL_DELTA_BLOCKS, ExactRouter

START_SECONDS = 1_231_006_505.0
"""When scenarios begin, at either fidelity; it is when the first block of all was made."""


class PayersRouter(ExactRouter):
    """Finds ways for payers who remember."""

    def __init__(self, network: FlowNetwork, now: Callable[[], float]) -> None:
        """`now` tells the seconds; what is remembered fades with them."""
        super().__init__(network)
        self._beliefs: defaultdict[int, Beliefs] = defaultdict(Beliefs)
        self._now = now

    def path(self, payer: int, payee: int, amount_msat: int, avoided: Collection[int]) -> list[int] | None:
        asked = Asked(
            self._ids[payer],
            self._ids[payee],
            amount_msat,
            FINAL_DELTA_BLOCKS,
            own_msat=self._own_msat(payer),
            room_msat={directed(*self._told(direction)): amount_msat - 1 for direction in avoided},
        )
        route = self._way(asked, self._beliefs[payer]) or self._way(asked, Beliefs())
        return None if route is None else self._path_of(payer, route)

    def _is_switched_off(self, direction: int) -> bool:
        # that somebody is away nobody tells: payers find it out
        return self._network.is_closed[direction >> 1]

    def _way(self, asked: Asked, beliefs: Beliefs) -> Route | None:
        try:
            return one_way(self._graph, asked, beliefs, self._now())[0]
        except NoRoute:
            return None

    # --- what attempts teach

    def sent(self, path: Sequence[int], amounts_msat: Sequence[int]) -> None:
        """A payer has sent an HTLC this way."""
        beliefs = self._beliefs[self._network.source[path[0]]]
        for _, number, _, amount_msat in self._foreign(path, amounts_msat):
            beliefs.sent(number, amount_msat)

    def ended(
        self, path: Sequence[int], amounts_msat: Sequence[int], stopped_at: int, *, is_paid: bool
    ) -> None:
        """Its outcome is back with the payer: it was paid, or the direction of that place did not take it."""
        beliefs = self._beliefs[self._network.source[path[0]]]
        for at, number, capacity_msat, amount_msat in self._foreign(path, amounts_msat):
            beliefs.landed(number, amount_msat)
            told = number, capacity_msat, amount_msat, self._now()
            if is_paid:
                beliefs.settled(*told)
            elif at < stopped_at:
                beliefs.carried(*told)
            elif at == stopped_at:
                beliefs.refused(*told)

    def forget(self, payer: int) -> None:
        """A payer goes away, and its memory with it."""
        self._beliefs.pop(payer, None)

    def _foreign(
        self, path: Sequence[int], amounts_msat: Sequence[int]
    ) -> Iterator[tuple[int, int, int, int]]:
        """Of each channel that is not the payer's: place, number, capacity, and what the HTLC carries."""
        for at in range(1, len(path)):
            capacity_msat = self._network.capacity_msat[path[at] >> 1]
            yield at, directed(*self._told(path[at])), capacity_msat, amounts_msat[at]
