"""Closing together (BOLT 2, shutdown and closing_signed).

Either side says `shutdown`; no HTLC is added any more; when the last one is gone the opener
proposes a fee with the range it would take, and the first fee inside both ranges closes.
"""

import msgspec

from htlc.channel import Channel, Phase
from htlc.effects import SAVE, Broadcast, Send, Step
from htlc.errors import (
    BadShutdownScript,
    FailChannel,
    NotUsable,
    UnacceptableClosingFee,
    UnexpectedMessage,
    WrongSignature,
)
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL, REMOTE, Dual, Rung, Side
from htlc.transactions import ClosingOutput, ClosingTx, build_closing_tx, dust_limit_for, funding_witness
from wire.crypto import secp256k1
from wire.messages.channel import ClosingSigned, FeeRange, Shutdown
from wire.units import Sat, sat

_with = msgspec.structs.replace

CLOSING_WEIGHT = 672  # both outputs P2WPKH, both signatures
LOWEST_FEERATE_PER_KW = 253
_OPEN = (Phase.AWAITING_FUNDING, Phase.NORMAL, Phase.SHUTTING_DOWN)


class DustAtClosing(FailChannel):
    """An agreed closing transaction would have no output that the network relays."""

    def __init__(self) -> None:
        super().__init__("no output of the closing transaction is above the dust limit")


def is_shutdown_script(script: bytes, is_anysegwit: bool) -> bool:
    """Whether the script is of a form that a shutdown may name."""
    # shutdown.2
    if script[:2] == b"\x00\x14" or script[:2] == b"\x00\x20":
        return len(script) == 2 + script[1]
    is_later_version = len(script) >= 4 and 0x51 <= script[0] <= 0x60
    return is_anysegwit and is_later_version and 2 <= script[1] <= 40 and len(script) == 2 + script[1]


def shut_down(channel: Channel, script: bytes) -> Step:
    """Say that we want to close, and where our balance shall go.

    Raises:
        NotUsable: the channel is closing already, or updates of ours are not signed yet.
    """
    if channel.closing.scripts.local or channel.phase not in _OPEN:
        raise NotUsable("closing already")
    # shutdown.1: not while our own updates wait for their signature
    if has_unsigned_updates(channel):
        raise NotUsable("still signing its last updates")
    # shutdown.3: what we promised at opening, if we promised
    script = channel.charter.upfront_shutdown_scripts.local or script
    closing = _with(channel.closing, scripts=channel.closing.scripts.with_side(LOCAL, script))
    phase = Phase.SHUTTING_DOWN if channel.phase is Phase.NORMAL else channel.phase
    return Step(_with(channel, closing=closing, phase=phase), (SAVE, Send(Shutdown(channel.id, script))))


def has_unsigned_updates(channel: Channel) -> bool:
    """Whether an update of ours is not covered by a commitment_signed yet."""
    return (
        any(htlc.rung is Rung.PROPOSED for htlc in channel.htlcs.local.values())
        or any(
            htlc.outcome is not None and htlc.outcome_rung is Rung.PROPOSED
            for htlc in channel.htlcs.remote.values()
        )
        or (channel.charter.opener is LOCAL and any(c.rung is Rung.PROPOSED for c in channel.fee_changes))
    )


def receive_shutdown(channel: Channel, message: Shutdown, is_anysegwit: bool) -> Step:
    """The peer wants to close. Our answer follows from `owes_shutdown`.

    Raises:
        BadShutdownScript: of no form that we pay to, or not the one promised.
        UnexpectedMessage: a second, different shutdown.
    """
    script, promised = message.scriptpubkey, channel.charter.upfront_shutdown_scripts.remote
    if channel.phase not in _OPEN:
        raise UnexpectedMessage("shutdown", channel.phase.value)
    if not is_shutdown_script(script, is_anysegwit):
        raise BadShutdownScript(script, "is of no form that we pay to")
    # shutdown.3
    if promised and script != promised:
        raise BadShutdownScript(script, "is not the one promised at opening")
    if channel.closing.scripts.remote and channel.closing.scripts.remote != script:
        raise BadShutdownScript(script, "differs from the one sent before")
    closing = _with(channel.closing, scripts=channel.closing.scripts.with_side(REMOTE, script))
    phase = Phase.SHUTTING_DOWN if channel.phase is Phase.NORMAL else channel.phase
    return Step(_with(channel, closing=closing, phase=phase), (SAVE,))


def owes_shutdown(channel: Channel) -> bool:
    """Whether the peer's shutdown awaits ours, and may have it now."""
    # shutdown.4
    scripts = channel.closing.scripts
    is_asked = bool(scripts.remote) and not scripts.local
    return is_asked and channel.phase in _OPEN and not has_unsigned_updates(channel)


def may_negotiate(channel: Channel) -> bool:
    """Whether both have said shutdown and nothing is left on the ladder."""
    scripts = channel.closing.scripts
    is_quiet = not (channel.htlcs.local or channel.htlcs.remote or channel.fee_changes)
    is_stable = is_quiet and not channel.is_awaiting_revocation
    return channel.phase in _OPEN and bool(scripts.local and scripts.remote) and is_stable


def negotiate(channel: Channel, secrets: ChannelSecrets, feerate_per_kw: int) -> Step:
    """Begin the negotiation: the opener proposes a fee, the other side waits for it."""
    target_sat = CLOSING_WEIGHT * max(feerate_per_kw, LOWEST_FEERATE_PER_KW) // 1000 + 1
    lowest_sat = CLOSING_WEIGHT * LOWEST_FEERATE_PER_KW // 1000 + 1
    # who does not pay cares only that the transaction will confirm
    highest_sat = 3 * target_sat if channel.charter.opener is LOCAL else int(channel.charter.funding_sat)
    closing = _with(channel.closing, our_range_sat=(lowest_sat, highest_sat))
    negotiating = _with(channel, phase=Phase.NEGOTIATING, closing=closing)
    # legacy-closing_signed.1: the opener starts
    if channel.charter.opener is not LOCAL:
        return Step(negotiating, (SAVE,))
    return _proposed(negotiating, secrets, min(target_sat, _payable_sat(channel)))


def _payable_sat(channel: Channel) -> int:
    return sat(channel.settled_msat[channel.charter.opener])


def _proposed(channel: Channel, secrets: ChannelSecrets, fee_sat: int) -> Step:
    closing_tx = closing_transaction(channel, fee_sat)
    signature = secp256k1.sign(secrets.funding, closing_tx.sighash)
    low, high = channel.closing.our_range_sat
    fee_range = FeeRange(Sat(low), Sat(high))
    closing = _with(channel.closing, our_last_fee_sat=fee_sat)
    message = ClosingSigned(channel.id, Sat(fee_sat), signature, fee_range)
    return Step(_with(channel, closing=closing), (SAVE, Send(message)))


def closing_transaction(channel: Channel, fee_sat: int) -> ClosingTx:
    """The closing transaction of that fee, which the opener pays.

    Raises:
        DustAtClosing: nothing would be left that the network relays.
    """
    charter, scripts = channel.charter, channel.closing.scripts
    outputs = []
    for side in Side:
        value_sat = sat(channel.settled_msat[side]) - (fee_sat if side is charter.opener else 0)
        # legacy-closing_signed.2: each side's output is left out below its own dust limit
        dust_sat = max(charter.terms[side].dust_limit_sat, dust_limit_for(scripts[side]))
        outputs.append(ClosingOutput(Sat(value_sat), scripts[side], Sat(dust_sat)))
    if all(output.value_sat < output.dust_limit_sat for output in outputs):
        raise DustAtClosing
    return build_closing_tx(charter.funding_outpoint, charter.funding_sat, charter.funding_script, outputs)


def receive_closing_signed(channel: Channel, message: ClosingSigned, secrets: ChannelSecrets) -> Step:
    """The peer's fee proposal: take it, or answer with a better one.

    Raises:
        UnacceptableClosingFee: there is no fee that both would take, or the opener cannot pay it.
        WrongSignature: it does not hold on the transaction of that fee.
    """
    if channel.phase is not Phase.NEGOTIATING:
        raise UnexpectedMessage("closing_signed", channel.phase.value)
    low, high = channel.closing.our_range_sat
    fee_sat = int(message.fee_satoshis)
    if fee_sat > _payable_sat(channel):
        raise UnacceptableClosingFee(message.fee_satoshis, Sat(low), Sat(_payable_sat(channel)))
    _check_closing_signature(channel, fee_sat, message.signature)
    seen = _with(channel, closing=_with(channel.closing, their_last_fee_sat=fee_sat))
    if fee_sat == channel.closing.our_last_fee_sat:
        return _agreed(seen, secrets, message)
    if low <= fee_sat <= high:
        answered = _proposed(seen, secrets, fee_sat)
        agreed = _agreed(answered.channel, secrets, message)
        return Step(agreed.channel, (*answered.effects, *agreed.effects))
    return _proposed(seen, secrets, _next_fee_sat(channel, message))


def _next_fee_sat(channel: Channel, message: ClosingSigned) -> int:
    """A fee that both ranges contain, or without a range one between the last two proposals."""
    low, high = channel.closing.our_range_sat
    fee_sat, ours = int(message.fee_satoshis), channel.closing.our_last_fee_sat
    if message.fee_range is not None:
        low = max(low, message.fee_range.min_fee_satoshis)
        high = min(high, message.fee_range.max_fee_satoshis)
        # legacy-closing_signed.1: ranges that do not meet end it
        if low > high:
            raise UnacceptableClosingFee(message.fee_satoshis, Sat(low), Sat(high))
        return min(max(fee_sat, low), high)
    nearest = min(max(fee_sat, low), high)
    if ours is None:
        return nearest
    between = (ours + fee_sat) // 2
    if between in (ours, fee_sat):
        raise UnacceptableClosingFee(message.fee_satoshis, Sat(low), Sat(high))
    return between


def _check_closing_signature(channel: Channel, fee_sat: int, signature: bytes) -> None:
    sighash = closing_transaction(channel, fee_sat).sighash
    if not secp256k1.is_signed(channel.charter.basepoints.remote.funding_pubkey, sighash, signature):
        raise WrongSignature("the closing transaction")


def _agreed(channel: Channel, secrets: ChannelSecrets, message: ClosingSigned) -> Step:
    closing_tx, basepoints = closing_transaction(channel, message.fee_satoshis), channel.charter.basepoints
    ours = secp256k1.sign(secrets.funding, closing_tx.sighash)
    witness = funding_witness(
        channel.charter.funding_script,
        basepoints.local.funding_pubkey,
        ours,
        basepoints.remote.funding_pubkey,
        message.signature,
    )
    transaction = closing_tx.tx.with_witness(0, witness)
    closing = _with(channel.closing, transaction=transaction)
    closed = _with(channel, phase=Phase.CLOSING, closing=closing)
    return Step(closed, (SAVE, Broadcast(transaction)))


def balances_at_closing_sat(channel: Channel) -> Dual[Sat]:
    """What each side would be owed before the closing fee."""
    return Dual(sat(channel.settled_msat.local), sat(channel.settled_msat.remote))
