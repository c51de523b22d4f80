"""Fixtures of the channel's tests."""

import socket
from collections.abc import Iterator

import pytest

from node.chain.embedded import EmbeddedChain
from tests.htlc.onchain_stage import Stage
from tests.node.relay_ground import Bitcoind, installed_bitcoind


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedChain, Bitcoind]]:
    """A chain, and a bitcoind that is given its blocks; together they start once for a module."""
    program = installed_bitcoind()
    with EmbeddedChain() as chain:
        bitcoind = Bitcoind(program, tmp_path_factory.mktemp("bitcoind"), _free_port())
        try:
            yield chain, bitcoind
        finally:
            bitcoind.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["embedded", pytest.param("bitcoind", marks=pytest.mark.slow)])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Where a channel ends: on an embedded chain alone, and with a bitcoind that must agree."""
    if request.param == "embedded":
        with EmbeddedChain() as chain:
            yield Stage(chain, None)
        return
    chain, bitcoind = request.getfixturevalue("mirrored")
    yield Stage(chain, bitcoind)
    while len(chain.regtest.mempool):
        chain.regtest.mine(1, chain.faucet.script)
