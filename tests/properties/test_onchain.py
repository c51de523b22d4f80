"""BOLT 5 at random: however a channel lived and whoever ends it how, nobody honest loses."""

from collections.abc import Iterator

import pytest

from node.chain.embedded import EmbeddedChain
from tests.bolt import bolt
from tests.htlc.onchain_stage import Stage
from tests.properties.onchain import play

FEW, MANY = range(15), range(100, 300)


@pytest.fixture
def chain() -> Iterator[EmbeddedChain]:
    with EmbeddedChain() as chain:
        yield chain


@pytest.mark.parametrize("seed", [*FEW, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MANY)])
@bolt("b5-on-chain.1", "b5-on-chain.3", "b5-on-chain.4", "b5-on-chain.6", "forwarding-safety.1")
def test_every_satoshi_is_where_the_protocol_says(chain: EmbeddedChain, seed: int) -> None:
    play(Stage(chain, None), seed)
