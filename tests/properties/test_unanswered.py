"""A middle hop between somebody who pays and somebody who does not do their part (forwarding safety)."""

from collections import Counter

import pytest

from tests.bolt import bolt
from tests.node.lockstep import quick_directory
from tests.properties.unanswered import CONDUCTS, play

the_safety_of_forwarding = bolt(
    "forwarding-safety.1", "forwarding-safety.2", "forwarding-safety.3", "forwarding-safety.4"
)


def run(seeds: range) -> Counter[str]:
    """How often each conduct was tried."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        with quick_directory() as directory:
            counts[play(directory, seed).conduct] += 1
    return counts


@the_safety_of_forwarding
def test_nobody_in_the_middle_pays_for_others() -> None:
    assert run(range(20)).keys() == set(CONDUCTS)


@pytest.mark.slow
@the_safety_of_forwarding
def test_nobody_in_the_middle_pays_for_others_in_many_lives() -> None:
    assert min(run(range(100, 180)).values()) >= 4
