"""BOLT 5: a revoked commitment, of any past state, costs whoever publishes it everything."""

import pytest

from htlc.channel import Channel
from htlc.ladder import Failed, Fulfilled
from htlc.resolution_identify import Ending, Kind
from htlc.transactions import ANCHOR_SAT
from tests.bolt import bolt
from tests.htlc.onchain_stage import Player, Stage
from tests.htlc.parties import ANCHORS, STATIC, preimage_of, replaced_house

both_formats = pytest.mark.parametrize("channel_type", [ANCHORS, STATIC], ids=["anchors", "static_remotekey"])
either_cheats = pytest.mark.parametrize("cheat", ["alice", "bob"])

COIN_SAT = 100_000_000
DELAY_BLOCKS = 1000
STATES = 12


def total_sat(cheat: Player) -> int:
    """What the published commitment holds, but for the anchors."""
    spender = cheat.commitment
    return sum(output.value_sat for output in spender.outputs if output.value_sat != ANCHOR_SAT)


def sides(stage: Stage, cheat: str) -> tuple[Player, Player]:
    """The cheat, and the one that it cheats."""
    return (stage.alice, stage.bob) if cheat == "alice" else (stage.bob, stage.alice)


def publish(cheat: Player, state: Channel) -> None:
    """Go to chain with a state that is over, as if it were the newest."""
    cheat.party.channel = state
    cheat.force_close()


@both_formats
@bolt("b5-on-chain.6", "commitment_signed-revoke_and_ack.5")
def test_the_payer_of_two_bitcoin_who_publishes_the_first_state_loses_all_ten(
    stage: Stage, channel_type: bytes
) -> None:
    house = replaced_house(to_self_delay_blocks=DELAY_BLOCKS)
    stage.open(channel_type, 10 * COIN_SAT, 5 * COIN_SAT, house_of_alice=house, house_of_bob=house)
    payer, payee = stage.alice, stage.bob
    first = payer.channel
    stage.pay_across(payer, payee, 2 * COIN_SAT * 1000, 0)
    assert payee.party.balances_msat == (7 * COIN_SAT * 1000, 3 * COIN_SAT * 1000)
    publish(payer, first)
    stage.mine(3)
    assert payee.resolution.spent is not None
    assert payee.resolution.spent.ending is Ending.REVOKED
    assert payee.gained_sat == total_sat(payer) - payee.fees_sat
    assert payee.gained_sat > 10 * COIN_SAT - 20_000
    stage.mine(DELAY_BLOCKS)
    assert payer.gained_sat <= 0
    stage.check_conserved()


@both_formats
@bolt("b5-on-chain.6", "commitment_signed-revoke_and_ack.5")
def test_state_one_of_nine_is_punished(stage: Stage, channel_type: bytes) -> None:
    stage.open(channel_type)
    states = []
    for number in range(9):
        states.append(stage.bob.channel)
        stage.pay_across(stage.bob, stage.alice, 100_000_000, number)
    publish(stage.bob, states[0])
    stage.mine(3)
    assert stage.alice.gained_sat == total_sat(stage.bob) - stage.alice.fees_sat > 9_980_000


def states_of(cheat: Player, victim: Player, stage: Stage) -> list[Channel]:
    """Live through HTLCs of all fates in both directions; every state that the cheat has revoked."""
    states, height = [], stage.height

    def note() -> None:
        stage.drain()
        states.append(cheat.channel)

    for number, amount_msat in enumerate((100_000_000, 70_000_000, 300_000, 70_000_000)):
        cheat.party.offer(amount_msat, number % 3, height + 40 + number)
        note()
        victim.party.offer(amount_msat + 1_000_000, 10 + number, height + 40)
        note()
    victim.party.remove(0, Fulfilled(preimage_of(0)))
    note()
    cheat.party.remove(0, Failed(b"reason"))
    note()
    cheat.party.remove(1, Fulfilled(preimage_of(11)))
    note()
    victim.party.remove(1, Failed(b"reason"))
    note()
    stage.pay_across(victim, cheat, 5_000_000, 20)
    return states


@both_formats
@pytest.mark.parametrize("age", range(STATES))
@bolt("b5-on-chain.6", "commitment_signed-revoke_and_ack.5")
def test_every_past_state_costs_the_cheat_every_output(stage: Stage, channel_type: bytes, age: int) -> None:
    stage.open(channel_type)
    cheater, victim = sides(stage, ("alice", "bob")[age % 2])
    publish(cheater, states_of(cheater, victim, stage)[age])
    stage.mine(3)
    assert victim.gained_sat == total_sat(cheater) - victim.fees_sat
    assert cheater.gained_sat <= 0
    assert not victim.refused, victim.refused
    stage.mine(8)
    assert victim.resolution.is_done
    stage.check_conserved()


@both_formats
@either_cheats
@bolt("b5-on-chain.6")
def test_second_stage_transactions_are_chased(stage: Stage, channel_type: bytes, cheat: str) -> None:
    stage.open(channel_type)
    cheater, victim = sides(stage, cheat)
    state = states_of(cheater, victim, stage)[7]
    victim.is_away = True
    publish(cheater, state)
    stage.mine()
    cheater.fulfill(0, 10)
    cheater.fulfill(1, 11)
    # the cheat takes its received HTLCs by preimage, and its offered ones when they expire
    stage.mine(50)
    assert len(cheater.resolution.outputs) > len([o for o in cheater.resolution.outputs if o.is_htlc]) + 1
    victim.is_away = False
    stage.mine(3)
    assert any(o.kind is Kind.REVOKED_TO_LOCAL and o.height > 0 for o in victim.resolution.outputs)
    stage_fees_sat = 0 if channel_type == ANCHORS else cheater.fees_sat
    assert victim.gained_sat == total_sat(cheater) - victim.fees_sat - stage_fees_sat
    stage.mine(200)
    assert cheater.gained_sat <= 0
    stage.check_conserved()
