"""Two parties about to agree on a closing fee, and what either could say."""

from msgspec.structs import replace

from htlc.closing import (
    closing_transaction,
)
from node.chain.kernel import first_unsigned_input
from tests.htlc.parties import (
    Party,
    opened_channel,
    play,
)
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import Transaction, TxOut
from wire.crypto import secp256k1
from wire.messages.channel import ClosingSigned, FeeRange
from wire.units import Sat

FEE_SAT = 674  # of two P2WPKH outputs at 1,000 per kw


def at_negotiation(push_msat: int = 5_000_000_000, feerate_per_kw: int = 1000) -> tuple[Party, Party]:
    """Both have said shutdown and Bob, who did not open, waits for a fee. Alice has not spoken."""
    alice, bob = play("shut> <shut", *opened_channel(push_msat=push_msat))
    alice.negotiate(feerate_per_kw)
    alice.outbox.clear()
    bob.negotiate(feerate_per_kw)
    return alice, bob


def a_proposal_of(
    party: Party, fee_sat: int, fee_range: tuple[int, int] | None = None, has_remote: bool = True
) -> ClosingSigned:
    """What that side would send if it wanted this fee."""
    channel = party.channel
    if not has_remote:
        channel = replace(
            channel,
            closing=replace(channel.closing, scripts=channel.closing.scripts.swapped()),
            settled_msat=channel.settled_msat.swapped(),
            charter=replace(
                channel.charter, opener=channel.charter.opener.other, terms=channel.charter.terms.swapped()
            ),
        )
    sighash = closing_transaction(channel, fee_sat, has_remote).sighash
    signature = secp256k1.sign(party.secrets.funding, sighash)
    both = None if fee_range is None else FeeRange(Sat(fee_range[0]), Sat(fee_range[1]))
    return ClosingSigned(channel.id, Sat(fee_sat), signature, both)


def said_by(party: Party) -> ClosingSigned:
    message = party.next_message()
    assert isinstance(message, ClosingSigned)
    assert not party.outbox
    return message


def is_valid(transaction: Transaction, party: Party) -> bool:
    charter = party.channel.charter
    funding = TxOut(charter.funding_sat, p2wsh(charter.funding_script))
    return first_unsigned_input(transaction, [funding]) is None
