"""The three backends of one suite: the embedded chain in this process, in another, and a bitcoind.

Each can also be told to mine, to pay and to reorganise, which a `Chain` cannot.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from node.chain.bitcoind import BitcoindChain
from node.chain.embedded import EmbeddedChain
from node.chain.http import Credentials
from node.chain.interface import Chain
from tests.node.payer import SCRIPT, Payer
from tests.node.relay_ground import Bitcoind
from wire.bitcoin.address import address_of
from wire.bitcoin.block import parse_block
from wire.bitcoin.script import p2wsh
from wire.bitcoin.tx import OutPoint, TxOut, txid_of_hex
from wire.units import Sat

CREDENTIALS = Credentials("u", "p")
FUNDING_FEE_SAT = 10_000
MATURE_BLOCKS = 100
SPENDABLE_BLOCKS = 20


class Backend(Protocol):
    """A chain, and the hand that moves it."""

    def chain(self) -> Chain:
        """The chain as a node sees it; each node may have its own."""

    async def mine(self, count: int = 1) -> int:
        """Mine; the height then."""

    async def fund_many(self, outputs: Sequence[TxOut]) -> list[OutPoint]:
        """Pay these in a block of its own."""

    async def reorganise(self, depth: int) -> int:
        """Replace the last blocks by one more; the height then."""

    async def waiting(self) -> set[bytes]:
        """The txids in the mempool."""


class InProcess:
    """The embedded chain itself."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain

    def chain(self) -> Chain:
        return self._chain

    async def mine(self, count: int = 1) -> int:
        return (await self._chain.mine(count)).height

    async def fund_many(self, outputs: Sequence[TxOut]) -> list[OutPoint]:
        return await self._chain.fund_many(outputs)

    async def reorganise(self, depth: int) -> int:
        return (await self._chain.reorganise(depth)).height

    async def waiting(self) -> set[bytes]:
        return {entry.txid for entry in self._chain.regtest.mempool}


class RillChain(Bitcoind):
    """`rill chain` as a process of its own, which answers as a bitcoind does."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, directory: Path, port: int) -> None:
        command = [
            sys.executable,
            "-m",
            "node.cli.main",
            "chain",
            "--port",
            str(port),
            "--datadir",
            str(directory),
        ]
        access = ["--rpcuser", CREDENTIALS.user, "--rpcpassword", CREDENTIALS.password]
        self.process = subprocess.Popen([*command, *access], stdout=subprocess.PIPE, text=True)
        self.started.append(self.process)
        assert self.process.stdout is not None
        self.greeting = [self.process.stdout.readline() for _ in range(2)]
        self.port = port

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


class OverRpc:
    """Whoever answers as a bitcoind. Mines to a key of the tests, and pays from what it mined."""

    def __init__(self, server: Bitcoind) -> None:
        self._server = server
        self._payer = Payer(self)
        self._coins: list[tuple[int, OutPoint]] = []
        self._mine_for_ourselves(MATURE_BLOCKS + SPENDABLE_BLOCKS)

    def chain(self) -> Chain:
        return BitcoindChain(CREDENTIALS, port=self._server.port, poll_seconds=0.01)

    async def mine(self, count: int = 1) -> int:
        return self._generate(count, p2wsh(b"\x51"))

    async def fund_many(self, outputs: Sequence[TxOut]) -> list[OutPoint]:
        height, coin = self._coins.pop(0)
        assert height + MATURE_BLOCKS <= self._height()
        change_sat = self._payer.values[coin] - sum(output.value_sat for output in outputs) - FUNDING_FEE_SAT
        payment = self._payer.spend(coin, outputs=[*outputs, TxOut(Sat(change_sat), SCRIPT)])
        self._server.call("sendrawtransaction", payment.serialize().hex())
        await self.mine()
        self._coins.append((height, payment.outpoint(len(outputs))))
        return [payment.outpoint(index) for index in range(len(outputs))]

    async def reorganise(self, depth: int) -> int:
        lost = self._server.call("getblockhash", self._height() - depth + 1)
        self._server.call("invalidateblock", lost)
        # paid to another script, so that the new blocks cannot be the old ones
        return self._generate(depth + 1, p2wsh(b"\x52"))

    async def waiting(self) -> set[bytes]:
        return {txid_of_hex(txid) for txid in self._server.call("getrawmempool")}

    def _height(self) -> int:
        return int(self._server.call("getblockcount"))

    def _generate(self, count: int, script: bytes) -> int:
        self._server.call("generatetoaddress", count, address_of(script, "regtest"))
        return self._height()

    def _mine_for_ourselves(self, count: int) -> None:
        last = self._generate(count, SCRIPT)
        for height in range(last - count + 1, last - MATURE_BLOCKS + 1):
            block_hash = self._server.call("getblockhash", height)
            coinbase = parse_block(bytes.fromhex(self._server.call("getblock", block_hash, 0))).transactions[
                0
            ]
            self._payer.values[coinbase.outpoint(0)] = coinbase.outputs[0].value_sat
            self._coins.append((height, coinbase.outpoint(0)))
