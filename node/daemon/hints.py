"""Route hints: how a payer reaches us over channels that were not announced (BOLT 11, `r`)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gossip.graph import Graph
from gossip.private import Hint
from htlc.channel import Channel
from htlc.limits import receivable_msat
from wire.bolt11 import Invoice, RouteHop
from wire.crypto.secp256k1 import Point
from wire.units import Msat

if TYPE_CHECKING:
    from node.daemon.switch import Switch

MOST_HINTS = 8  # a QR code has to hold them


def route_hints(
    switch: "Switch",
    graph: Graph,
    amount_msat: Msat | None,
    exposed: bool | Sequence[int] | None = None,
) -> tuple[tuple[RouteHop, ...], ...]:
    """A hint for each private channel that the payer of an invoice may have to use.

    Args:
        exposed: whether to name private channels, or which; None names them if no announced channel
            of ours can receive the amount.
    """
    channels = switch.channels.values()
    if exposed is None:
        exposed = not any(_is_enough(channel, amount_msat) for channel in channels)
    private = [channel for channel in channels if channel.is_usable and not channel.charter.is_announced]
    if not isinstance(exposed, bool):
        names = set(exposed)
        private = [channel for channel in private if names & {channel.short_channel_id, channel.graph_id}]
    elif not exposed:
        private = []
    private.sort(key=receivable_msat, reverse=True)
    hops = (_hop(channel, graph) for channel in private)
    # b11-invoices.2
    return tuple((hop,) for hop in hops if hop is not None)[:MOST_HINTS]


def _is_enough(channel: Channel, amount_msat: Msat | None) -> bool:
    return channel.charter.is_announced and receivable_msat(channel) >= (amount_msat or 1)


def _hop(channel: Channel, graph: Graph) -> RouteHop | None:
    """What the peer asks for passing on to us, if it has told."""
    name, peer_id = channel.hint_id, channel.charter.peer_id
    known = graph.channels.get(channel.graph_id or 0)
    policy = graph.policy(known.short_channel_id, known.direction_from(peer_id)) if known else None
    if name is None or policy is None:
        return None
    return RouteHop(
        peer_id, name, policy.fee_base_msat, policy.fee_proportional_millionths, policy.cltv_expiry_delta
    )


def hints_in(invoice: Invoice) -> tuple[Hint, ...]:
    """What an invoice hints at, for the payer's route."""
    return tuple(hint for way in invoice.route_hints for hint in hints_of(way, invoice.payee))


def hints_of(way: Sequence[RouteHop], payee: Point) -> tuple[Hint, ...]:
    """The channels of one way to a payee, each from its hop to the next."""
    ends = [*(hop.pubkey for hop in way[1:]), payee]
    return tuple(
        Hint(
            hop.pubkey,
            end,
            hop.short_channel_id,
            hop.fee_base_msat,
            hop.fee_proportional_millionths,
            hop.cltv_expiry_delta,
        )
        for hop, end in zip(way, ends, strict=True)
    )
