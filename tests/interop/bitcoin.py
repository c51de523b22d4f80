"""A regtest bitcoind for tests with other implementations."""

import http.client
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.chain.bitcoind import BitcoindChain
from node.chain.http import Credentials

USER = PASSWORD = "rill"
STOP_SECONDS = 60
CALL_SECONDS = 60


class BitcoindRefused(Exception):
    """It answered with an error."""


class Bitcoind:
    """A bitcoind of our own, with a miner's wallet."""

    def __init__(self, program: str, directory: Path, port: int) -> None:
        self.port = port
        options = [
            "-regtest",
            f"-datadir={directory}",
            f"-rpcport={port}",
            f"-rpcuser={USER}",
            f"-rpcpassword={PASSWORD}",
            "-listen=0",
            "-fallbackfee=0.00002",
            "-txindex=1",
        ]
        self._process = subprocess.Popen(
            [program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._miner = ""

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def chain(self) -> BitcoindChain:
        """The chain as our nodes see it."""
        return BitcoindChain(Credentials(USER, PASSWORD), port=self.port)

    async def call(self, method: str, *params: object, wallet: str = "") -> Any:
        """One call, of a wallet if named."""
        return await trio.to_thread.run_sync(self._call, method, params, wallet)

    def _call(self, method: str, params: tuple[object, ...], wallet: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_SECONDS)
        body = msgspec.json.encode({"id": 1, "method": method, "params": params})
        headers = {"Authorization": Credentials(USER, PASSWORD).field}
        connection.request("POST", f"/wallet/{wallet}" if wallet else "/", body, headers)
        answer = msgspec.json.decode(connection.getresponse().read())
        connection.close()
        if answer["error"]:
            raise BitcoindRefused(answer["error"]["message"])
        return answer["result"]

    async def ready(self) -> None:
        """Wait until it answers, and give its miner something to spend."""
        while True:
            try:
                await self.call("createwallet", "miner")
                break
            except (OSError, BitcoindRefused):
                await trio.sleep(0.1)
        self._miner = await self.call("getnewaddress", wallet="miner")
        await self.mine(110)

    async def mine(self, count: int) -> int:
        """Mine blocks; the height after them."""
        await self.call("generatetoaddress", count, self._miner)
        height: int = await self.call("getblockcount")
        return height

    async def undo(self, count: int) -> None:
        """Replace the last blocks by one more without any transaction of the mempool."""
        height = await self.call("getblockcount")
        await self.call("invalidateblock", await self.call("getblockhash", height - count + 1))
        # paid to another address, so that the new blocks cannot be the old ones
        address = await self.call("getnewaddress", wallet="miner")
        for _ in range(count + 1):
            await self.call("generateblock", address, [])

    async def pay(self, address: str, amount_sat: int) -> None:
        """Send from the miner's wallet."""
        await self.call("sendtoaddress", address, str(Decimal(amount_sat) / 10**8), wallet="miner")

    async def wallet(self, name: str, amount_sat: int, coins: int) -> None:
        """Another wallet, with that much in so many coins once a block comes."""
        await self.call("createwallet", name)
        for _ in range(coins):
            await self.pay(await self.call("getnewaddress", "", "bech32", wallet=name), amount_sat // coins)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
