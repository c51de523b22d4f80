"""BOLT 5: claims pay what a confirmation costs, more while they wait, and never what they save."""

import pytest

from htlc.market import LOWEST_FEERATE_PER_KW, Market
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC
from wire.bitcoin.tx import Transaction, TxOut
from wire.units import Sat

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])

AMOUNT_SAT = 10_000


def waiting(stage: Stage) -> list[Transaction]:
    return [entry.transaction for entry in stage.chain.regtest.mempool]


def rate_of(stage: Stage, transaction: Transaction) -> float:
    return stage.fee_sat(transaction) * 1000 / transaction.weight


def with_an_htlc_of_bob(stage: Stage, channel_type: bytes) -> tuple[Player, Player]:
    """Bob has offered 10,000 sat, and Alice knows the preimage when it is too late to say so."""
    stage.open(channel_type)
    stage.bob.party.offer(AMOUNT_SAT * 1000, 0, stage.height + 50)
    stage.drain()
    return stage.alice, stage.bob


@both_formats
@bolt("b5-on-chain.4")
def test_a_contested_claim_rises_with_every_block_that_passes_it_over(
    stage: Stage, channel_type: bytes
) -> None:
    alice, bob = with_an_htlc_of_bob(stage, channel_type)
    bob.force_close()
    stage.mine(2)
    alice.fulfill(0, 0)
    fees = [stage.fee_sat(waiting(stage)[0])]
    # at first every third block, and each of the last eighteen
    stage.pass_over(2)
    assert stage.fee_sat(waiting(stage)[0]) == fees[0]
    stage.pass_over()
    assert stage.fee_sat(waiting(stage)[0]) == pytest.approx(fees[0] * 1.25, rel=0.02)
    while stage.height < bob.channel.htlcs.local[0].cltv_expiry - 1:
        stage.pass_over()
        fees.append(stage.fee_sat(waiting(stage)[0]))
    # in the end nearly all of it, and no more: what is left is no dust
    assert AMOUNT_SAT - 294 - AMOUNT_SAT // 4 < fees[-1] <= AMOUNT_SAT - 294
    assert fees == sorted(fees)
    assert not alice.refused, alice.refused
    stage.mine()
    assert alice.gained_sat + alice.fees_sat >= 5_000_000


@both_formats
@bolt("b5-on-chain.3")
def test_a_sweep_waits_for_the_market(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.force_close()
    stage.mine(1)
    [sweep] = waiting(stage)
    stage.pass_over(5)
    assert waiting(stage) == [sweep]
    assert rate_of(stage, sweep) == pytest.approx(500, rel=0.02)
    bob.resolver.market = Market(soon_per_kw=6000, later_per_kw=3000)
    stage.pass_over()
    [dearer] = waiting(stage)
    assert dearer.inputs[0].outpoint == sweep.inputs[0].outpoint
    assert rate_of(stage, dearer) == pytest.approx(3000, rel=0.02)


@bolt("b5-on-chain.7")
def test_the_wallet_pays_for_second_stages_under_anchors_and_outbids_itself(stage: Stage) -> None:
    alice, _ = with_an_htlc_of_bob(stage, ANCHORS)
    alice.force_close()
    stage.mine()
    alice.fulfill(0, 0)
    fees = []
    for _ in range(42):
        [claim] = [tx for tx in waiting(stage) if tx.txid in alice.published]
        fees.append(stage.fee_sat(claim))
        assert claim.outputs[0].value_sat == AMOUNT_SAT
        # b5-on-chain.7: ours covers everything, theirs only its input and output
        of_theirs, of_ours = claim.inputs[0].witness[1:3]
        assert (of_theirs[-1], of_ours[-1]) == (0x83, 0x01)
        stage.pass_over()
    assert fees == sorted(fees)
    assert 2 * fees[0] < fees[-1] <= AMOUNT_SAT
    assert not alice.refused, alice.refused
    stage.mine(160)
    assert alice.gained_sat + alice.fees_sat == 5_000_000 + AMOUNT_SAT - stage.fee_sat(alice.commitment) - 330
    stage.check_conserved()


@bolt("b5-on-chain.2")
def test_a_commitment_that_pays_too_little_is_pulled_in_by_its_anchor(stage: Stage) -> None:
    stage.open(feerate_per_kw=253)
    alice = stage.alice
    alice.force_close()
    [commitment, child] = waiting(stage)
    assert child.inputs[0].outpoint.txid == commitment.txid
    both_sat = stage.fee_sat(commitment) + stage.fee_sat(child)
    assert both_sat * 1000 / (commitment.weight + child.weight) == pytest.approx(500, rel=0.02)
    alice.resolver.market = Market(soon_per_kw=9000, later_per_kw=4000)
    stage.pass_over()
    [commitment, dearer] = waiting(stage)
    both_sat = stage.fee_sat(commitment) + stage.fee_sat(dearer)
    assert both_sat * 1000 / (commitment.weight + dearer.weight) == pytest.approx(4000, rel=0.02)
    stage.mine(160)
    assert alice.gained_sat + alice.fees_sat == 5_000_000 - stage.fee_sat(commitment) - 330
    assert not alice.refused, alice.refused
    stage.check_conserved()


@bolt("b5-on-chain.2", "b5-on-chain.7")
def test_a_wallet_without_coins_publishes_what_it_can_and_the_rest_when_it_has_some(stage: Stage) -> None:
    alice, bob = with_an_htlc_of_bob(stage, ANCHORS)
    spent = alice.wallet.fund_all(bob.wallet.new_script(), LOWEST_FEERATE_PER_KW)
    alice.force_close()
    assert [tx.txid for tx in waiting(stage)] == [alice.commitment.txid]
    stage.mine()
    alice.fulfill(0, 0)
    stage.mine(3)
    assert not any(output.spending for output in alice.resolution.outputs)
    alice.wallet.release(spent)
    stage.mine(2)
    assert any(output.spending for output in alice.resolution.outputs)


@bolt("b5-on-chain.4")
def test_what_is_not_worth_its_fee_is_left_and_said_so(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.open(ANCHORS)
    alice, bob = stage.alice, stage.bob
    bob.party.offer(400_000, 0, stage.height + 30)
    alice.party.offer(400_000, 1, stage.height + 30)
    stage.drain()
    bob.force_close()
    stage.mine()
    alice.fulfill(0, 0)
    stage.mine(50)
    assert len(alice.resolution.left) == 2
    assert caplog.text.count("not worth the fee") >= 2
    assert alice.resolution.is_done
    assert alice.settled == {0: None}


@bolt("b5-on-chain.7")
def test_a_single_coin_pays_for_one_claim_after_the_other(stage: Stage) -> None:
    stage.open(ANCHORS)
    alice, bob = stage.alice, stage.bob
    for number in range(6):
        # HTLCs that expire together are taken back together
        alice.party.offer(100_000_000, number, stage.height + 20 + number // 2)
    bob.party.offer(100_000_000, 10, stage.height + 60)
    stage.drain()
    # the rest is meant for something else
    spent = [alice.wallet.fund([TxOut(Sat(1_990_000), bob.wallet.new_script())], 253) for _ in range(7)]
    alice.force_close()
    stage.mine()
    alice.fulfill(0, 10)
    stage.mine(30)
    assert all(o.spending is not None for o in alice.resolution.outputs if o.is_htlc)
    assert len([tx for tx in alice.published if tx in stage.mined]) == 2 + 1 + 3
    for each in spent:
        alice.wallet.release(each)
    stage.mine(160)
    stage.check_conserved()
