"""BOLT 5: one side goes to chain, and each balance ends in its owner's wallet."""

import pytest

from htlc.channel import Phase
from tests.bolt import bolt
from tests.htlc.onchain_stage import Stage
from tests.htlc.parties import ANCHORS, STATIC, close
from wire.bitcoin.tx import Transaction

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])


@both_formats
@bolt("b5-on-chain.2", "b5-on-chain.3")
def test_balances_come_home_after_a_unilateral_close(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.force_close()
    stage.mine(2)
    assert alice.commitment.txid in stage.mined
    # Bob waits at most a block, Alice as long as Bob asked her to
    assert bob.gained_sat == 5_000_000 - bob.fees_sat
    delay = alice.channel.charter.terms.remote.to_self_delay_blocks
    stage.mine(delay - 2)
    assert alice.gained_sat <= 0
    stage.mine(1)
    assert alice.gained_sat > 4_980_000
    stage.mine(6)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSED
    stage.check_conserved()
    assert not alice.refused
    assert not bob.refused


def closed_together(stage: Stage, channel_type: bytes) -> Transaction:
    """Both agree, and their transaction is in a block."""
    stage.open(channel_type)
    agreed = close(stage.alice.party, stage.bob.party)
    stage.submit(agreed)
    stage.mine()
    return agreed


def phases(stage: Stage) -> list[Phase]:
    return [player.channel.phase for player in stage.players]


@both_formats
@bolt("b5-on-chain.1")
def test_a_cooperative_close_that_is_undone_is_told_to_the_chain_again(
    stage: Stage, channel_type: bytes
) -> None:
    agreed = closed_together(stage, channel_type)
    assert phases(stage) == [Phase.CLOSED, Phase.CLOSED]
    stage.reorganise(1, confirm=[])
    assert phases(stage) == [Phase.CLOSING, Phase.CLOSING]
    assert agreed.txid in stage.chain.regtest.mempool
    stage.mine(6)
    assert phases(stage) == [Phase.CLOSED, Phase.CLOSED]
    assert stage.alice.resolution.is_done


@both_formats
@bolt("b5-on-chain.1", "b5-on-chain.6")
def test_a_cheat_that_waits_for_a_reorganisation_of_the_close_is_punished(
    stage: Stage, channel_type: bytes
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    revoked = bob.commitment
    stage.pay_across(bob, alice, 1_000_000_000, 0)
    stage.submit(close(alice.party, bob.party))
    stage.mine(6)
    assert phases(stage) == [Phase.CLOSED, Phase.CLOSED]
    stage.reorganise(6, confirm=[revoked])
    assert alice.channel.phase is Phase.FAILED
    stage.mine(2)
    taken_sat = sum(output.value_sat for output in revoked.outputs if output.value_sat != 330)
    assert alice.gained_sat + alice.fees_sat == taken_sat


@bolt("b5-on-chain.2")
def test_an_agreed_close_that_waits_can_be_overtaken_by_a_unilateral_one(stage: Stage) -> None:
    stage.open()
    alice, bob = stage.alice, stage.bob
    close(alice.party, bob.party)
    alice.force_close()
    stage.mine()
    assert alice.commitment.txid in stage.mined
    assert phases(stage) == [Phase.FAILED, Phase.FAILED]


@both_formats
@bolt("b5-on-chain.1")
def test_blocks_that_are_read_late_pass_nothing_over(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    bob.party.offer(100_000_000, 0, stage.height + 60)
    stage.drain()
    bob.force_close()
    stage.mine()
    alice.fulfill(0, 0)
    [claim] = [c for c in alice.resolution.claims if len(c.outpoints) == 1 and c.feerate_per_kw > 1000]
    alice.is_away = True
    stage.pass_over(30)
    alice.is_away = False
    stage.mine_only()
    [later] = [c for c in alice.resolution.claims if c.outpoints == claim.outpoints]
    assert later.feerate_per_kw <= claim.feerate_per_kw * 5 // 4 + 1
