"""How a payer of flow fidelity finds its way: by the route search that real nodes use.

The graph is `gossip.graph.Graph`, the search `gossip.routes.find_route`, exact in every fee and limit.
It serves networks of some hundred nodes; `trees` serves the others.
"""

from collections.abc import Collection
from typing import Protocol

from gossip.graph import Channel, Graph, Policy
from gossip.no_route import NoRoute
from gossip.routes import Route, find_route
from node.lab.flow.network import FlowNetwork
from wire.crypto.secp256k1 import Point
from wire.scid import scid
from wire.units import Msat, Sat

FINAL_DELTA_BLOCKS = 18


class Router(Protocol):
    """Finds paths: directions, the payer's own channel first."""

    def path(self, payer: int, payee: int, amount_msat: int, avoided: Collection[int]) -> list[int] | None:
        """The cheapest way that avoids these directions, or None."""

    def refresh(self, direction: int) -> None:
        """What is asked for this direction, or whether it is there, has changed."""


class ExactRouter:
    """Every payment searched for anew, in a graph as gossip would have told it."""

    def __init__(self, network: FlowNetwork) -> None:
        self._network, self._graph = network, Graph()
        self._ids = [_id(place) for place in range(len(network.names))]
        self._places = {node_id: place for place, node_id in enumerate(self._ids)}
        for number, (a, b) in enumerate(network.ends):
            first, second = sorted((self._ids[a], self._ids[b]))
            capacity_sat = Sat(network.capacity_msat[number] // 1000)
            self._graph.add_channel(Channel(_scid(number), first, second, capacity_sat))
        for direction in range(len(network.source)):
            self.refresh(direction)

    def refresh(self, direction: int) -> None:
        network = self._network
        if not network.has_policy[direction]:
            return
        toll, capacity_msat = network.tolls[direction], network.capacity_msat[direction >> 1]
        policy = Policy(
            timestamp=0,
            cltv_expiry_delta=toll.cltv_expiry_delta,
            htlc_minimum_msat=toll.htlc_minimum_msat,
            htlc_maximum_msat=Msat(min(toll.htlc_maximum_msat or capacity_msat, capacity_msat)),
            fee_base_msat=toll.fee_base_msat,
            fee_proportional_millionths=toll.fee_proportional_millionths,
            is_disabled=self._is_switched_off(direction),
        )
        self._graph.apply_policy(*self._told(direction), policy)

    def _is_switched_off(self, direction: int) -> bool:
        """Whether gossip says that it carries nothing."""
        return not self._network.is_usable(direction)

    def path(self, payer: int, payee: int, amount_msat: int, avoided: Collection[int]) -> list[int] | None:
        try:
            route = find_route(
                self._graph,
                self._ids[payer],
                self._ids[payee],
                amount_msat,
                FINAL_DELTA_BLOCKS,
                excluded={self._told(direction) for direction in avoided},
                local_limits=self._own_msat(payer),
            )
        except NoRoute:
            return None
        return self._path_of(payer, route)

    def _own_msat(self, payer: int) -> dict[int, Msat]:
        """What each of the payer's channels can send now."""
        network = self._network
        return {_scid(at >> 1): Msat(max(0, network.room_msat(at))) for at in network.out[payer]}

    def _path_of(self, payer: int, route: Route) -> list[int]:
        path, here = [], payer
        for hop in route.hops:
            there, number = self._places[hop.node_id], hop.short_channel_id >> 40
            path.append(2 * number + (self._network.ends[number][0] != here))
            here = there
        return path

    def _told(self, direction: int) -> tuple[int, int]:
        """The direction as gossip names it: the lesser id's is 0."""
        ours, theirs = self._ids[self._network.source[direction]], self._ids[self._network.target[direction]]
        return _scid(direction >> 1), int(ours > theirs)


def _id(place: int) -> Point:
    return Point(b"\2" + place.to_bytes(32, "big"))


def _scid(number: int) -> int:
    """A channel's number as if each had been mined in a block of its own."""
    return scid(number, 0, 0)
