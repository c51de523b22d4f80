"""Closing together, each side at its own cost (BOLT 2, closing_complete and closing_sig).

Once both have said `shutdown` and nothing is left on the ladder, each side proposes a closing
transaction whose fee it pays itself, and signs the other's. So two transactions compete for the
funding output, and there is no fee to agree on. Either may propose again, for a higher fee or to
another script; whatever confirms first closes. The negotiation starts afresh with each connection.
"""

from collections.abc import Sequence
from enum import Enum

import msgspec

from htlc.channel import Channel, ClosingOffer, Phase
from htlc.closing import closing_fee_sat, is_shutdown_script, may_negotiate
from htlc.effects import SAVE, Broadcast, Send, Step
from htlc.errors import (
    BadShutdownScript,
    NotUsable,
    Refused,
    UnacceptableClosingFee,
    UnexpectedMessage,
    Warn,
    WrongSignature,
)
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL, REMOTE, Dual, Side
from htlc.market import LOWEST_FEERATE_PER_KW
from htlc.transactions import ClosingOutput, ClosingTx, build_closing_tx, dust_limit_for, funding_witness
from wire.bitcoin.script import OP_RETURN
from wire.bitcoin.tx import Transaction
from wire.crypto import secp256k1
from wire.messages.channel import ClosingComplete, ClosingSig
from wire.units import Sat, sat

_with = msgspec.structs.replace

REPLACEABLE_SEQUENCE = 0xFFFFFFFD
RELAY_FEERATE_PER_KW = 250  # what a replacement pays beyond the fee that it replaces
_NEGOTIATED = (Phase.NEGOTIATING, Phase.CLOSING)


class Form(Enum):
    """Which outputs a closing transaction has, by the field that carries its signature."""

    CLOSER_ONLY = "closer_output_only"
    CLOSEE_ONLY = "closee_output_only"
    BOTH = "closer_and_closee_outputs"


class OutdatedClosingScript(Warn):
    """A closing_complete would pay us at a script that is not the last we named."""

    def __init__(self, script: bytes, ours: bytes) -> None:
        self.script, self.ours = script, ours
        super().__init__(f"closee_scriptpubkey is {script.hex()}, but we last named {ours.hex()}")


class MissingClosingSignature(Warn):
    """A closing_complete lacks the signature of the one form that we may sign."""

    def __init__(self, form: Form) -> None:
        self.form = form
        super().__init__(f"closing_complete has no {form.value}")


class WrongClosingSig(Warn):
    """A closing_sig does not answer our closing_complete."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"closing_sig does not answer our closing_complete: {why}")


class CannotPayClosingFee(Refused):
    """We have too little in the channel for a closing transaction that is relayed."""

    def __init__(self, payable_sat: int, needed_sat: int) -> None:
        self.payable_sat, self.needed_sat = payable_sat, needed_sat
        super().__init__(f"a closing fee of {needed_sat} sat is needed, we can pay {payable_sat}")


# The transaction


def closing_transaction(channel: Channel, closer: Side, offer: ClosingOffer, form: Form) -> ClosingTx:
    """The closing transaction that the closer offers, in one of its forms (BOLT 3)."""
    charter, values_sat = channel.charter, _values_sat(channel, closer, offer)
    outputs = []
    if form is not Form.CLOSEE_ONLY:
        outputs.append(ClosingOutput(Sat(values_sat[0]), offer.closer_script))
    if form is not Form.CLOSER_ONLY:
        outputs.append(ClosingOutput(Sat(values_sat[1]), offer.closee_script))
    return build_closing_tx(
        charter.funding_outpoint,
        charter.funding_sat,
        charter.funding_script,
        outputs,
        # simple-close.2
        sequence=REPLACEABLE_SEQUENCE,
        locktime=offer.locktime,
    )


def _values_sat(channel: Channel, closer: Side, offer: ClosingOffer) -> tuple[int, int]:
    """The values of the closer's and the closee's output."""
    balance = channel.settled_msat
    # simple-close.2: who burns its output leaves all of it to the fee
    closer_sat = 0 if _is_burnt(offer.closer_script) else sat(balance[closer]) - offer.fee_sat
    closee_sat = 0 if _is_burnt(offer.closee_script) else sat(balance[closer.other])
    return closer_sat, closee_sat


def _is_burnt(script: bytes) -> bool:
    return script[:1] == bytes((OP_RETURN,))


def forms_to_offer(channel: Channel, offer: ClosingOffer) -> tuple[Form, ...]:
    """The forms of our own offer that we sign."""
    ours_sat, theirs_sat = _values_sat(channel, LOCAL, offer)
    # simple-close.3: the poorer side may leave out its own output, the other one only the peer's
    if channel.settled_msat.local < channel.settled_msat.remote:
        return (Form.CLOSEE_ONLY,) if ours_sat < dust_limit_for(offer.closer_script) else (Form.BOTH,)
    if theirs_sat < dust_limit_for(offer.closee_script):
        return (Form.CLOSER_ONLY,)
    return (Form.CLOSER_ONLY, Form.BOTH)


def _form_to_sign(channel: Channel, offer: ClosingOffer, offered: Sequence[Form]) -> Form:
    """The form of the peer's offer that we have to sign.

    Raises:
        MissingClosingSignature: the peer has not signed it.
    """
    _, ours_sat = _values_sat(channel, REMOTE, offer)
    # simple-close.4: nothing but dust of ours is left out
    if ours_sat < dust_limit_for(offer.closee_script):
        form = Form.CLOSER_ONLY
    else:
        form = Form.BOTH if Form.BOTH in offered else Form.CLOSEE_ONLY
    if form not in offered:
        raise MissingClosingSignature(form)
    return form


def _signed(channel: Channel, closing_tx: ClosingTx, ours: bytes, theirs: bytes) -> Transaction:
    """The transaction with both signatures.

    Raises:
        WrongSignature: the peer's does not hold.
    """
    basepoints = channel.charter.basepoints
    if not secp256k1.is_signed(basepoints.remote.funding_pubkey, closing_tx.sighash, theirs):
        raise WrongSignature("the closing transaction")
    witness = funding_witness(
        channel.charter.funding_script,
        basepoints.local.funding_pubkey,
        ours,
        basepoints.remote.funding_pubkey,
        theirs,
    )
    return closing_tx.tx.with_witness(0, witness)


# What we offer


def negotiate(channel: Channel, secrets: ChannelSecrets, feerate_per_kw: int, locktime: int) -> Step:
    """Begin: offer a closing transaction at that feerate, unless only the peer can pay for one."""
    phase = Phase.NEGOTIATING if channel.closing.transaction is None else Phase.CLOSING
    ready = _with(channel, phase=phase)
    try:
        return propose(ready, secrets, feerate_per_kw, locktime)
    except CannotPayClosingFee:
        return Step(ready, (SAVE,))


def propose(
    channel: Channel, secrets: ChannelSecrets, feerate_per_kw: int, locktime: int, script: bytes = b""
) -> Step:
    """Offer a closing transaction, or another one in its place; with a new script of ours if given.

    Raises:
        NotUsable: there is nothing to negotiate yet, or the offer before is not answered.
        BadShutdownScript: it is of no form that is paid to, or not the one promised at opening.
        CannotPayClosingFee: our balance does not cover the fee.
    """
    closing = channel.closing
    if channel.phase not in _NEGOTIATED:
        raise NotUsable(channel.phase.value)
    # simple-close.1: one after the other
    if closing.offer is not None:
        raise NotUsable("waiting for the answer to its last closing_complete")
    script = script or closing.scripts.local
    _check_script(script, channel.charter.upfront_shutdown_scripts.local)
    fee_sat = _fee_sat(channel, Dual(script, closing.scripts.remote), feerate_per_kw)
    offer = ClosingOffer(script, closing.scripts.remote, fee_sat, locktime)
    offering = _with(
        channel,
        closing=_with(
            closing,
            scripts=closing.scripts.with_side(LOCAL, script),
            our_last_fee_sat=int(fee_sat),
            offer=offer,
        ),
    )
    return Step(offering, (SAVE, Send(_complete_message(offering, offer, secrets))))


def _fee_sat(channel: Channel, scripts: Dual[bytes], feerate_per_kw: int) -> Sat:
    """The fee to offer: what the feerate costs, or all that we can pay if that is relayed."""
    payable_sat = int(sat(channel.settled_msat.local))
    if channel.settled_msat.local >= channel.settled_msat.remote:
        # our output cannot be left out, so it has to stay above dust
        payable_sat -= dust_limit_for(scripts.local)
    least_sat = closing_fee_sat(scripts, LOWEST_FEERATE_PER_KW)
    before_sat = channel.closing.our_last_fee_sat
    if before_sat is not None:
        # a replacement pays for its own relay on top of what it replaces (BIP 125)
        least_sat = max(least_sat, before_sat + closing_fee_sat(scripts, RELAY_FEERATE_PER_KW))
    if payable_sat < least_sat:
        raise CannotPayClosingFee(payable_sat, least_sat)
    return Sat(min(max(closing_fee_sat(scripts, feerate_per_kw), least_sat), payable_sat))


def _complete_message(channel: Channel, offer: ClosingOffer, secrets: ChannelSecrets) -> ClosingComplete:
    signatures = {
        form.value: secp256k1.sign(secrets.funding, closing_transaction(channel, LOCAL, offer, form).sighash)
        for form in forms_to_offer(channel, offer)
    }
    return ClosingComplete(
        channel.id, offer.closer_script, offer.closee_script, offer.fee_sat, offer.locktime, **signatures
    )


def receive_closing_sig(channel: Channel, message: ClosingSig, secrets: ChannelSecrets) -> Step:
    """The peer has signed our offer: publish it.

    Raises:
        UnexpectedMessage: no offer of ours awaits it.
        WrongClosingSig: it signs something else than we offered.
        WrongSignature: its signature does not hold.
    """
    offer = channel.closing.offer
    if channel.phase not in _NEGOTIATED or offer is None:
        raise UnexpectedMessage("closing_sig", channel.phase.value)
    # simple-close.4
    if _offer_in(message) != offer:
        raise WrongClosingSig("its scripts, fee or locktime are others")
    signed = _forms_in(message)
    if len(signed) != 1:
        raise WrongClosingSig(f"it has {len(signed)} signatures")
    form = signed[0]
    if form not in forms_to_offer(channel, offer):
        raise WrongClosingSig(f"{form.value} was not offered")
    closing_tx = closing_transaction(channel, LOCAL, offer, form)
    ours = secp256k1.sign(secrets.funding, closing_tx.sighash)
    transaction = _signed(channel, closing_tx, ours, getattr(message, form.value))
    closing = _with(channel.closing, offer=None, transaction=transaction)
    closed = _with(channel, phase=Phase.CLOSING, closing=closing)
    return Step(closed, (SAVE, Broadcast(transaction)))


# What they offer


def receive_closing_complete(channel: Channel, message: ClosingComplete, secrets: ChannelSecrets) -> Step:
    """The peer offers a closing transaction that it pays for: sign and publish it.

    Raises:
        UnexpectedMessage: there is something left to settle first.
        UnacceptableClosingFee: the peer cannot pay it.
        OutdatedClosingScript: it would pay us at a script that we have replaced.
        BadShutdownScript: it would pay the peer at a script of no good form.
        MissingClosingSignature, WrongSignature: the form that we sign is not signed by the peer.
    """
    # the peer may know that all is quiet as soon as we could know it too
    if channel.phase not in _NEGOTIATED and not may_negotiate(channel):
        raise UnexpectedMessage("closing_complete", channel.phase.value)
    # simple-close.2
    balance_sat = sat(channel.settled_msat.remote)
    if message.fee_satoshis > balance_sat:
        raise UnacceptableClosingFee(message.fee_satoshis, Sat(0), balance_sat)
    scripts = channel.closing.scripts
    if message.closee_scriptpubkey != scripts.local:
        raise OutdatedClosingScript(message.closee_scriptpubkey, scripts.local)
    _check_script(message.closer_scriptpubkey, channel.charter.upfront_shutdown_scripts.remote)
    offer = _offer_in(message)
    form = _form_to_sign(channel, offer, _forms_in(message))
    closing_tx = closing_transaction(channel, REMOTE, offer, form)
    ours = secp256k1.sign(secrets.funding, closing_tx.sighash)
    transaction = _signed(channel, closing_tx, ours, getattr(message, form.value))
    # simple-close.2: from now on we pay the peer there too
    scripts = scripts.with_side(REMOTE, offer.closer_script)
    closing = _with(channel.closing, scripts=scripts, transaction=transaction)
    # before our own offer is out the shell shall still see that we have to make it
    phase = Phase.CLOSING if channel.phase in _NEGOTIATED else channel.phase
    answer = _sig_message(channel, offer, form, ours)
    effects = (SAVE, Broadcast(transaction), Send(answer))
    return Step(_with(channel, phase=phase, closing=closing), effects)


def _sig_message(channel: Channel, offer: ClosingOffer, form: Form, signature: bytes) -> ClosingSig:
    return ClosingSig(
        channel.id,
        offer.closer_script,
        offer.closee_script,
        offer.fee_sat,
        offer.locktime,
        **{form.value: signature},
    )


def _check_script(script: bytes, promised: bytes) -> None:
    # shutdown.2, and option_simple_close does not come without option_shutdown_anysegwit
    if not is_shutdown_script(script, is_anysegwit=True, is_simple=True):
        raise BadShutdownScript(script, "is of no form that is paid to")
    # shutdown.3
    if promised and script != promised:
        raise BadShutdownScript(script, "is not the one promised at opening")


def _offer_in(message: ClosingComplete | ClosingSig) -> ClosingOffer:
    return ClosingOffer(
        message.closer_scriptpubkey, message.closee_scriptpubkey, message.fee_satoshis, message.locktime
    )


def _forms_in(message: ClosingComplete | ClosingSig) -> tuple[Form, ...]:
    return tuple(form for form in Form if getattr(message, form.value) is not None)
