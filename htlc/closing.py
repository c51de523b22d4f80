"""Closing together (BOLT 2, shutdown and closing_signed).

Either side says `shutdown`; no HTLC is added any more; when the last one is gone the opener
proposes a fee with the range it would take, and the first fee inside both ranges closes.
"""

import msgspec

from htlc.channel import Channel, Closing, Phase
from htlc.effects import SAVE, Broadcast, Send, Step
from htlc.errors import (
    BadShutdownScript,
    ClosingFeeOutsideRanges,
    FailChannel,
    NotUsable,
    UnacceptableClosingFee,
    UnexpectedMessage,
    WrongSignature,
)
from htlc.keys import ChannelSecrets
from htlc.ladder import LOCAL, REMOTE, Dual, Rung, Side
from htlc.market import LOWEST_FEERATE_PER_KW
from htlc.transactions import ClosingOutput, ClosingTx, build_closing_tx, dust_limit_for, funding_witness
from wire.bitcoin.script import OP_PUSHDATA1, OP_RETURN
from wire.crypto import secp256k1
from wire.messages.channel import ClosingSigned, FeeRange, Shutdown
from wire.units import Sat, sat

_with = msgspec.structs.replace

_OPEN = (Phase.AWAITING_FUNDING, Phase.NORMAL, Phase.SHUTTING_DOWN)


class DustAtClosing(FailChannel):
    """An agreed closing transaction would have no output that the network relays."""

    def __init__(self) -> None:
        super().__init__("no output of the closing transaction is above the dust limit")


def is_shutdown_script(script: bytes, is_anysegwit: bool, is_simple: bool = False) -> bool:
    """Whether the script is of a form that a shutdown may name, under what both sides offer."""
    # shutdown.2
    if script[:2] == b"\x00\x14" or script[:2] == b"\x00\x20":
        return len(script) == 2 + script[1]
    if script[:1] == bytes((OP_RETURN,)):
        return is_simple and _is_one_push(script[1:])
    is_later_version = len(script) >= 4 and 0x51 <= script[0] <= 0x60
    return is_anysegwit and is_later_version and 2 <= script[1] <= 40 and len(script) == 2 + script[1]


def _is_one_push(pushed: bytes) -> bool:
    """Whether this is all that may follow an OP_RETURN: one push of 6 to 80 bytes, the short way."""
    if pushed[:1] == bytes((OP_PUSHDATA1,)):
        return 76 <= len(pushed) - 2 <= 80 and pushed[1] == len(pushed) - 2
    return 6 <= len(pushed) - 1 <= 75 and pushed[0] == len(pushed) - 1


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


def receive_shutdown(
    channel: Channel, message: Shutdown, is_anysegwit: bool, is_simple: bool = False
) -> Step:
    """The peer wants to close. Our answer follows from `owes_shutdown`.

    Raises:
        BadShutdownScript: of no form that we pay to, or not the one promised.
        UnexpectedMessage: a second, different shutdown.
    """
    script, promised = message.scriptpubkey, channel.charter.upfront_shutdown_scripts.remote
    if channel.phase not in _OPEN:
        raise UnexpectedMessage("shutdown", channel.phase.value)
    if not is_shutdown_script(script, is_anysegwit, is_simple):
        raise BadShutdownScript(script, "is of no form that we pay to")
    # shutdown.3
    if promised and script != promised:
        raise BadShutdownScript(script, "is not the one promised at opening")
    if channel.closing.scripts.remote and channel.closing.scripts.remote != script:
        raise BadShutdownScript(script, "differs from the one sent before")
    scripts = channel.closing.scripts.with_side(REMOTE, script)
    closing = _with(channel.closing, scripts=scripts, has_peer_shut_down=True)
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


def closing_fee_sat(scripts: Dual[bytes], feerate_per_kw: int) -> int:
    """What a closing transaction with both outputs costs at a feerate, rounded up."""
    unsigned_bytes = 51 + sum(9 + len(scripts[side]) for side in Side)
    weight = 4 * unsigned_bytes + 222  # two signatures and the funding script
    return -(-weight * feerate_per_kw // 1000)


def negotiate(channel: Channel, secrets: ChannelSecrets, feerate_per_kw: int) -> Step:
    """Begin the negotiation: the opener proposes a fee, the other side waits for it."""
    # legacy-closing_signed.1: the opener starts
    if channel.charter.opener is not LOCAL:
        return Step(_awaiting_proposal(channel), (SAVE,))
    target_sat = closing_fee_sat(channel.closing.scripts, max(feerate_per_kw, LOWEST_FEERATE_PER_KW))
    negotiating = _negotiating(channel, 3 * target_sat)
    return _proposed(negotiating, secrets, min(target_sat, _payable_sat(channel)))


def _awaiting_proposal(channel: Channel) -> Channel:
    # who does not pay cares only that the transaction will confirm
    return _negotiating(channel, int(channel.charter.funding_sat))


def _negotiating(channel: Channel, highest_sat: int) -> Channel:
    lowest_sat = closing_fee_sat(channel.closing.scripts, LOWEST_FEERATE_PER_KW)
    # an opener who has less than that pays what it has
    fee_range = min(lowest_sat, _payable_sat(channel)), highest_sat
    return _with(channel, phase=Phase.NEGOTIATING, closing=_with(channel.closing, our_range_sat=fee_range))


def _payable_sat(channel: Channel) -> int:
    """The most that the opener can pay so that the transaction still has an output."""
    opener = channel.charter.opener
    balance_sat, other_sat = sat(channel.settled_msat[opener]), sat(channel.settled_msat[opener.other])
    if other_sat >= _dust_sat(channel, opener.other):
        return balance_sat
    return max(0, balance_sat - _dust_sat(channel, opener))


def _dust_sat(channel: Channel, side: Side) -> int:
    """Below this value that side gets no output."""
    script = channel.closing.scripts[side]
    return max(channel.charter.terms[side].dust_limit_sat, dust_limit_for(script))


def _proposed(channel: Channel, secrets: ChannelSecrets, fee_sat: int, has_remote: bool = True) -> Step:
    closing_tx = closing_transaction(channel, fee_sat, has_remote)
    signature = secp256k1.sign(secrets.funding, closing_tx.sighash)
    low, high = channel.closing.our_range_sat
    fee_range = FeeRange(Sat(low), Sat(high))
    closing = _with(channel.closing, our_last_fee_sat=fee_sat)
    message = ClosingSigned(channel.id, Sat(fee_sat), signature, fee_range)
    return Step(_with(channel, closing=closing), (SAVE, Send(message)))


def closing_transaction(channel: Channel, fee_sat: int, has_remote: bool = True) -> ClosingTx:
    """The closing transaction of that fee, which the opener pays; the peer may forgo its output.

    Raises:
        DustAtClosing: nothing would be left that the network relays.
    """
    charter, scripts = channel.charter, channel.closing.scripts
    outputs = []
    for side in Side if has_remote else (LOCAL,):
        value_sat = sat(channel.settled_msat[side]) - (fee_sat if side is charter.opener else 0)
        # legacy-closing_signed.2: each side's output is left out below its own dust limit
        outputs.append(ClosingOutput(Sat(value_sat), scripts[side], Sat(_dust_sat(channel, side))))
    if all(output.value_sat < output.dust_limit_sat for output in outputs):
        raise DustAtClosing
    return build_closing_tx(charter.funding_outpoint, charter.funding_sat, charter.funding_script, outputs)


def receive_closing_signed(channel: Channel, message: ClosingSigned, secrets: ChannelSecrets) -> Step:
    """The peer's fee proposal: take it, or answer with a better one.

    Raises:
        UnacceptableClosingFee: there is no fee that both would take, or the opener cannot pay it.
        ClosingFeeOutsideRanges: the peer does not keep to the ranges.
        WrongSignature: it does not hold on the transaction of that fee.
    """
    if channel.phase is Phase.CLOSING and message.fee_satoshis == channel.closing.our_last_fee_sat:
        # Electrum, where it did not open, says the fee once more after both have agreed on it
        return Step(channel, ())
    if channel.phase is not Phase.NEGOTIATING:
        # the opener may know that all is quiet, and begin, as soon as we could know it too
        if channel.charter.opener is LOCAL or not may_negotiate(channel):
            raise UnexpectedMessage("closing_signed", channel.phase.value)
        channel = _awaiting_proposal(channel)
    fee_sat, payable_sat = int(message.fee_satoshis), _payable_sat(channel)
    if fee_sat > payable_sat:
        raise UnacceptableClosingFee(message.fee_satoshis, Sat(0), Sat(payable_sat))
    has_remote = _has_their_output(channel, fee_sat, message.signature)
    seen = _with(channel, closing=_with(channel.closing, their_last_fee_sat=fee_sat))
    if fee_sat == channel.closing.our_last_fee_sat:
        return _agreed(seen, secrets, message, has_remote)
    answer_sat = _answer_sat(channel, message)
    if answer_sat != fee_sat:
        return _proposed(seen, secrets, answer_sat)
    answered = _proposed(seen, secrets, fee_sat, has_remote)
    agreed = _agreed(answered.channel, secrets, message, has_remote)
    return Step(agreed.channel, (*answered.effects, *agreed.effects))


def _answer_sat(channel: Channel, message: ClosingSigned) -> int:
    """The fee that we say next: theirs if we take it."""
    low, high = channel.closing.our_range_sat
    high = min(high, _payable_sat(channel))
    fee_sat, ours = int(message.fee_satoshis), channel.closing.our_last_fee_sat
    if message.fee_range is None:
        return _haggled_sat(channel.closing, fee_sat, low, high)
    low = max(low, message.fee_range.min_fee_satoshis)
    high = min(high, message.fee_range.max_fee_satoshis)
    # legacy-closing_signed.1: ranges that do not meet end it
    if low > high:
        raise UnacceptableClosingFee(message.fee_satoshis, Sat(low), Sat(high))
    # legacy-closing_signed.1: who knows both ranges stays inside them
    if ours is not None and not low <= fee_sat <= high:
        raise ClosingFeeOutsideRanges(message.fee_satoshis, Sat(low), Sat(high))
    return min(max(fee_sat, low), high)


def _haggled_sat(closing: Closing, fee_sat: int, low: int, high: int) -> int:
    """Without a range: theirs if it lies in ours, or else something between the last two."""
    ours, before = closing.our_last_fee_sat, closing.their_last_fee_sat
    # legacy-closing_signed.1: every proposal lies strictly between the two before it
    if ours is not None and before is not None and not min(ours, before) < fee_sat < max(ours, before):
        raise UnacceptableClosingFee(Sat(fee_sat), Sat(low), Sat(high))
    nearest = min(max(fee_sat, low), high)
    if ours is None or nearest == fee_sat:
        return nearest
    if nearest == ours:
        raise UnacceptableClosingFee(Sat(fee_sat), Sat(low), Sat(high))
    halfway = (ours + nearest) // 2
    return nearest if halfway == ours else halfway


def _has_their_output(channel: Channel, fee_sat: int, signature: bytes) -> bool:
    """Whether the peer signed the transaction with its own output, which it may leave out."""
    pubkey = channel.charter.basepoints.remote.funding_pubkey
    if secp256k1.is_signed(pubkey, closing_transaction(channel, fee_sat).sighash, signature):
        return True
    if _is_dust_for_us(channel, fee_sat):
        raise WrongSignature("the closing transaction")
    without = closing_transaction(channel, fee_sat, has_remote=False)
    if not secp256k1.is_signed(pubkey, without.sighash, signature):
        raise WrongSignature("the closing transaction")
    return False


def _is_dust_for_us(channel: Channel, fee_sat: int) -> bool:
    ours_sat = sat(channel.settled_msat.local) - (fee_sat if channel.charter.opener is LOCAL else 0)
    return ours_sat < _dust_sat(channel, LOCAL)


def _agreed(channel: Channel, secrets: ChannelSecrets, message: ClosingSigned, has_remote: bool) -> Step:
    closing_tx = closing_transaction(channel, message.fee_satoshis, has_remote)
    basepoints = channel.charter.basepoints
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
