"""BOLT 5: whatever blocks did, up to six of them may be undone, and all ends the same."""

import pytest

from htlc.channel import Phase
from htlc.ladder import Fulfilled
from htlc.resolution_identify import Ending
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, preimage_of
from tests.htlc.test_resolution_htlcs import CLAIMED, DUST, EXPIRED, check_amounts, offer_all_kinds

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])
either_publishes = pytest.mark.parametrize("publisher", ["alice", "bob"])

MOST_BLOCKS = 6


def ending(player: Player) -> Ending | None:
    return player.resolution.spent.ending if player.resolution.spent else None


@both_formats
@either_publishes
@pytest.mark.parametrize("depth", [2, MOST_BLOCKS])
@bolt("b5-on-chain.1")
def test_htlcs_end_the_same_though_blocks_are_undone_all_along(
    stage: Stage, channel_type: bytes, publisher: str, depth: int
) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    offer_all_kinds(stage, alice, 0)
    offer_all_kinds(stage, bob, 10)
    first = alice if publisher == "alice" else bob
    first.force_close()
    stage.mine()
    bob.fulfill(CLAIMED, 0)
    alice.fulfill(CLAIMED, 10)
    for _ in range(8):
        stage.mine(depth)
        # what was in those blocks waits again; sometimes the new ones take it and sometimes not
        stage.reorganise(depth)
        stage.mine(3)
        stage.reorganise(min(depth, 3), confirm=[])
    stage.mine(first.channel.charter.terms.remote.to_self_delay_blocks + 50)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSED
    stage.check_conserved()
    check_amounts(stage, first)
    for player, number in ((alice, 0), (bob, 10)):
        assert player.settled[CLAIMED] == Fulfilled(preimage_of(number))
        assert player.settled[EXPIRED] is player.settled[DUST] is None


@both_formats
@pytest.mark.parametrize("depth", [1, MOST_BLOCKS])
@bolt("b5-on-chain.1", "b5-on-chain.6")
def test_a_punishment_that_is_undone_is_made_again(stage: Stage, channel_type: bytes, depth: int) -> None:
    stage.open(channel_type)
    alice, bob = stage.alice, stage.bob
    alice.party.offer(100_000_000, 0, stage.height + 40)
    stage.drain()
    revoked = bob.channel
    stage.pay_across(bob, alice, 1_000_000_000, 1)
    newest = bob.channel
    bob.party.channel = revoked
    bob.force_close()
    published = bob.commitment
    stage.mine(depth)
    assert ending(alice) is Ending.REVOKED
    stage.reorganise(depth, confirm=[])
    assert ending(alice) is None
    stage.mine(2)
    assert ending(alice) is Ending.REVOKED
    assert alice.gained_sat > 9_900_000
    # and when in the end the newest commitment is the one that is mined
    stage.reorganise(3, confirm=[])
    assert published.txid not in stage.mined
    bob.party.channel = newest
    stage.mine_only(bob.commitment)
    assert ending(alice) is Ending.THEIRS
    stage.mine(10)
    assert alice.gained_sat + alice.fees_sat == sum(
        output.value_sat for output in bob.commitment.outputs if alice_is_paid(alice, output.script)
    )


def alice_is_paid(alice: Player, script: bytes) -> bool:
    outputs = alice.resolution.outputs
    spent = alice.resolution.spent
    assert spent is not None
    return any(spent.transaction.outputs[o.outpoint.index].script == script for o in outputs if not o.is_htlc)


@bolt("b5-on-chain.1")
def test_our_commitment_is_published_again_when_its_block_is_undone(stage: Stage) -> None:
    stage.open()
    alice, bob = stage.alice, stage.bob
    alice.force_close()
    stage.mine()
    assert (ending(alice), ending(bob)) == (Ending.OURS, Ending.THEIRS)
    stage.reorganise(1, confirm=[])
    assert ending(alice) is ending(bob) is None
    assert alice.commitment.txid in stage.chain.regtest.mempool
    stage.mine(160)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSED
    stage.check_conserved()


@pytest.mark.parametrize("interval", [1, 7])
@bolt("b5-on-chain.1")
def test_a_node_that_restarts_all_along_ends_the_same(stage: Stage, interval: int) -> None:
    stage.open()
    alice, bob = stage.alice, stage.bob
    offer_all_kinds(stage, alice, 0)
    offer_all_kinds(stage, bob, 10)
    alice.force_close()
    alice.restart()
    stage.mine()
    bob.fulfill(CLAIMED, 0)
    alice.fulfill(CLAIMED, 10)
    for _ in range(60 // interval):
        for player in stage.players:
            player.restart()
        stage.mine(interval)
    stage.mine(170)
    assert alice.channel.phase is bob.channel.phase is Phase.CLOSED
    check_amounts(stage, alice)
    stage.check_conserved()
