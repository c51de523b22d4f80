"""BOLT 5: HTLCs of a published commitment, whoever published it, end where the protocol says."""

import pytest

from htlc.channel import Phase
from htlc.ladder import Fulfilled
from htlc.transactions import ANCHOR_SAT, ChannelFormat
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, preimage_of

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])
either_publishes = pytest.mark.parametrize("publisher", ["alice", "bob"])

DUST_MSAT = 300_000
CLAIMED, EXPIRED, DUST, TWIN, LATER_TWIN = range(5)


def offer_all_kinds(stage: Stage, offerer: Player, first: int) -> None:
    """HTLCs that will be claimed, expire, are dust, or share hash, amount and script."""
    party, height = offerer.party, stage.height
    party.offer(100_000_000, first + CLAIMED, height + 40)
    party.offer(200_000_000, first + EXPIRED, height + 50)
    party.offer(DUST_MSAT, first + DUST, height + 50)
    party.offer(50_000_000, first + TWIN, height + 45)
    party.offer(50_000_000, first + TWIN, height + 48)
    stage.drain()


def check_amounts(stage: Stage, publisher: Player) -> None:
    """What each paid the other cancels out; Alice, who opened, pays the commitment and the anchors."""
    alice, bob, commitment = stage.alice, stage.bob, publisher.commitment
    dust_sat = DUST_MSAT // 1000
    is_anchors = alice.channel.charter.format is ChannelFormat.ANCHORS
    base_fee_sat = stage.fee_sat(commitment) - 2 * dust_sat
    anchors_sat = 2 * ANCHOR_SAT if is_anchors else 0
    spent_anchor_sat = ANCHOR_SAT if is_anchors else 0
    owed = {alice: 5_000_000 - dust_sat - base_fee_sat - anchors_sat, bob: 5_000_000 - dust_sat}
    owed[publisher] += spent_anchor_sat
    assert {player: player.gained_sat + player.fees_sat for player in owed} == owed


@both_formats
@either_publishes
@bolt("b5-on-chain.3", "b5-on-chain.4", "b5-on-chain.5", "b5-on-chain.7", "forwarding-safety.2")
def test_every_htlc_goes_to_whom_it_belongs(stage: Stage, channel_type: bytes, publisher: str) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    offer_all_kinds(stage, alice, 0)
    offer_all_kinds(stage, bob, 10)
    first = alice if publisher == "alice" else bob
    first.force_close()
    stage.mine()
    bob.fulfill(CLAIMED, 0)
    alice.fulfill(CLAIMED, 10)
    stage.mine(60)
    stage.mine(first.channel.charter.terms.remote.to_self_delay_blocks + 20)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSED
    assert not alice.refused, alice.refused
    assert not bob.refused, bob.refused
    stage.check_conserved()
    check_amounts(stage, first)
    for player, number in ((alice, 0), (bob, 10)):
        assert player.settled[CLAIMED] == Fulfilled(preimage_of(number))
        assert [player.settled[i] for i in (EXPIRED, DUST, TWIN, LATER_TWIN)] == [None] * 4
