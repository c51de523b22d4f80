"""The fuzz law, for a moment of every run; `make fuzz` goes on for as long as one likes."""

import random

import pytest

from tests.fuzz.engine import feed, mutated
from tests.fuzz.live import fuzz_node
from tests.fuzz.targets import targets

SEED = 1


@pytest.mark.parametrize("name", list(targets()))
def test_any_bytes_give_a_value_or_a_declared_error(name: str) -> None:
    target, dice = targets()[name], random.Random(SEED)
    for _ in range(300):
        feed(target, mutated(dice.choice(target.seeds), dice))


async def test_a_live_node_outlives_a_hostile_peer() -> None:
    assert await fuzz_node(seconds=1.0, seed=SEED) > 0
