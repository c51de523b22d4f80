"""BOLT 5 at random, judged by a bitcoind too where there is one: see `tests.properties.onchain`."""

import pytest

from tests.bolt import bolt
from tests.htlc.onchain_stage import Stage
from tests.properties.onchain import play


@pytest.mark.parametrize("seed", range(40, 46))
@bolt("b5-on-chain.1", "b5-on-chain.6", "b5-on-chain.7")
def test_both_judges_agree_on_every_transaction(stage: Stage, seed: int) -> None:
    play(stage, seed)
