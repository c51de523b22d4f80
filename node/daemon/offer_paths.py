"""Blinded paths to this node: for messages about an offer, and for the payments of an invoice (BOLT 4, 12).

A node that is announced may lead to itself: its path has one hop. Who is not, or wants to stay
unknown, leads over peers, and signs with a key that is the offer's alone.
"""

import secrets
from collections.abc import Collection, Iterable, Sequence

import msgspec

from gossip.graph import Graph, Policy
from htlc.channel import Channel
from htlc.limits import receivable_msat
from node.daemon.switch import Switch
from onion.blinded import (
    PaymentConstraints,
    PaymentRelay,
    RecipientData,
    blind,
    encode_recipient_data,
    padded,
)
from onion.blinded_payment import aggregate
from wire.blinded_path import BlindedPath
from wire.bolt12.kinds import PayInfo
from wire.crypto.secp256k1 import Point, Secret
from wire.features import ONION_MESSAGES, ROUTE_BLINDING
from wire.units import MAX_MSAT, Msat

MOST_MESSAGE_PATHS = 3
MOST_PAYMENT_PATHS = 4
LASTING_BLOCKS = 1008
"""For how long a path takes payments: afterwards nobody can probe where it leads any more."""


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What the payments of one invoice must keep to."""

    path_id: bytes
    final_delta_blocks: int
    amount_msat: Msat


def message_path(nodes: Sequence[Point], path_id: bytes | None, secret: Secret) -> BlindedPath:
    """A path for messages over these nodes, each a peer of the next, to the last of them."""
    told = [RecipientData(next_node_id=node_id) for node_id in nodes[1:]]
    told.append(RecipientData(path_id=path_id))
    streams = padded(told) if len(told) > 1 else list(map(encode_recipient_data, told))
    return blind(secret, list(zip(nodes, streams, strict=True)))


def is_public(switch: Switch) -> bool:
    """Whether anybody can find us by our id."""
    return any(channel.charter.is_announced and channel.is_usable for channel in switch.channels.values())


def fronts(switch: Switch) -> list[Point]:
    """The peers that can lead messages and payments to us, those with most to bring first."""
    channels = sorted(filter(_is_usable, switch.channels.values()), key=receivable_msat, reverse=True)
    peers = dict.fromkeys(channel.charter.peer_id for channel in channels)
    return [peer_id for peer_id in peers if switch.agrees_on(peer_id, ONION_MESSAGES)]


def _is_usable(channel: Channel) -> bool:
    return channel.is_usable


def payment_paths(
    switch: Switch, graph: Graph, terms: Terms, over: Collection[Point] | None
) -> list[tuple[BlindedPath, PayInfo]]:
    """The paths of an invoice, each with its price; none if nothing can be received.

    Args:
        over: the peers that they begin at; None lets them begin, and end, with ourselves.
    """
    if over is None:
        return [_direct(switch, terms)]
    found = (_over(switch, graph, channel, terms) for channel in _ways_in(switch, over))
    return [each for each in found if each is not None][:MOST_PAYMENT_PATHS]


def _ways_in(switch: Switch, over: Collection[Point]) -> Iterable[Channel]:
    channels = [
        channel
        for channel in switch.channels.values()
        if channel.is_usable
        and channel.charter.peer_id in over
        and switch.agrees_on(channel.charter.peer_id, ROUTE_BLINDING)
    ]
    return sorted(channels, key=receivable_msat, reverse=True)


def _direct(switch: Switch, terms: Terms) -> tuple[BlindedPath, PayInfo]:
    """We say nothing of our channels here: what they can bring is nobody's business."""
    expiry = switch.height + LASTING_BLOCKS
    told = RecipientData(path_id=terms.path_id, payment_constraints=PaymentConstraints(expiry, Msat(1)))
    us = switch.signer.node_id, encode_recipient_data(told)
    price = PayInfo(Msat(0), 0, terms.final_delta_blocks, Msat(1), Msat(MAX_MSAT))
    return blind(secrets.token_bytes(32), [us]), price


def _over(switch: Switch, graph: Graph, channel: Channel, terms: Terms) -> tuple[BlindedPath, PayInfo] | None:
    """A path from the channel's peer to us, if it has told what it takes."""
    policy, name = _policy_of(graph, channel), channel.hint_id
    if policy is None or name is None:
        return None
    relay = PaymentRelay(policy.cltv_expiry_delta, policy.fee_proportional_millionths, policy.fee_base_msat)
    expiry = switch.height + LASTING_BLOCKS
    least_msat = Msat(max(1, policy.htlc_minimum_msat))
    # blinded-paths.1
    told = (
        RecipientData(
            short_channel_id=name,
            payment_relay=relay,
            payment_constraints=PaymentConstraints(expiry + policy.cltv_expiry_delta, least_msat),
        ),
        RecipientData(path_id=terms.path_id, payment_constraints=PaymentConstraints(expiry, least_msat)),
    )
    nodes = channel.charter.peer_id, switch.signer.node_id
    path = blind(secrets.token_bytes(32), list(zip(nodes, padded(told), strict=True)))
    price = aggregate([relay], terms.final_delta_blocks)
    most_msat = Msat(min(policy.htlc_maximum_msat, receivable_msat(channel)))
    base, rate, delta = price.fee_base_msat, price.fee_proportional_millionths, price.cltv_expiry_delta
    return (path, PayInfo(base, rate, delta, least_msat, most_msat)) if most_msat >= least_msat else None


def _policy_of(graph: Graph, channel: Channel) -> Policy | None:
    """What the peer asks for passing on to us over the channel."""
    known = graph.channels.get(channel.graph_id or 0)
    peer_id = channel.charter.peer_id
    return graph.policy(known.short_channel_id, known.direction_from(peer_id)) if known else None
