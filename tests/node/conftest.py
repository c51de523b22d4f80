"""Fixtures of the node's tests."""

import socket
from collections.abc import Iterator

import pytest

from node.chain.embedded import EmbeddedChain
from tests.node.backends import Backend, InProcess, OverRpc, RillChain
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


@pytest.fixture(scope="module", params=["embedded", "served", "bitcoind"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Each way to have a chain."""
    if request.param == "embedded":
        with EmbeddedChain() as chain:
            yield InProcess(chain)
        return
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "served":
        server: Bitcoind = RillChain(directory, _free_port())
    else:
        server = Bitcoind(installed_bitcoind(), directory, _free_port())
    try:
        yield OverRpc(server)
    finally:
        server.close()


@pytest.fixture
def ground(shared_ground: Ground) -> Iterator[Ground]:
    yield shared_ground
    while len(shared_ground.chain.regtest.mempool):
        shared_ground.mine()
