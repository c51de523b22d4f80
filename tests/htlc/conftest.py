"""Fixtures of the channel's tests."""

import socket
from collections.abc import Iterator

import pytest

from node.chain.embedded import EmbeddedChain
from tests.htlc.onchain_stage import Stage
from tests.node.relay_ground import Bitcoind, installed_bitcoind


@pytest.fixture(scope="module", params=["embedded", pytest.param("bitcoind", marks=pytest.mark.slow)])
def chains(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[EmbeddedChain, Bitcoind | None]]:
    with EmbeddedChain() as chain:
        if request.param == "embedded":
            yield chain, None
            return
        bitcoind = Bitcoind(installed_bitcoind(), tmp_path_factory.mktemp("bitcoind"), _free_port())
        try:
            yield chain, bitcoind
        finally:
            bitcoind.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def stage(chains: tuple[EmbeddedChain, Bitcoind | None]) -> Iterator[Stage]:
    chain, bitcoind = chains
    yield Stage(chain, bitcoind)
    while len(chain.regtest.mempool):
        chain.regtest.mine(1, chain.faucet.script)
