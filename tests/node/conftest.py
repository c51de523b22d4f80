"""Fixtures of the node's tests."""

import socket
from collections.abc import Iterator

import pytest

from node.chain.embedded import EmbeddedChain
from tests.node.relay_ground import Bitcoind, Ground, installed_bitcoind


@pytest.fixture(scope="module", params=["embedded", "bitcoind"])
def shared_ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    with EmbeddedChain() as chain:
        if request.param == "embedded":
            yield Ground(chain, None)
            return
        bitcoind = Bitcoind(installed_bitcoind(), tmp_path_factory.mktemp("bitcoind"), _free_port())
        try:
            yield Ground(chain, bitcoind)
        finally:
            bitcoind.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def ground(shared_ground: Ground) -> Iterator[Ground]:
    yield shared_ground
    while len(shared_ground.chain.regtest.mempool):
        shared_ground.mine()
