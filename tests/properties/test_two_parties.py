"""Two parties under random dances: the transactions agree, nothing is lost, and all ends well.

    RILL_SEEDS=5000:6000 pytest tests/properties/test_two_parties.py -m slow

plays other runs than the usual ones. A run that fails names the call that plays it again.
"""

import os

import pytest

from tests.bolt import bolt
from tests.properties.reconnecting import ReconnectingStage
from tests.properties.two_parties import run_of

FAST_RUNS = range(100)
ALL_RUNS = range(*map(int, os.environ.get("RILL_SEEDS", "100:1200").split(":")))
STEPS, MORE_STEPS = 150, 250

the_whole_dance = bolt(
    "update_add_htlc.2",
    "removing.1",
    "commitment_signed-revoke_and_ack.1",
    "commitment_signed-revoke_and_ack.4",
    "commitment_signed-revoke_and_ack.5",
    "update_fee.1",
    "shutdown.4",
    "legacy-closing_signed.1",
)


@the_whole_dance
def test_any_dance_ends_with_every_satoshi_accounted_for() -> None:
    for seed in FAST_RUNS:
        run_of(seed, STEPS)


@pytest.mark.slow
@the_whole_dance
def test_a_thousand_longer_dances_do_too() -> None:
    for seed in ALL_RUNS:
        run_of(seed, MORE_STEPS)


@bolt("reestablish.2", "reestablish.5", "reestablish.6", "reestablish.8")
def test_any_dance_survives_broken_connections_and_crashes() -> None:
    stages = [run_of(seed, STEPS, ReconnectingStage) for seed in FAST_RUNS]
    # offers that had waited too long for a signature were among them
    assert sum(isinstance(stage, ReconnectingStage) and stage.taken_back for stage in stages)


@pytest.mark.slow
@bolt("reestablish.2", "reestablish.5", "reestablish.6", "reestablish.8")
def test_hundreds_of_longer_dances_survive_them_too() -> None:
    for seed in ALL_RUNS[::2]:
        run_of(seed, MORE_STEPS, ReconnectingStage)


def test_a_seed_replays_its_run() -> None:
    first, again = run_of(7, STEPS), run_of(7, STEPS)
    assert first.story == again.story
    assert first.alice.broadcast == again.alice.broadcast
