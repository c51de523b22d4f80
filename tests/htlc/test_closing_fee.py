"""BOLT 2, closing_signed: how both come to agree on the fee."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from htlc.channel import Phase
from htlc.closing import (
    closing_fee_sat,
    may_negotiate,
)
from htlc.errors import (
    ClosingFeeOutsideRanges,
    NotUsable,
    UnacceptableClosingFee,
    UnexpectedMessage,
    WrongSignature,
)
from htlc.ladder import Dual, Fulfilled
from tests.bolt import bolt
from tests.htlc.closing_stage import FEE_SAT, a_proposal_of, at_negotiation, said_by
from tests.htlc.parties import (
    STATIC,
    close,
    opened_channel,
    play,
    preimage_of,
)
from tests.htlc.spoiled import each_spoiling
from wire.bitcoin.script import p2tr
from wire.bitcoin.tx import TxOut
from wire.messages.channel import ClosingSigned, FeeRange
from wire.units import Sat


@bolt("legacy-closing_signed.1")
def test_the_opener_starts_with_the_range_that_it_would_pay() -> None:
    alice, bob = play("shut> <shut", *opened_channel())
    bob.negotiate()
    assert not bob.outbox
    message = said_by(alice.negotiate(1000))
    assert message.fee_satoshis == FEE_SAT
    assert message.fee_range == FeeRange(Sat(171), Sat(3 * FEE_SAT))


@bolt("legacy-closing_signed.1")
def test_a_fee_inside_both_ranges_closes_in_two_messages() -> None:
    alice, bob = play("shut> <shut close>", *opened_channel())
    assert bob.channel.phase is Phase.CLOSING
    message = bob.deliver_one_to(alice)
    assert isinstance(message, ClosingSigned)
    assert message.fee_satoshis == FEE_SAT
    assert message.fee_range == FeeRange(Sat(171), Sat(10_000_000))
    assert alice.channel.phase is Phase.CLOSING
    assert not alice.outbox
    assert alice.broadcast == bob.broadcast


@bolt("legacy-closing_signed.1")
def test_another_fee_inside_both_ranges_closes_in_three() -> None:
    alice, bob = at_negotiation()
    alice.receive(a_proposal_of(bob, 2000, (1500, 3000)))
    assert alice.channel.phase is Phase.CLOSING
    bob.channel = replace(bob.channel, closing=replace(bob.channel.closing, our_last_fee_sat=2000))
    bob.receive(said_by(alice))
    assert bob.channel.phase is Phase.CLOSING
    assert alice.broadcast == bob.broadcast
    assert 10_000_000 - sum(output.value_sat for output in bob.broadcast[0].outputs) == 2000


@bolt("legacy-closing_signed.1")
def test_we_answer_a_fee_outside_our_range_with_the_nearest_inside_both() -> None:
    alice, bob = at_negotiation()
    bob.receive(a_proposal_of(alice, 100, (100, 400)))
    assert said_by(bob).fee_satoshis == 171
    alice.receive(a_proposal_of(bob, 171, (171, 10_000_000)))
    assert alice.channel.phase is Phase.CLOSING


@bolt("legacy-closing_signed.1")
def test_ranges_that_do_not_meet_end_the_negotiation() -> None:
    alice, bob = at_negotiation()
    with pytest.raises(UnacceptableClosingFee):
        bob.receive(a_proposal_of(alice, 100, (100, 170)))
    with pytest.raises(UnacceptableClosingFee):
        alice.receive(a_proposal_of(bob, 5000, (3 * FEE_SAT + 1, 9000)))


@bolt("legacy-closing_signed.1")
@pytest.mark.parametrize("fee_sat", [170, 3 * FEE_SAT + 1, 700])
def test_the_opener_takes_no_fee_outside_the_overlap(fee_sat: int) -> None:
    alice, bob = at_negotiation()
    with pytest.raises(ClosingFeeOutsideRanges):
        alice.receive(a_proposal_of(bob, fee_sat, (800, 10_000_000)))


@bolt("legacy-closing_signed.1")
@pytest.mark.parametrize("fee_sat", [800, 3 * FEE_SAT])
def test_the_opener_takes_any_fee_in_the_overlap(fee_sat: int) -> None:
    alice, bob = at_negotiation()
    alice.receive(a_proposal_of(bob, fee_sat, (800, 10_000_000)))
    assert alice.channel.phase is Phase.CLOSING
    assert said_by(alice).fee_satoshis == fee_sat


@bolt("legacy-closing_signed.1")
def test_without_a_range_a_fee_inside_ours_is_taken() -> None:
    alice, bob = at_negotiation()
    bob.receive(a_proposal_of(alice, 500))
    assert bob.channel.phase is Phase.CLOSING
    assert said_by(bob).fee_satoshis == 500


@bolt("legacy-closing_signed.1")
def test_without_a_range_a_first_fee_outside_ours_is_answered_with_our_nearest() -> None:
    alice, bob = at_negotiation()
    bob.receive(a_proposal_of(alice, 100))
    assert said_by(bob).fee_satoshis == 171


@bolt("legacy-closing_signed.1")
def test_without_a_range_we_move_strictly_between_the_last_two_and_never_out_of_ours() -> None:
    alice, bob = at_negotiation()
    said = []
    for fee_sat in range(100_000, 90_000, -1000):
        alice.receive(a_proposal_of(bob, fee_sat))
        said.append(said_by(alice).fee_satoshis)
    assert said == [1348, 1685, 1853, 1937, 1979, 2000, 2011, 2016, 2019, 2020]
    for fee_sat in (50_000, 49_000):
        alice.receive(a_proposal_of(bob, fee_sat))
    assert alice.channel.closing.our_last_fee_sat == 3 * FEE_SAT
    with pytest.raises(UnacceptableClosingFee):
        alice.receive(a_proposal_of(bob, 40_000))


@bolt("legacy-closing_signed.1")
@pytest.mark.parametrize("stubborn", [100_000, 100_001, FEE_SAT - 1, FEE_SAT])
def test_who_does_not_move_loses_its_connection(stubborn: int) -> None:
    """Only what lies strictly between our last fee and theirs makes progress."""
    alice, bob = at_negotiation()
    alice.receive(a_proposal_of(bob, 100_000))
    assert alice.channel.closing.our_last_fee_sat == 2 * FEE_SAT
    with pytest.raises(UnacceptableClosingFee):
        alice.receive(a_proposal_of(bob, stubborn))


@bolt("legacy-closing_signed.1")
def test_a_haggling_peer_without_ranges_gets_to_an_end() -> None:
    """Bob takes anything from 1,500 sat, Alice up to 2,022: old manners, no ranges."""
    alice, bob = at_negotiation()
    wanted = 9000
    while alice.channel.phase is Phase.NEGOTIATING:
        alice.receive(a_proposal_of(bob, wanted))
        answer = said_by(alice).fee_satoshis
        wanted = max(1500, (wanted + answer) // 2)
    assert 1500 <= wanted <= 3 * FEE_SAT
    assert 10_000_000 - sum(output.value_sat for output in alice.broadcast[0].outputs) == answer


@bolt("legacy-closing_signed.1")
def test_the_fee_comes_from_the_openers_output_alone() -> None:
    alice, bob = opened_channel(push_msat=9_900_000_000 - 1_000_000)
    transaction = close(alice, bob, (20_000, 253))
    paid = {output.script: output.value_sat for output in transaction.outputs}
    assert paid == {bob.script: 9_899_000, alice.script: 101_000 - 20 * FEE_SAT}


@bolt("legacy-closing_signed.1")
def test_an_opener_that_cannot_pay_the_fee_pays_what_it_has() -> None:
    """It opened with the fee of the first commitment and no satoshi more."""
    cost_sat = 253 * 1124 // 1000 + 660
    alice, bob = opened_channel(push_msat=(10_000_000 - cost_sat) * 1000)
    transaction = close(alice, bob, (50_000, 50_000))
    assert transaction.outputs == (TxOut(Sat(10_000_000 - cost_sat), bob.script),)


@bolt("legacy-closing_signed.1")
def test_an_opener_with_less_than_the_network_relays_still_closes() -> None:
    cost_sat = 253 * 724 // 1000
    alice, bob = opened_channel(push_msat=(10_000_000 - cost_sat) * 1000, channel_type=STATIC)
    alice.script, bob.script = p2tr(bytes(32)), p2tr(b"\x01" * 32)
    assert cost_sat < closing_fee_sat(Dual(alice.script, bob.script), 253)
    assert close(alice, bob).outputs == (TxOut(Sat(10_000_000 - cost_sat), bob.script),)


@bolt("legacy-closing_signed.1", "legacy-closing_signed.2")
def test_an_opener_who_has_everything_keeps_an_output_at_any_feerate() -> None:
    alice, bob = opened_channel(capacity_sat=10_000, push_msat=300_000)
    transaction = close(alice, bob, (90_000, 253))
    assert transaction.outputs == (TxOut(Sat(354), alice.script),)


@bolt("legacy-closing_signed.1", "legacy-closing_signed.2")
def test_an_opener_may_give_all_it_has_where_the_other_keeps_an_output() -> None:
    alice, bob = opened_channel(capacity_sat=10_000, push_msat=354_000)
    assert close(alice, bob, (90_000, 253)).outputs == (TxOut(Sat(354), bob.script),)


@bolt("legacy-closing_signed.1")
def test_a_fee_above_the_openers_balance_costs_the_peer_its_connection() -> None:
    alice, bob = at_negotiation()
    for fee_sat in (5_000_001, 2_100_000_000_000_000):
        with pytest.raises(UnacceptableClosingFee):
            bob.receive(ClosingSigned(bob.channel.id, Sat(fee_sat), bytes(64)))
        with pytest.raises(UnacceptableClosingFee):
            alice.receive(ClosingSigned(alice.channel.id, Sat(fee_sat), bytes(64)))


@bolt("legacy-closing_signed.1")
@each_spoiling
def test_a_closing_signature_must_hold(spoil: Callable[[bytes], bytes]) -> None:
    alice, bob = at_negotiation()
    message = a_proposal_of(alice, FEE_SAT)
    before = bob.channel
    with pytest.raises(WrongSignature):
        bob.receive(replace(message, signature=spoil(message.signature)))
    with pytest.raises(WrongSignature):
        bob.receive(replace(message, fee_satoshis=Sat(FEE_SAT + 1)))
    assert bob.channel is before
    bob.receive(message)


@bolt("legacy-closing_signed.1")
def test_a_fee_may_come_before_we_noticed_that_all_is_quiet() -> None:
    """Alice is quiet with our last revocation, and speaks right behind hers: one turn for us."""
    alice, bob = play("<add <sig rev> sig> <rev", *opened_channel())
    play("shut> <shut", alice, bob)
    alice.remove(0, Fulfilled(preimage_of(0)))
    play("ful> sig> <rev <sig", alice, bob)
    assert may_negotiate(alice.channel)
    alice.negotiate()
    play("rev>", alice, bob)
    assert may_negotiate(bob.channel)
    play("close> <close", alice, bob)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSING
    assert alice.broadcast == bob.broadcast


@bolt("legacy-closing_signed.1")
def test_a_fee_that_comes_too_early_costs_the_peer_its_connection() -> None:
    alice, bob = opened_channel()
    early = ClosingSigned(bob.channel.id, Sat(FEE_SAT), bytes(64))
    for moment in ("add sig> <rev <sig rev>", "shut>", "<shut"):
        for party in (alice, bob):
            with pytest.raises(UnexpectedMessage):
                party.receive(early)
        play(moment, alice, bob)
    with pytest.raises(UnexpectedMessage):
        bob.receive(early)


@bolt("legacy-closing_signed.1")
def test_who_did_not_open_does_not_start() -> None:
    alice, bob = play("shut> <shut", *opened_channel())
    with pytest.raises(UnexpectedMessage):
        alice.receive(a_proposal_of(bob, FEE_SAT, (171, 9000)))
    alice.negotiate()
    alice.receive(a_proposal_of(bob, FEE_SAT, (171, 9000)))
    assert alice.channel.phase is Phase.CLOSING


@bolt("legacy-closing_signed.1")
def test_what_is_agreed_is_not_agreed_again() -> None:
    alice, bob = opened_channel()
    close(alice, bob)
    for party, other in ((alice, bob), (bob, alice)):
        with pytest.raises(UnexpectedMessage):
            party.receive(a_proposal_of(other, FEE_SAT + 1))
        with pytest.raises(NotUsable):
            party.shut_down()


@bolt("legacy-closing_signed.1")
def test_what_is_agreed_may_be_said_once_more() -> None:
    alice, bob = opened_channel()
    close(alice, bob)
    for party, other in ((alice, bob), (bob, alice)):
        before = party.channel
        party.receive(a_proposal_of(other, FEE_SAT))
        assert party.channel is before
        assert not party.outbox
        assert len(party.broadcast) == 1
