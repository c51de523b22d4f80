"""What becomes of an HTLC that is irrevocably ours to decide (BOLT 4, forwarding and receiving).

One question, one answer: pass it on, take it, or fail it. The answers are values; whoever
carries them out decides nothing more.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec

from htlc.ladder import Failed, FailedMalformed, Htlc
from onion.failures import Failure, FailureCode, encode_failure, fail_packet
from onion.payload import HopPayload, InvalidPayload, decode_payload
from onion.sphinx import BadOnion, peel
from wire.crypto.hashes import sha256
from wire.units import Msat

SOON_BLOCKS = 3
FAR_BLOCKS = 2016


class Toll(msgspec.Struct, frozen=True, gc=False):
    """What we ask for passing HTLCs on over one of our channels; also what its channel_update says."""

    fee_base_msat: Msat = Msat(1000)
    fee_proportional_millionths: int = 10
    cltv_expiry_delta: int = 34
    htlc_minimum_msat: Msat = Msat(1)
    htlc_maximum_msat: Msat = Msat(0)

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


class Receive(msgspec.Struct, frozen=True, gc=False):
    """It is for us; whether we asked for it is for `accept` to say."""

    payload: HopPayload
    shared_secret: bytes


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


def decide(htlc: Htlc, node_secret: bytes, height: int, exit_of: Callable[[int], Exit | None]) -> Decision:
    """Read the onion of an incoming HTLC and say what to do.

    Args:
        htlc: irrevocably committed, its onion not yet read.
        exit_of: our channel of a short_channel_id, or None.
    """
    assert htlc.onion is not None, "an onion is decided once"
    if htlc.path_key is not None:
        # blinded-paths.6: inside a blinded path whatever goes wrong shows as this one error
        code = FailureCode.invalid_onion_blinding
        return Fail(FailedMalformed(sha256(htlc.onion), code), None, None)
    try:
        # update_add_htlc.4: the payment hash is what the onion is bound to
        peeled = peel(node_secret, htlc.onion, htlc.payment_hash)
    except BadOnion as bad:
        return Fail(FailedMalformed(bad.sha256_of_onion, bad.code), None, None)
    secret = peeled.shared_secret
    try:
        payload = decode_payload(peeled.payload, peeled.is_final)
    except InvalidPayload as invalid:
        return failed(secret, invalid.failure)
    if payload.encrypted_recipient_data is not None:
        # removing.4: as the introduction of a blinded path we fail it like any other HTLC
        digest = sha256(htlc.onion)
        return failed(secret, Failure(FailureCode.invalid_onion_blinding, sha256_of_onion=digest))
    if peeled.next_packet is None:
        return Receive(payload, secret)
    return _forward(htlc, payload, peeled.next_packet, secret, height, exit_of)


def _forward(
    htlc: Htlc,
    payload: HopPayload,
    onion: bytes,
    secret: bytes,
    height: int,
    exit_of: Callable[[int], Exit | None],
) -> Forward | Fail:
    exit = exit_of(payload.short_channel_id or 0)
    if exit is None:
        return failed(secret, Failure(FailureCode.unknown_next_peer))
    failure = _why_not(htlc, payload, exit, height)
    if failure is not None:
        return failed(secret, failure)
    amount_msat = payload.amt_to_forward
    fee_msat = Msat(htlc.amount_msat - amount_msat)
    return Forward(exit, amount_msat, payload.outgoing_cltv_value, onion, secret, fee_msat)


def _why_not(htlc: Htlc, payload: HopPayload, exit: Exit, height: int) -> Failure | None:
    """The failure that says why it is not passed on, or None."""
    amount_msat, cltv_expiry = payload.amt_to_forward, payload.outgoing_cltv_value
    code = refusal(exit, Passing(htlc.amount_msat, htlc.cltv_expiry, amount_msat, cltv_expiry), height)
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


def refusal(exit: Exit, passing: Passing, height: int) -> FailureCode | None:
    """The first rule of failures.4 that forbids passing it on."""
    toll, (incoming_msat, incoming_expiry, amount_msat, cltv_expiry) = exit.toll, passing
    if not exit.is_usable:
        return FailureCode.temporary_channel_failure
    if toll.htlc_maximum_msat and amount_msat > toll.htlc_maximum_msat:
        return FailureCode.temporary_channel_failure
    if amount_msat < toll.htlc_minimum_msat:
        return FailureCode.amount_below_minimum
    # payload.1: what is left for us must be our fee and our time
    if incoming_msat < amount_msat + toll.fee_msat(amount_msat):
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
