"""BOLT 5: what others put into blocks before our claims, and what we learn from it."""

import pytest

from htlc.channel import Phase
from htlc.ladder import Fulfilled
from htlc.resolution_identify import Kind
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, preimage_of
from wire.bitcoin.tx import Transaction

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])

AMOUNT_MSAT = 100_000_000
HTLCS = 4


def claims_of(player: Player, kind: Kind) -> list[Transaction]:
    """Its claims on outputs of this kind that nobody has spent."""
    standing = {o.outpoint for o in player.resolution.outputs if o.kind is kind and o.spending is None}
    return [claim.transaction for claim in player.resolution.claims if standing.issuperset(claim.outpoints)]


@both_formats
@bolt("b5-on-chain.6")
def test_a_cheat_that_wins_every_race_for_its_htlcs_loses_them_all_the_same(
    stage: Stage, channel_type: bytes
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    for number in range(HTLCS):
        alice.party.offer(AMOUNT_MSAT, number, stage.height + 40)
    stage.drain()
    revoked = bob.channel
    stage.pay_across(bob, alice, 1_000_000_000, 100)
    bob.party.channel = revoked
    bob.force_close()
    stage.mine()
    [batch] = claims_of(alice, Kind.REVOKED_HTLC)
    assert len(batch.inputs) == HTLCS
    their_fees_sat = 0
    for number in range(HTLCS):
        bob.fulfill(number, number)
        [theirs] = [
            claim.transaction
            for claim in bob.resolution.claims
            if claim.outpoints[0] in alice.resolution.watched and len(claim.outpoints) == 1
        ]
        stage.mine_only(theirs)
        their_fees_sat += stage.fee_sat(theirs) if channel_type == STATIC else 0
        # the rest goes alone from now on, and what their transaction pays is chased
        assert all(len(claim.inputs) == 1 for claim in claims_of(alice, Kind.REVOKED_HTLC))
        assert len(claims_of(alice, Kind.REVOKED_TO_LOCAL)) == 2 + number
        assert alice.settled.get(number) == Fulfilled(preimage_of(number))
    stage.mine(2)
    commitment_sat = sum(output.value_sat for output in bob.commitment.outputs if output.value_sat != 330)
    assert alice.gained_sat == commitment_sat - alice.fees_sat - their_fees_sat
    stage.mine(160)
    assert bob.gained_sat <= 0
    assert alice.channel.phase is Phase.CLOSED


@bolt("b5-on-chain.6")
def test_a_batch_that_is_stuck_is_taken_apart(stage: Stage) -> None:
    stage.open()
    alice, bob = stage.alice, stage.bob
    for number in range(HTLCS):
        alice.party.offer(AMOUNT_MSAT, number, stage.height + 40)
    stage.drain()
    revoked = bob.channel
    stage.pay_across(bob, alice, 1_000_000_000, 100)
    bob.party.channel = revoked
    bob.force_close()
    stage.mine()
    assert len(claims_of(alice, Kind.REVOKED_HTLC)) == 1
    stage.pass_over(6)
    alone = [claim for claim in claims_of(alice, Kind.REVOKED_HTLC) if len(claim.inputs) == 1]
    assert len(alone) == HTLCS
    # whichever of them the miners know will do
    stage.mine(8)
    assert alice.channel.phase is Phase.CLOSED
    stage.check_conserved()


@both_formats
@pytest.mark.parametrize("publisher", ["alice", "bob"])
@bolt("b5-on-chain.4", "forwarding-safety.2")
def test_a_preimage_that_the_chain_shows_goes_upstream_with_its_block(
    stage: Stage, channel_type: bytes, publisher: str
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 40)
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 45)
    stage.drain()
    (alice if publisher == "alice" else bob).force_close()
    stage.mine()
    bob.fulfill(0, 0)
    assert alice.settled == {}
    stage.mine()
    # the other part of the same payment can be claimed upstream too, whatever becomes of it here
    assert alice.settled == {0: Fulfilled(preimage_of(0)), 1: Fulfilled(preimage_of(0))}


@both_formats
@bolt("b5-on-chain.3", "b5-on-chain.4")
def test_a_preimage_that_comes_too_late_loses_the_race_and_nothing_else(
    stage: Stage, channel_type: bytes
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(AMOUNT_MSAT, 0, stage.height + 10)
    stage.drain()
    bob.force_close()
    stage.mine(12)
    assert not any(o.spending is None for o in alice.resolution.outputs if o.is_htlc)
    bob.fulfill(0, 0)
    stage.mine(170)
    assert alice.channel.phase is Phase.CLOSED
    assert bob.channel.phase is Phase.CLOSED
    assert alice.settled == {0: None}
    stage.check_conserved()


@both_formats
@bolt("b5-on-chain.3")
def test_a_preimage_that_we_do_not_know_is_nothing_to_wait_for(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    bob.is_away = True
    bob.party.offer(AMOUNT_MSAT, 0, stage.height + 10)
    stage.drain()
    alice.force_close()
    stage.mine(170)
    # Bob never took it back, which is his affair
    assert alice.channel.phase is Phase.CLOSED
