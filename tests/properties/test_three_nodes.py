"""Three nodes in a line: whatever happens, no satoshi is lost and nothing is stuck.

    RILL_SEED=4711 pytest tests/properties/test_three_nodes.py

plays one run alone, the way in which a failure names it; RILL_SEEDS=5000:6000 plays others than
the usual ones.
"""

import os
from collections import Counter

import pytest

from tests.bolt import bolt
from tests.properties.three_nodes import run_of

STEPS = 120
FAST_RUNS = range(20)
ALL_RUNS = range(*map(int, os.environ.get("RILL_SEEDS", "20:340").split(":")))
EVENTS = (
    "completed",
    "in parts",
    "cuts",
    "crashes",
    "deaths over a commit or a word",
    "fee changes",
    "reorganisations",
    "deadlines",
    "closes",
    "force-closes",
    "punished",
)
ONE_RUN = os.environ.get("RILL_SEED")

the_whole_life = bolt(
    "forwarding-safety.1",
    "forwarding-safety.2",
    "forwarding-safety.3",
    "forwarding-safety.4",
    "payload.4",
    "reestablish.1",
    "reestablish.2",
    "reestablish.5",
    "reestablish.6",
    "reestablish.8",
    "b5-on-chain.1",
    "b5-on-chain.6",
)


def play(seeds: range) -> Counter[str]:
    """Play these runs, and count what happened in them."""
    counts: Counter[str] = Counter()
    for seed in [int(ONE_RUN)] if ONE_RUN else seeds:
        counts += run_of(seed, STEPS).counts
    return counts


@the_whole_life
def test_no_satoshi_is_lost_whatever_happens() -> None:
    play(FAST_RUNS)


@pytest.mark.slow
@pytest.mark.skipif(ONE_RUN is not None, reason="one run is played by the test above")
@the_whole_life
def test_no_satoshi_is_lost_in_hundreds_of_lives() -> None:
    counts = play(ALL_RUNS)
    # what did not happen was not tried
    for event in EVENTS:
        assert counts[event] > len(ALL_RUNS) / 50, counts


@pytest.mark.skipif(ONE_RUN is not None, reason="that run is played above")
def test_a_seed_replays_its_run() -> None:
    first, again = run_of(7, STEPS), run_of(7, STEPS)
    assert first.story == again.story
    assert first.line.tip_hash == again.line.tip_hash
