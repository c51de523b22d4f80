"""What tests with another implementation need: a bitcoind, and LDK from the npm registry."""

import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trio

from tests.interop.bitcoin import Bitcoind
from tests.interop.electrum_peer import installed_electrum
from tests.interop.electrum_server import ElectrumServer
from tests.interop.electrum_stage import ElectrumStage
from tests.interop.stage import Stage, playing
from tests.node.relay_ground import installed_bitcoind

PACKAGE = Path(__file__).parent / "ldk" / "package.json"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Ports that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def ldk_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds LDK's node_modules."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("no node and npm: LDK runs on them")
    folder = tmp_path_factory.mktemp("ldk")
    shutil.copy(PACKAGE, folder)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, check=False
    )
    if installed.returncode:
        pytest.skip("npm cannot install LDK here")
    return folder


@pytest.fixture
async def bitcoind(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Bitcoind]:
    """A fresh regtest chain of a real bitcoind."""
    directory = tmp_path / "bitcoind"
    directory.mkdir()
    bitcoind = Bitcoind(installed_bitcoind(), directory, free_port())
    try:
        await bitcoind.ready()
        yield bitcoind
    finally:
        bitcoind.close()


@pytest.fixture
async def stage(
    bitcoind: Bitcoind,
    nursery: trio.Nursery,
    ldk_modules: Path,
    free_port: Callable[[], int],
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    """A stage on which everything ends with the test."""
    stage = Stage(bitcoind, nursery, ldk_modules, free_port, tmp_path)
    async with playing(stage, nursery):
        yield stage


@pytest.fixture
async def electrum_stage(
    bitcoind: Bitcoind, nursery: trio.Nursery, free_port: Callable[[], int], tmp_path: Path
) -> AsyncIterator[ElectrumStage]:
    """A stage for Electrum wallets."""
    program, server = installed_electrum(), ElectrumServer(bitcoind)
    await nursery.start(server.run)
    stage = ElectrumStage(program, server, bitcoind, nursery, tmp_path, free_port, tmp_path)
    async with playing(stage, nursery):
        yield stage
