"""Content is sold over HTTP to the wallets of other implementations."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import trio

from node.daemon.node import Node
from node.stream.manifest import Manifest
from node.stream.service import Stream
from node.stream.shop import Wish
from tests.interop.electrum_stage import ElectrumStage
from tests.interop.stage import CAPACITY_SAT, HOST, PUSH_MSAT, Stage
from wire.units import Msat

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parents[2] / "docs" / "l402_client.py"
CHUNK, CHUNKS = 16_384, 3
PRICE_MSAT = Msat(400_000)


class Seller:
    """A node of ours that sells a file at its door."""

    node: Node
    stream: Stream
    manifest: Manifest

    def __init__(self, file: Path) -> None:
        self.file = file
        file.write_bytes(os.urandom(CHUNKS * CHUNK - 5))
        self.url = ""

    async def open(self, stage: Stage, nursery: trio.Nursery) -> None:
        """Begin to sell."""
        stage.on_built.append(self._begin)
        self.node = await stage.rill("seller")
        await nursery.start(self.stream.run)
        self.url = f"http://{HOST}:{await self.stream.open_door(HOST, 0)}"
        self.manifest = await self.stream.shop.share(Wish(self.file, PRICE_MSAT, CHUNK, "a film"))

    def _begin(self, node: Node) -> None:
        self.stream = Stream(node, node.config.directory / "stream")

    @property
    def received_msat(self) -> int:
        """What was paid for the film."""
        return sum(row.received_msat or 0 for row in self.node.switch.invoices.rows.values())


@pytest.fixture
def seller(tmp_path: Path) -> Seller:
    return Seller(tmp_path / "film.bin")


async def test_ldk_pays_at_the_door_and_curl_shows_the_preimage(
    stage: Stage, seller: Seller, nursery: trio.Nursery
) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl here")
    ldk = await stage.ldk("buyer")
    await seller.open(stage, nursery)
    await stage.open_public(seller.node, ldk)
    await stage.confirm(1)
    await stage.usable(seller.node, 1)
    chunk = f"{seller.url}/{seller.manifest.root.hex()}/1"
    asked = (await trio.run_process(["curl", "-si", chunk], capture_stdout=True)).stdout
    assert asked.startswith(b"HTTP/1.1 402")
    [(macaroon, invoice)] = re.findall(r'L402 macaroon="(.+?)", invoice="(.+?)"', asked.decode("latin-1"))
    paid = await ldk("pay", bolt11=invoice)
    token = f"Authorization: L402 {macaroon}:{paid['preimage']}"
    bought = (await trio.run_process(["curl", "-sf", "-H", token, chunk], capture_stdout=True)).stdout
    assert bought == seller.file.read_bytes()[CHUNK : 2 * CHUNK]
    assert seller.received_msat == PRICE_MSAT


async def test_electrum_is_all_that_a_client_of_the_door_needs(
    electrum_stage: ElectrumStage, seller: Seller, nursery: trio.Nursery, tmp_path: Path
) -> None:
    stage = electrum_stage
    wallet = await stage.electrum("buyer")
    await seller.open(stage, nursery)
    await seller.node.connect(wallet.node_id, HOST, wallet.port)
    await seller.node.open_channel(wallet.node_id, CAPACITY_SAT, PUSH_MSAT, is_announced=False)
    await stage.confirm(1)
    await wallet.open(1)
    copy, pay = tmp_path / "copy", shlex.join([*wallet.command, "lnpay"])
    root = seller.manifest.root.hex()
    await trio.run_process([sys.executable, str(CLIENT), seller.url, root, str(copy), f"--pay={pay}"])
    assert copy.read_bytes() == seller.file.read_bytes()
    assert seller.received_msat == CHUNKS * PRICE_MSAT
