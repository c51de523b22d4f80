"""BOLT 5: which commitment was published is read from it, and each valid one is resolved."""

import msgspec
import pytest

from htlc.channel import Phase
from htlc.ladder import Failed, Fulfilled
from htlc.resolution_identify import Ending, Kind
from htlc.transactions import funding_witness
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, play, preimage_of
from wire.bitcoin.sighash import segwit_v0_sighash
from wire.bitcoin.tx import Transaction, TxIn, TxOut
from wire.crypto.secp256k1 import sign
from wire.units import Sat

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])

BALANCE_SAT = 5_000_000
AMOUNT_MSAT = 100_000_000


def ending(player: Player) -> Ending:
    assert player.resolution.spent is not None
    return player.resolution.spent.ending


@both_formats
@bolt("b5-on-chain.4", "b5-on-chain.5")
def test_a_commitment_that_they_still_owe_the_secret_for_is_valid(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 40)
    alice.party.sign()
    bob.force_close()
    stage.mine(2)
    assert ending(alice) is Ending.THEIRS
    # the HTLC has no output, but until this is deep its next commitment could still take its place
    stage.mine(3)
    assert 0 not in alice.settled
    stage.mine(2)
    assert alice.settled == {0: None}
    assert alice.gained_sat + alice.fees_sat == alice_owed_sat(stage, bob)


def alice_owed_sat(stage: Stage, publisher: Player) -> int:
    """Her part of the opening balances, less what the opener pays."""
    anchors_sat = 660 if stage.alice.channel.charter.channel_type == ANCHORS else 0
    return BALANCE_SAT - stage.fee_sat(publisher.commitment) - anchors_sat


@both_formats
@bolt("b5-on-chain.4")
def test_the_commitment_that_we_have_just_signed_is_valid_too(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 40)
    alice.party.sign()
    alice.party.deliver_one_to(bob.party)
    alice.party.deliver_one_to(bob.party)
    # Bob has revoked the one before, but Alice never hears of it
    bob.force_close()
    stage.mine(2)
    assert ending(alice) is Ending.THEIRS
    assert [o.kind for o in alice.resolution.outputs if o.is_htlc] == [Kind.OFFERED_IN_THEIRS]
    stage.mine(60)
    assert alice.settled == {0: None}
    assert alice.gained_sat + alice.fees_sat == alice_owed_sat(stage, bob)
    assert alice.channel.phase is Phase.CLOSED


@both_formats
@bolt("b5-on-chain.3", "b5-on-chain.5")
def test_an_htlc_that_was_fulfilled_but_not_yet_removed_is_claimed(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 40)
    stage.drain()
    bob.party.remove(0, Fulfilled(preimage_of(0)))
    bob.party.sign()
    # neither message arrives: both commitments still hold the HTLC
    bob.force_close()
    stage.mine(2)
    assert alice.settled == {0: Fulfilled(preimage_of(0))}
    stage.mine(170)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSED
    assert alice.gained_sat + alice.fees_sat == alice_owed_sat(stage, bob) - AMOUNT_MSAT // 1000


@both_formats
@bolt("b5-on-chain.5")
def test_a_failure_that_was_told_but_not_committed_goes_upstream_with_its_reason(
    stage: Stage, channel_type: bytes
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 40)
    stage.drain()
    bob.party.remove(0, Failed(b"reason"))
    play("<fail <sig rev>", alice.party, bob.party)
    # in Alice's newest commitment it is gone
    alice.force_close()
    stage.mine(5)
    assert 0 not in alice.settled
    stage.mine()
    assert alice.settled == {0: Failed(b"reason")}


@bolt("b5-on-chain.5")
def test_an_htlc_that_no_commitment_can_hold_is_failed_at_once(stage: Stage) -> None:
    stage.open()
    alice = stage.alice
    alice.party.offer(300_000, 0, stage.height + 40)
    stage.drain()
    alice.party.offer(AMOUNT_MSAT, 1, stage.height + 40)
    alice.force_close()
    stage.mine()
    assert alice.settled == {0: None, 1: None}


@both_formats
@bolt("b5-on-chain.2", "b5-on-chain.8", "reestablish.7")
def test_a_commitment_from_a_future_that_we_lost_leaves_us_our_balance(
    stage: Stage, channel_type: bytes
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    lost = alice.channel
    stage.pay_across(bob, alice, AMOUNT_MSAT, 0)
    alice.party.channel = msgspec.structs.replace(lost, phase=Phase.BEHIND)
    bob.force_close()
    stage.mine(3)
    assert ending(alice) is Ending.FUTURE
    owed_sat = alice_owed_sat(stage, bob) + AMOUNT_MSAT // 1000
    assert alice.gained_sat + alice.fees_sat == owed_sat
    stage.mine(6)
    assert alice.resolution.is_done


@bolt("b5-on-chain.8")
def test_a_spend_that_we_cannot_explain_alarms_the_user(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.open()
    alice, bob = stage.alice, stage.bob
    stranger = Transaction(
        2,
        (TxIn(alice.channel.charter.funding_outpoint),),
        (TxOut(Sat(9_990_000), bob.party.script),),
    )
    stage.submit(signed_by_both(stage, stranger))
    stage.mine()
    assert ending(alice) is Ending.UNKNOWN
    assert "a transaction that we cannot explain" in caplog.text


def signed_by_both(stage: Stage, spender: Transaction) -> Transaction:
    charter = stage.alice.channel.charter
    digest = segwit_v0_sighash(spender, 0, charter.funding_script, charter.funding_sat)
    ours, theirs = (sign(player.party.secrets.funding, digest) for player in stage.players)
    keys = charter.basepoints.local.funding_pubkey, charter.basepoints.remote.funding_pubkey
    return spender.with_witness(0, funding_witness(charter.funding_script, keys[0], ours, keys[1], theirs))
