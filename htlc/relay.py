"""What becomes of an HTLC that is irrevocably ours to decide (BOLT 4, forwarding and receiving).

One question, one answer: pass it on, take it, or fail it. The answers are values; whoever
carries them out decides nothing more. What a blinded path hides stays hidden by `blinded`, through
which every removal goes, for what fails later must look like what fails here.
"""

from typing import NamedTuple, Protocol, TypeAlias

import msgspec

from htlc.ladder import Failed, FailedMalformed, Fulfilled, Htlc, Outcome
from onion.blinded import InvalidBlinding
from onion.blinded_payment import open_blinded, path_key_of
from onion.failures import Failure, FailureCode, encode_failure, fail_packet
from onion.payload import HopPayload, InvalidPayload, decode_payload
from onion.sphinx import BadOnion, Peeled, peel
from wire.crypto.hashes import sha256
from wire.crypto.secp256k1 import Point
from wire.discount import NO_DISCOUNT, Discount
from wire.units import Msat

SOON_BLOCKS = 3
FAR_BLOCKS = 2016
# with no hash of the onion: what fails later has none, and nobody shall tell the two apart
HIDDEN = Failure(FailureCode.invalid_onion_blinding)


class Toll(msgspec.Struct, frozen=True, gc=False):
    """What we ask for passing HTLCs on over one of our channels; also what its channel_update says."""

    fee_base_msat: Msat = Msat(1000)
    fee_proportional_millionths: int = 10
    cltv_expiry_delta: int = 34
    htlc_minimum_msat: Msat = Msat(1)
    htlc_maximum_msat: Msat = Msat(0)
    inbound: Discount = NO_DISCOUNT  # what we give back for HTLCs that come in over it

    def fee_msat(self, amount_msat: Msat) -> Msat:
        """The fee for an HTLC that leaves with this amount (BOLT 7)."""
        return Msat(self.fee_base_msat + amount_msat * self.fee_proportional_millionths // 1_000_000)


def lower(toll: Toll, other: Toll) -> Toll:
    """A toll that is paid by whoever pays one of the two."""
    return Toll(
        min(toll.fee_base_msat, other.fee_base_msat),
        min(toll.fee_proportional_millionths, other.fee_proportional_millionths),
        min(toll.cltv_expiry_delta, other.cltv_expiry_delta),
        min(toll.htlc_minimum_msat, other.htlc_minimum_msat),
        Msat(max(toll.htlc_maximum_msat, other.htlc_maximum_msat))
        if toll.htlc_maximum_msat and other.htlc_maximum_msat
        else Msat(0),
        Discount(
            max(toll.inbound.base_msat, other.inbound.base_msat),
            max(toll.inbound.millionths, other.inbound.millionths),
        ),
    )


class Exit(msgspec.Struct, frozen=True, gc=False):
    """One of our channels as the next hop of somebody's route."""

    channel_id: bytes
    toll: Toll
    is_usable: bool
    channel_update: bytes = b""  # our latest for it, with its type, for the failures that carry one


class Forward(msgspec.Struct, frozen=True, gc=False):
    """Offer this to the peer of that channel."""

    exit: Exit
    amount_msat: Msat
    cltv_expiry: int
    onion: bytes
    shared_secret: bytes
    fee_msat: Msat
    path_key: Point | None = None  # for the peer, inside a blinded path


class Receive(msgspec.Struct, frozen=True, gc=False):
    """It is for us; whether we asked for it is for `accept` to say."""

    payload: HopPayload
    shared_secret: bytes
    path_id: bytes | None = None  # that we wrote into a blinded path to ourselves


class Fail(msgspec.Struct, frozen=True, gc=False):
    """Take it off again. Without a shared secret the onion itself was unreadable."""

    outcome: Failed | FailedMalformed
    shared_secret: bytes | None
    failure: Failure | None


Decision: TypeAlias = Forward | Receive | Fail


def failed(shared_secret: bytes, failure: Failure) -> Fail:
    """The failure, sealed for the sender."""
    packet = fail_packet(shared_secret, encode_failure(failure))
    return Fail(Failed(packet), shared_secret, failure)


class Exits(Protocol):
    """Our channels, as an onion may name them."""

    def exit_of(self, short_channel_id: int) -> Exit | None:
        """The channel of this id."""

    def exit_to(self, node_id: Point) -> Exit | None:
        """The best channel with this peer."""


def decide(
    htlc: Htlc, node_secret: bytes, height: int, exits: Exits, discount: Discount = NO_DISCOUNT
) -> Decision:
    """Read the onion of an incoming HTLC and say what to do.

    Args:
        htlc: irrevocably committed, its onion not yet read.
        discount: what we give back for HTLCs that come in over its channel.
    """
    assert htlc.onion is not None, "an onion is decided once"
    try:
        # update_add_htlc.4: the payment hash is what the onion is bound to
        peeled = peel(node_secret, htlc.onion, htlc.payment_hash, htlc.path_key)
    except BadOnion as bad:
        return Fail(FailedMalformed(bad.sha256_of_onion, bad.code), None, None)
    secret = peeled.shared_secret
    try:
        payload = decode_payload(peeled.payload, peeled.is_final)
        path_key = path_key_of(payload, htlc.path_key)
        if path_key is not None:
            return _inside(htlc, payload, peeled, node_secret, path_key, height, exits)
    except InvalidPayload as invalid:
        return failed(secret, HIDDEN if invalid.is_blinded else invalid.failure)
    except InvalidBlinding:
        return failed(secret, HIDDEN)
    if peeled.next_packet is None:
        return Receive(payload, secret)
    exit = exits.exit_of(payload.short_channel_id or 0)
    return _forward(htlc, payload, peeled.next_packet, secret, height, exit, discount)


def _inside(
    htlc: Htlc,
    payload: HopPayload,
    peeled: Peeled,
    node_secret: bytes,
    path_key: Point,
    height: int,
    exits: Exits,
) -> Decision:
    """What a node of a blinded path does; it raises InvalidBlinding."""
    filled, unblinded = open_blinded(
        payload,
        node_secret=node_secret,
        path_key=path_key,
        amount_msat=htlc.amount_msat,
        cltv_expiry=htlc.cltv_expiry,
        is_final=peeled.is_final,
    )
    if peeled.next_packet is None:
        return Receive(filled, peeled.shared_secret, unblinded.recipient_data.path_id)
    next_node_id = unblinded.recipient_data.next_node_id
    scid = filled.short_channel_id or 0
    exit = exits.exit_of(scid) if next_node_id is None else exits.exit_to(next_node_id)
    decision = _forward(htlc, filled, peeled.next_packet, peeled.shared_secret, height, exit)
    if isinstance(decision, Fail):
        # blinded-paths.6: the path's creator and its nodes are nobody else's business
        return failed(peeled.shared_secret, HIDDEN)
    return msgspec.structs.replace(decision, path_key=unblinded.next_path_key)


def blinded(htlc: Htlc, outcome: Outcome) -> Outcome:
    """The outcome of an incoming HTLC as the previous hop may see it (removing.4)."""
    if isinstance(outcome, Fulfilled):
        return outcome
    if htlc.path_key is not None:
        return FailedMalformed(HIDDEN.sha256_of_onion, HIDDEN.code)
    if htlc.is_introduction and htlc.shared_secret is not None:
        return failed(htlc.shared_secret, HIDDEN).outcome
    return outcome


def _forward(
    htlc: Htlc,
    payload: HopPayload,
    onion: bytes,
    secret: bytes,
    height: int,
    exit: Exit | None,
    discount: Discount = NO_DISCOUNT,
) -> Forward | Fail:
    if exit is None:
        return failed(secret, Failure(FailureCode.unknown_next_peer))
    failure = _why_not(htlc, payload, exit, height, discount)
    if failure is not None:
        return failed(secret, failure)
    amount_msat = payload.amt_to_forward
    fee_msat = Msat(htlc.amount_msat - amount_msat)
    return Forward(exit, amount_msat, payload.outgoing_cltv_value, onion, secret, fee_msat)


def _why_not(htlc: Htlc, payload: HopPayload, exit: Exit, height: int, discount: Discount) -> Failure | None:
    """The failure that says why it is not passed on, or None."""
    amount_msat, cltv_expiry = payload.amt_to_forward, payload.outgoing_cltv_value
    passing = Passing(htlc.amount_msat, htlc.cltv_expiry, amount_msat, cltv_expiry, discount)
    code = refusal(exit, passing, height)
    match code:
        case None:
            return None
        case FailureCode.amount_below_minimum:
            return Failure(code, htlc_msat=amount_msat, channel_update=exit.channel_update)
        case FailureCode.fee_insufficient:
            return Failure(code, htlc_msat=htlc.amount_msat, channel_update=exit.channel_update)
        case FailureCode.incorrect_cltv_expiry:
            return Failure(code, cltv_expiry=cltv_expiry, channel_update=exit.channel_update)
        case FailureCode.expiry_too_far:
            return Failure(code)
    return Failure(code, channel_update=exit.channel_update)


class Passing(NamedTuple):
    """An HTLC on its way through us: what came in, and what shall go out."""

    incoming_msat: int
    incoming_expiry: int
    amount_msat: Msat
    cltv_expiry: int
    discount: Discount = NO_DISCOUNT


def refusal(exit: Exit, passing: Passing, height: int) -> FailureCode | None:
    """The first rule of failures.4 that forbids passing it on."""
    toll, (incoming_msat, incoming_expiry, amount_msat, cltv_expiry, discount) = exit.toll, passing
    if not exit.is_usable:
        return FailureCode.temporary_channel_failure
    if toll.htlc_maximum_msat and amount_msat > toll.htlc_maximum_msat:
        return FailureCode.temporary_channel_failure
    if amount_msat < toll.htlc_minimum_msat:
        return FailureCode.amount_below_minimum
    # payload.1: what is left for us must be our fee and our time
    fee_msat = toll.fee_msat(amount_msat)
    if incoming_msat < amount_msat + fee_msat - discount.off(amount_msat, fee_msat):
        return FailureCode.fee_insufficient
    if incoming_expiry < cltv_expiry + toll.cltv_expiry_delta:
        return FailureCode.incorrect_cltv_expiry
    # forwarding-safety.3: time enough to see the outcome downstream before we owe it upstream
    if cltv_expiry <= height + SOON_BLOCKS:
        return FailureCode.expiry_too_soon
    if incoming_expiry > height + FAR_BLOCKS:
        return FailureCode.expiry_too_far
    return None


class Owed(msgspec.Struct, frozen=True, gc=False):
    """What an invoice of ours asks for. No amount: the payer chooses. No preimage: our user has it yet."""

    payment_preimage: bytes | None
    payment_secret: bytes
    amount_msat: Msat | None
    min_final_cltv_expiry_delta: int
    is_open: bool  # neither paid nor expired


class Take(msgspec.Struct, frozen=True, gc=False):
    """It is what we asked for: fulfil it."""

    payment_preimage: bytes
    is_keysend: bool


class Wait(msgspec.Struct, frozen=True, gc=False):
    """It is what we asked for or a part of it, but something is missing yet: the rest, or the preimage."""

    amount_msat: Msat  # what the payer meant to bring with this HTLC
    total_msat: Msat


def accept(
    htlc: Htlc, receive: Receive, owed: Owed | None, height: int, keysend_delta_blocks: int = 18
) -> Take | Wait | Fail:
    """Whether an HTLC for us is one that we asked for (BOLT 4, receiving)."""
    payload, secret = receive.payload, receive.shared_secret
    if payload.encrypted_recipient_data is not None:
        # blinded-paths.5: what stands for the secret is what we wrote into the path
        payload = msgspec.structs.replace(payload, payment_secret=receive.path_id)
    # payload.3: the last hop may not have been given less, in money or in time, than was sent
    if htlc.amount_msat < payload.amt_to_forward:
        return failed(
            secret,
            Failure(FailureCode.final_incorrect_htlc_amount, incoming_htlc_amt=htlc.amount_msat),
        )
    if htlc.cltv_expiry < payload.outgoing_cltv_value:
        return failed(secret, Failure(FailureCode.final_incorrect_cltv_expiry, cltv_expiry=htlc.cltv_expiry))
    if owed is not None and _pays(htlc, payload, owed, height):
        amount_msat, total_msat = payload.amt_to_forward, payload.total_msat or Msat(0)
        if owed.payment_preimage is not None and amount_msat >= total_msat:
            return Take(owed.payment_preimage, False)
        return Wait(amount_msat, total_msat)
    preimage = payload.keysend_preimage
    is_keysend = owed is None and preimage is not None and sha256(preimage) == htlc.payment_hash
    if is_keysend and preimage is not None and htlc.cltv_expiry >= height + keysend_delta_blocks:
        return Take(preimage, True)
    # failures.3: unknown hash, wrong secret, too little, too late: all the same to a prober
    code = FailureCode.incorrect_or_unknown_payment_details
    return failed(secret, Failure(code, htlc_msat=htlc.amount_msat, height=height))


def _pays(htlc: Htlc, payload: HopPayload, owed: Owed, height: int) -> bool:
    amount_msat, total_msat = owed.amount_msat, payload.total_msat
    if not owed.is_open or payload.payment_secret != owed.payment_secret:
        return False
    # payload.4: the whole of its parts is what must be right
    if total_msat is None:
        return False
    if amount_msat is not None and not amount_msat <= total_msat <= 2 * amount_msat:
        return False
    return htlc.cltv_expiry >= height + owed.min_final_cltv_expiry_delta
