"""Paying over blinded paths: each stands in the route search as one channel (BOLT 4, route blinding).

The channel begins at the node that the path begins at, takes what the whole path takes, and ends at
a node of our making that stands for the payee. So a payment over several paths, in parts or not, is
searched for like any other, and only the onion shows the difference. The payee's own key is not the
end: it may be known, and a route that reaches it without a path would be refused.
"""

import secrets
from collections.abc import Sequence

import msgspec

from gossip.graph import Graph
from gossip.private import Hint
from gossip.routes import Route
from node.daemon.switch import Switch
from onion.blinded import InvalidBlinding, PaymentRelay, unblind
from onion.blinded_payment import hops_of
from onion.payload import HopPayload, encode_payload
from wire.blinded_path import BlindedPath
from wire.bolt12.kinds import PayInfo
from wire.crypto import secp256k1
from wire.crypto.secp256k1 import Point
from wire.units import MAX_MSAT, Msat

MOST_PATHS = 16
_SCID_BYTES = 9
_MILLION = 1_000_000


class Blinded(msgspec.Struct, frozen=True, gc=False):
    """The blinded paths to a payee, by the number of the channel that each stands as."""

    target: Point
    paths: dict[int, BlindedPath]
    hints: tuple[Hint, ...]

    def told(self, route: Route, height: int, total_msat: Msat) -> list[tuple[Point, bytes]]:
        """The onion's payloads for a route whose last channel is one of the paths."""
        *known, last = route.for_onion(height)
        payloads = [
            (
                hop.node_id,
                HopPayload(
                    amt_to_forward=hop.amt_to_forward,
                    outgoing_cltv_value=hop.outgoing_cltv_value,
                    short_channel_id=hop.short_channel_id,
                ),
            )
            # the last of them enters the path, and finds there what it needs
            for hop in known[:-1]
        ]
        path = self.paths[route.hops[-1].short_channel_id]
        payloads += hops_of(path, last.amt_to_forward, last.outgoing_cltv_value, total_msat)
        return [(point, encode_payload(payload)) for point, payload in payloads]

    def is_at_its_end(self, route: Route) -> bool:
        """Whether the payee itself is where the route's path begins."""
        return len(self.paths[route.hops[-1].short_channel_id].hops) == 1


def blinded_ways(
    switch: Switch, graph: Graph, paths: Sequence[tuple[BlindedPath, PayInfo]]
) -> Blinded | None:
    """The paths that we can enter; None if there are none."""
    target = secp256k1.point_of(secrets.token_bytes(32))
    entered = [_entered(switch, graph, *each) for each in paths[:MOST_PATHS]]
    usable = {_new_number(): each for each in entered if each is not None}
    hints = tuple(_hint(target, number, *each) for number, each in usable.items())
    return Blinded(target, {number: path for number, (path, _) in usable.items()}, hints) if hints else None


def _new_number() -> int:
    """No channel of the next decades has such a short_channel_id."""
    return 1 << 61 | secrets.randbits(61)


def _hint(target: Point, number: int, path: BlindedPath, price: PayInfo) -> Hint:
    return Hint(
        path.first_node_id,
        target,
        number,
        price.fee_base_msat,
        price.fee_proportional_millionths,
        price.cltv_expiry_delta,
        price.htlc_minimum_msat,
        Msat(min(price.htlc_maximum_msat, MAX_MSAT)),
    )


def _entered(
    switch: Switch, graph: Graph, path: BlindedPath, price: PayInfo
) -> tuple[BlindedPath, PayInfo] | None:
    """The path from its first node that is not ourselves, known by its id; None if there is none."""
    first = first_node(graph, path)
    if first is None:
        return None
    path = msgspec.structs.replace(path, first_node_id=first)
    if first != switch.signer.node_id:
        return path, price
    return _without_us(switch, path, price) if len(path.hops) > 1 else None


def first_node(graph: Graph, path: BlindedPath) -> Point | None:
    """The node that a path begins at, which may be named by a channel of it."""
    if len(path.first_node_id) != _SCID_BYTES:
        return path.first_node_id
    channel = graph.channels.get(int.from_bytes(path.first_node_id[1:], "big"))
    return None if channel is None else channel.end(path.first_node_id[0])


def _without_us(switch: Switch, path: BlindedPath, price: PayInfo) -> tuple[BlindedPath, PayInfo] | None:
    """The rest of a path that begins with us: we read our part, and take nothing for it."""
    try:
        opened = unblind(
            switch.signer.node_secret, path.first_path_key, path.hops[0].encrypted_recipient_data
        )
    except InvalidBlinding:
        return None
    told = opened.recipient_data
    following = told.next_node_id or switch.peer_named(told.short_channel_id)
    if following is None or told.payment_relay is None:
        return None
    rest = BlindedPath(following, opened.next_path_key, path.hops[1:])
    return rest, _price_without(price, told.payment_relay)


def _price_without(price: PayInfo, relay: PaymentRelay) -> PayInfo:
    """What is left of a path's price behind its first node, rounded up."""
    ours = _MILLION + relay.fee_proportional_millionths
    base = max(0, price.fee_base_msat - relay.fee_base_msat)
    rate = max(0, price.fee_proportional_millionths - relay.fee_proportional_millionths)
    return msgspec.structs.replace(
        price,
        fee_base_msat=Msat(-(-base * _MILLION // ours)),
        fee_proportional_millionths=-(-rate * _MILLION // ours),
        cltv_expiry_delta=max(0, price.cltv_expiry_delta - relay.cltv_expiry_delta),
    )
