"""Payments over a blinded path: what its nodes obey, and what its price is (BOLT 4, route blinding).

A node of the path is told neither amount nor expiry by the sender: it computes both from what
the recipient wrote and from the HTLC that came in. `open_blinded` gives the payload that an
ordinary hop would have had, so whoever relays need not know the difference except for two
things: the next hop may be named by its node id, and every failure is `invalid_onion_blinding`.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from onion.blinded import InvalidBlinding, PaymentRelay, RecipientData, Unblinded, check_features, unblind
from onion.payload import HopPayload
from wire.blinded_path import BlindedPath
from wire.crypto.secp256k1 import Point, Secret
from wire.units import Msat

_MILLION = 1_000_000


class PathKeyMisplaced(InvalidBlinding):
    """A path key came beside the onion and inside it, or neither, or without encrypted data."""

    def __init__(self) -> None:
        super().__init__("there must be exactly one path key, and encrypted data with it")


class ConstraintBroken(InvalidBlinding):
    """The HTLC is later or smaller than the recipient allows on this path."""

    def __init__(self, amount_msat: Msat, cltv_expiry: int) -> None:
        self.amount_msat, self.cltv_expiry = amount_msat, cltv_expiry
        super().__init__(f"{amount_msat} msat until block {cltv_expiry} is outside the path's constraints")


class InstructionsIncomplete(InvalidBlinding):
    """A node on the way needs exactly one name of the next, and what to take for itself."""

    def __init__(self) -> None:
        super().__init__("the recipient data does not say how to pass the payment on")


class Aggregate(Struct, frozen=True, gc=False):
    """What a whole path costs, as its creator tells the sender."""

    fee_base_msat: Msat
    fee_proportional_millionths: int
    cltv_expiry_delta: int

    def fee_msat(self, amount_msat: Msat) -> Msat:
        """The fee of the path for an amount that arrives."""
        return Msat(self.fee_base_msat + amount_msat * self.fee_proportional_millionths // _MILLION)


def path_key_of(payload: HopPayload, path_key: Point | None) -> Point | None:
    """The one path key of an HTLC, or None if it is not on a blinded path.

    Args:
        payload: read from its onion.
        path_key: the one in its `update_add_htlc`, if any.

    Raises:
        PathKeyMisplaced: see there.
    """
    inside = payload.current_path_key
    # blinded-paths.2: from the message or from the onion, never both, and never without its data
    if payload.encrypted_recipient_data is None:
        if path_key is not None or inside is not None:
            raise PathKeyMisplaced
        return None
    if (path_key is None) == (inside is None):
        raise PathKeyMisplaced
    return inside if path_key is None else path_key


def open_blinded(
    payload: HopPayload,
    *,
    node_secret: Secret,
    path_key: Point,
    amount_msat: Msat,
    cltv_expiry: int,
    is_final: bool,
) -> tuple[HopPayload, Unblinded]:
    """The payload with what the recipient wrote filled in, and that itself.

    Args:
        payload: of a node inside a blinded path.
        node_secret: our node's secret key.
        path_key: as `path_key_of` gave it.
        amount_msat: of the HTLC that came in.
        cltv_expiry: of the HTLC that came in.
        is_final: whether the packet had no further hop.

    Raises:
        InvalidBlinding: any rule for a reader is broken.
    """
    unblinded = unblind(node_secret, path_key, payload.encrypted_recipient_data or b"")
    recipient_data = unblinded.recipient_data
    _check(recipient_data, amount_msat, cltv_expiry)
    if is_final:
        return payload, unblinded
    relay = recipient_data.payment_relay
    if relay is None or (recipient_data.short_channel_id is None) == (recipient_data.next_node_id is None):
        raise InstructionsIncomplete
    forwarded_msat = amount_to_forward(relay, amount_msat)
    outgoing_cltv_value = cltv_expiry - relay.cltv_expiry_delta
    if forwarded_msat <= 0 or outgoing_cltv_value < 0:
        raise ConstraintBroken(amount_msat, cltv_expiry)
    filled = replace(
        payload,
        amt_to_forward=forwarded_msat,
        outgoing_cltv_value=outgoing_cltv_value,
        short_channel_id=recipient_data.short_channel_id,
    )
    return filled, unblinded


def _check(recipient_data: RecipientData, amount_msat: Msat, cltv_expiry: int) -> None:
    """What every node of the path obeys, the last one too (blinded-paths.3)."""
    constraints = recipient_data.payment_constraints
    if constraints is not None and (
        cltv_expiry > constraints.max_cltv_expiry or amount_msat < constraints.htlc_minimum_msat
    ):
        raise ConstraintBroken(amount_msat, cltv_expiry)
    check_features(recipient_data)
    if recipient_data.short_channel_id is not None and recipient_data.next_node_id is not None:
        raise InstructionsIncomplete


def amount_to_forward(relay: PaymentRelay, amount_msat: Msat) -> Msat:
    """What leaves when so much came in: the least whose fee fits, so rounded up (blinded-paths.3)."""
    divisor = _MILLION + relay.fee_proportional_millionths
    return Msat(((amount_msat - relay.fee_base_msat) * _MILLION + divisor - 1) // divisor)


def aggregate(relays: Sequence[PaymentRelay], min_final_cltv_expiry_delta: int) -> Aggregate:
    """The price of a path whose nodes, without the last, take these (blinded-paths.5)."""
    base = proportional = 0
    for relay in reversed(relays):
        rate = relay.fee_proportional_millionths
        base = -(-(relay.fee_base_msat * _MILLION + base * (_MILLION + rate)) // _MILLION)
        proportional = -(-((proportional + rate) * _MILLION + proportional * rate) // _MILLION)
    delta = sum(relay.cltv_expiry_delta for relay in relays) + min_final_cltv_expiry_delta
    return Aggregate(Msat(base), proportional, delta)


def hops_of(
    path: BlindedPath, amt_to_forward: Msat, outgoing_cltv_value: int, total_msat: Msat
) -> list[tuple[Point, HopPayload]]:
    """The part of a route that a blinded path makes: each hop's key in the onion and its payload.

    The first node is addressed by its own id: it learns the path key from the onion and need
    not have been told one, so the sender's route up to it is like any other.
    """
    payloads = [HopPayload(encrypted_recipient_data=hop.encrypted_recipient_data) for hop in path.hops]
    payloads[0] = replace(payloads[0], current_path_key=path.first_path_key)
    payloads[-1] = replace(
        payloads[-1],
        amt_to_forward=amt_to_forward,
        outgoing_cltv_value=outgoing_cltv_value,
        total_msat=total_msat,
    )
    points = [path.first_node_id, *(hop.blinded_node_id for hop in path.hops[1:])]
    return list(zip(points, payloads, strict=True))
