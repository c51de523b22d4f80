"""BOLT 5: one side goes to chain, and each balance ends in its owner's wallet."""

import pytest

from htlc.channel import Phase
from tests.bolt import bolt
from tests.htlc.onchain_stage import Stage
from tests.htlc.parties import ANCHORS, STATIC

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
