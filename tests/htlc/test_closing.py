"""BOLT 2 and 3, closing together: shutdown, and the transaction that ends the channel."""

import pytest
from msgspec.structs import replace

from htlc import closing
from htlc.channel import Phase
from htlc.closing import (
    DustAtClosing,
    closing_fee_sat,
    closing_transaction,
    has_unsigned_updates,
    is_shutdown_script,
    may_negotiate,
    owes_shutdown,
)
from htlc.errors import (
    BadShutdownScript,
    NotUsable,
    UnexpectedMessage,
    WrongSignature,
)
from htlc.ladder import Dual, Fulfilled
from tests.bolt import bolt
from tests.htlc.closing_stage import FEE_SAT, a_proposal_of, at_negotiation, is_valid
from tests.htlc.parties import (
    FUNDING_OUTPOINT,
    close,
    drain,
    opened_channel,
    play,
    preimage_of,
    replaced_house,
)
from tests.htlc.spoiled import both_types
from wire.bitcoin.script import p2wsh
from wire.bitcoin.sighash import segwit_v0_sighash
from wire.bitcoin.tx import Transaction, TxIn, TxOut
from wire.crypto import secp256k1
from wire.messages.channel import ClosingSigned, Shutdown, UpdateAddHtlc, UpdateFee
from wire.units import Msat, Sat

P2WPKH, P2WSH, P2TR = b"\x00\x14" + bytes(20), b"\x00\x20" + bytes(32), b"\x51\x20" + bytes(32)
P2PKH = bytes.fromhex("76a914") + bytes(20) + bytes.fromhex("88ac")
P2SH = bytes.fromhex("a914") + bytes(20) + bytes.fromhex("87")
OP_RETURN = b"\x6a\x06" + bytes(6)


# --- shutdown


@bolt("shutdown.2")
@pytest.mark.parametrize(
    ("script", "is_always_allowed", "is_allowed_with_anysegwit"),
    [
        (P2WPKH, True, True),
        (P2WSH, True, True),
        (P2TR, False, True),
        (b"\x60\x02ab", False, True),
        (b"\x60\x28" + bytes(40), False, True),
        (b"\x50\x02ab", False, False),
        (b"\x61\x02ab", False, False),
        (b"\x51\x01a", False, False),
        (b"\x51\x29" + bytes(41), False, False),
        (P2WPKH[:-1], False, False),
        (P2WSH + b"\x00", False, False),
        (b"\x00\x15" + bytes(21), False, False),
        (P2PKH, False, False),
        (P2SH, False, False),
        (OP_RETURN, False, False),
        (b"", False, False),
        (b"\x00", False, False),
        (b"\x51", False, False),
    ],
)
def test_scripts_are_of_the_agreed_forms(
    script: bytes, is_always_allowed: bool, is_allowed_with_anysegwit: bool
) -> None:
    assert is_shutdown_script(script, False) is is_always_allowed
    assert is_shutdown_script(script, True) is is_allowed_with_anysegwit


@bolt("shutdown.2")
@pytest.mark.parametrize("script", [b"", P2PKH, P2SH, OP_RETURN])
def test_another_form_costs_the_peer_its_connection(script: bytes) -> None:
    alice, _ = opened_channel()
    with pytest.raises(BadShutdownScript):
        alice.receive(Shutdown(alice.channel.id, script))
    with pytest.raises(BadShutdownScript):
        closing.receive_shutdown(alice.channel, Shutdown(alice.channel.id, P2TR), is_anysegwit=False)


@bolt("shutdown.1")
def test_shutdown_waits_until_our_updates_are_signed() -> None:
    alice, bob = opened_channel()
    alice.offer(1_000_000)
    with pytest.raises(NotUsable):
        alice.shut_down()
    play("add sig>", alice, bob)
    alice.shut_down()
    play("<rev", alice, bob)


@bolt("shutdown.1")
@pytest.mark.parametrize("moment", ["fee>", "add sig> <rev <sig rev> <ful", "add sig> <rev <sig rev> <fail"])
def test_fees_and_removals_are_updates_too(moment: str) -> None:
    alice, bob = play(moment, *opened_channel())
    party = alice if moment == "fee>" else bob
    assert has_unsigned_updates(party.channel)
    with pytest.raises(NotUsable):
        party.shut_down()
    party.sign()
    assert not has_unsigned_updates(party.channel)
    party.shut_down()


@bolt("shutdown.1")
def test_nobody_shuts_down_twice() -> None:
    alice, bob = play("shut>", *opened_channel())
    with pytest.raises(NotUsable):
        alice.shut_down()
    # a repetition after a reconnection is the same message
    bob.receive(Shutdown(bob.channel.id, alice.script))
    with pytest.raises(BadShutdownScript):
        bob.receive(Shutdown(bob.channel.id, P2WPKH))


@bolt("shutdown.1")
def test_nothing_is_added_after_shutdown() -> None:
    alice, bob = play("shut>", *opened_channel())
    for party in (alice, bob):
        with pytest.raises(NotUsable):
            party.offer(1_000_000)
    add = UpdateAddHtlc(bob.channel.id, 0, Msat(1_000_000), bytes(32), 200, bytes(1366))
    with pytest.raises(UnexpectedMessage):
        bob.receive(add)
    # what Bob added before he heard of it is another matter
    alice.receive(add)


@bolt("shutdown.1", "shutdown.4")
def test_shutdown_may_come_before_the_channel_is_ready() -> None:
    alice, bob = opened_channel(is_ready=False)
    transaction = close(alice, bob)
    assert [output.value_sat for output in transaction.outputs] == [5_000_000 - FEE_SAT, 5_000_000]


@bolt("shutdown.4")
def test_shutdown_is_owed_as_soon_as_our_updates_are_signed() -> None:
    alice, bob = opened_channel()
    assert not owes_shutdown(bob.channel)
    bob.offer(1_000_000)
    play("shut>", alice, bob)
    assert not owes_shutdown(bob.channel)
    bob.sign()
    assert owes_shutdown(bob.channel)
    bob.shut_down()
    assert not owes_shutdown(bob.channel)
    play("<add <sig rev> <shut", alice, bob)
    assert not owes_shutdown(alice.channel)


@bolt("shutdown.4")
def test_what_is_pending_at_shutdown_is_still_settled() -> None:
    alice, bob = play("add> <add sig> <rev <sig rev> sig> <rev", *opened_channel())
    play("shut> <shut", alice, bob)
    assert not may_negotiate(alice.channel)
    for party in (alice, bob):
        party.remove(0, Fulfilled(preimage_of(0)))
    drain(alice, bob)
    assert may_negotiate(alice.channel)
    assert may_negotiate(bob.channel)
    assert alice.balances_msat == (5_000_000_000, 5_000_000_000)
    close(alice, bob)


@bolt("shutdown.3")
def test_a_promised_script_is_kept() -> None:
    alice, bob = opened_channel()
    promised = p2wsh(b"cold")
    charters = {
        "alice": replace(alice.channel.charter, upfront_shutdown_scripts=Dual(promised, b"")),
        "bob": replace(bob.channel.charter, upfront_shutdown_scripts=Dual(b"", promised)),
    }
    for party in (alice, bob):
        party.channel = replace(party.channel, charter=charters[party.name])
    with pytest.raises(BadShutdownScript):
        bob.receive(Shutdown(bob.channel.id, P2WPKH))
    alice.shut_down()
    assert alice.deliver_one_to(bob) == Shutdown(alice.channel.id, promised)


@bolt("shutdown.1")
def test_nothing_changes_once_the_fee_is_being_agreed_on() -> None:
    alice, bob = play("shut> <shut", *opened_channel())
    bob.negotiate()
    for message in (
        UpdateFee(bob.channel.id, 300),
        UpdateAddHtlc(bob.channel.id, 0, Msat(1_000_000), bytes(32), 200, bytes(1366)),
        Shutdown(bob.channel.id, alice.script),
    ):
        with pytest.raises(UnexpectedMessage):
            bob.receive(message)


@bolt("shutdown.4")
def test_closing_begins_when_all_is_quiet_and_not_before() -> None:
    alice, bob = play("fee sig>", *opened_channel())
    play("shut> <rev <shut", alice, bob)
    seen = []
    for moment in ("", "<sig", "rev>"):
        play(moment, alice, bob)
        seen.append((may_negotiate(alice.channel), may_negotiate(bob.channel)))
    # Alice owes no one anything a moment before Bob hears of it
    assert seen == [(False, False), (True, False), (True, True)]


# --- the closing transaction


@both_types
@bolt("legacy-closing_signed.1", "legacy-closing_signed.2")
def test_both_end_with_one_transaction_that_the_chain_takes(channel_type: bytes) -> None:
    alice, bob = opened_channel(push_msat=3_000_000_999, channel_type=channel_type)
    transaction = close(alice, bob)
    assert transaction.with_witness(0, ()) == Transaction(
        2,
        (TxIn(FUNDING_OUTPOINT, 0xFFFFFFFF),),
        (TxOut(Sat(3_000_000), bob.script), TxOut(Sat(6_999_999 - FEE_SAT), alice.script)),
        0,
    )
    assert is_valid(transaction, alice)
    assert alice.channel.closing.transaction == bob.channel.closing.transaction == transaction


@bolt("legacy-closing_signed.1")
def test_the_fee_follows_from_the_scripts_that_are_paid() -> None:
    """Whatever the forms, the transaction pays the feerate that was asked for, within a percent."""
    for scripts in (Dual(P2WPKH, P2WPKH), Dual(P2WSH, P2WPKH), Dual(P2TR, P2TR)):
        alice, bob = opened_channel()
        alice.script, bob.script = scripts.local, scripts.remote
        transaction = close(alice, bob, (253, 253))
        fee_sat = 10_000_000 - sum(output.value_sat for output in transaction.outputs)
        assert fee_sat == closing_fee_sat(scripts, 253)
        assert transaction.weight * 253 <= 1000 * fee_sat <= transaction.weight * 257
        assert fee_sat >= transaction.vsize, "the least that the network relays"


@bolt("legacy-closing_signed.2")
def test_an_output_below_its_owners_dust_limit_is_left_out() -> None:
    for push_msat, values in ((354_000, [354, 9_999_646 - FEE_SAT]), (353_999, [9_999_646 - FEE_SAT])):
        alice, bob = opened_channel(push_msat=push_msat)
        assert [output.value_sat for output in close(alice, bob).outputs] == values
        assert is_valid(alice.broadcast[0], alice)


@bolt("legacy-closing_signed.2")
def test_each_side_has_its_own_dust_limit() -> None:
    house_of_bob = replaced_house(dust_limit_sat=Sat(900))
    alice, bob = opened_channel(push_msat=899_000, house_of_bob=house_of_bob)
    assert [output.script for output in close(alice, bob).outputs] == [alice.script]
    alice, bob = opened_channel(push_msat=900_000, house_of_bob=house_of_bob)
    assert [output.script for output in close(alice, bob).outputs] == [bob.script, alice.script]


@bolt("legacy-closing_signed.2")
def test_a_peer_may_forgo_its_own_output() -> None:
    alice, bob = at_negotiation()
    message = a_proposal_of(alice, FEE_SAT, has_remote=False)
    bob.receive(message)
    assert bob.channel.phase is Phase.CLOSING
    assert [output.script for output in bob.broadcast[0].outputs] == [bob.script]
    assert is_valid(bob.broadcast[0], bob)


@bolt("legacy-closing_signed.2")
def test_who_has_the_only_output_cannot_forgo_it() -> None:
    _, bob = at_negotiation(push_msat=353_999)
    with pytest.raises(WrongSignature):
        bob.receive(ClosingSigned(bob.channel.id, Sat(FEE_SAT), bytes(64)))
    alice, _ = at_negotiation(push_msat=9_999_000_000)
    with pytest.raises(WrongSignature):
        alice.receive(ClosingSigned(alice.channel.id, Sat(647), bytes(64)))
    alice, bob = at_negotiation(push_msat=354_000)
    bob.receive(a_proposal_of(alice, FEE_SAT, has_remote=False))
    assert bob.broadcast[0].outputs == (TxOut(Sat(354), bob.script),)


@bolt("legacy-closing_signed.2")
def test_nobody_may_forgo_ours() -> None:
    alice, bob = at_negotiation()
    without = closing_transaction(bob.channel, FEE_SAT)
    tx = replace(without.tx, outputs=tuple(out for out in without.tx.outputs if out.script == alice.script))
    charter = bob.channel.charter
    sighash = segwit_v0_sighash(tx, 0, charter.funding_script, charter.funding_sat)
    signature = secp256k1.sign(alice.secrets.funding, sighash)
    with pytest.raises(WrongSignature):
        bob.receive(ClosingSigned(bob.channel.id, Sat(FEE_SAT), signature))


@bolt("legacy-closing_signed.2")
def test_a_transaction_without_an_output_is_nobodys() -> None:
    alice, _ = at_negotiation(push_msat=353_000)
    with pytest.raises(DustAtClosing):
        closing_transaction(alice.channel, 9_999_647 - 353)
    assert closing_transaction(alice.channel, 9_999_647 - 354).tx.outputs[0].value_sat == 354


def test_an_account_before_the_fee() -> None:
    alice, bob = opened_channel(push_msat=1_999)
    assert closing.balances_at_closing_sat(alice.channel) == Dual(9_999_998, 1)
    assert closing.balances_at_closing_sat(bob.channel) == Dual(1, 9_999_998)
