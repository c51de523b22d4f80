"""The chain under a testnet, and the hand that moves it: the embedded one, or a bitcoind of its own."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import trio

from node.chain.bitcoind import BitcoindChain
from node.chain.embedded import EmbeddedChain
from node.chain.faucet import FaucetEmpty
from node.chain.http import Credentials
from node.chain.interface import Chain, ChainUnavailable
from node.chain.jsonrpc import RpcError
from node.chain.rpc_client import RpcClient
from node.chain.served import ServedChain
from node.lab.daemons import HOST, PASSWORD, USER, free_port
from wire.bitcoin.address import address_of
from wire.bitcoin.tx import TxOut, txid_of_hex

LOOK_SECONDS = 0.01
START_SECONDS = 60.0
PREMINED_BLOCKS = 110
WALLET = "miner"
PORT_FILE = "rpcport"
INSUFFICIENT_FUNDS = -6  # as bitcoind's wallet numbers it
SAT_PER_BITCOIN = 100_000_000


class NoBitcoind(Exception):
    """There is no bitcoind to start."""

    def __init__(self, named: str = "") -> None:
        where = f" at {named}" if named else ""
        super().__init__(
            f"there is no bitcoind{where}: put one on the path, or name it in the variable BITCOIND"
        )


class BitcoindFailed(Exception):
    """It was started, and does not answer."""

    def __init__(self, why: str) -> None:
        super().__init__(f"bitcoind does not start: {why}")


class PoorMiner(Exception):
    """The miner has not the coins that are wanted."""

    def __init__(self, need_sat: int) -> None:
        super().__init__(
            f"{need_sat:,} sat are wanted, fees included, more than the chain's miner has to give: "
            "mine, or want less"
        )


class Ground(Protocol):
    """A chain that can be told to mine and to pay."""

    @property
    def rpc_port(self) -> int:
        """Where other processes find it."""

    def chain(self) -> Chain:
        """The chain as a node in this process sees it."""

    async def mine(self, count: int) -> int:
        """Mine with what waits; the height then."""

    async def fund(self, outputs: Sequence[TxOut]) -> None:
        """Pay these, and confirm them.

        Raises:
            PoorMiner: there is not so much.
        """

    async def is_waiting(self, txids: Sequence[str]) -> bool:
        """Whether all of these transactions wait to be mined, or are mined."""

    async def height(self) -> int:
        """The height of the tip."""


class EmbeddedGround:
    """The embedded chain, served to other processes too."""

    def __init__(self, chain: EmbeddedChain, served: ServedChain) -> None:
        self._chain, self._served = chain, served

    @property
    def rpc_port(self) -> int:
        return self._served.port

    def chain(self) -> Chain:
        return self._chain

    async def mine(self, count: int) -> int:
        return (await self._chain.mine(count)).height

    async def fund(self, outputs: Sequence[TxOut]) -> None:
        try:
            await self._chain.fund_many(outputs)
        except FaucetEmpty:
            raise PoorMiner(sum(output.value_sat for output in outputs)) from None

    async def is_waiting(self, txids: Sequence[str]) -> bool:
        mempool = self._chain.regtest.mempool
        return all(txid_of_hex(txid) in mempool for txid in txids)

    async def height(self) -> int:
        return self._chain.regtest.height


class BitcoindGround:
    """A regtest bitcoind that belongs to the testnet, with a miner's wallet."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._rpc = RpcClient(HOST, port, Credentials(USER, PASSWORD))
        self._address = ""

    @property
    def rpc_port(self) -> int:
        return self._port

    def chain(self) -> Chain:
        return BitcoindChain(Credentials(USER, PASSWORD), port=self._port)

    async def ready(self) -> None:
        """Wait until it answers, and see that its miner has something to spend."""
        while True:
            try:
                known = await self._rpc.call("listwalletdir", type=dict[str, Any])
                break
            except ChainUnavailable:
                await trio.sleep(LOOK_SECONDS)
        has_wallet = any(entry["name"] == WALLET for entry in known["wallets"])
        if WALLET not in await self._rpc.call("listwallets", type=list[str]):
            await self._rpc.call("loadwallet" if has_wallet else "createwallet", WALLET, type=dict[str, Any])
        self._address = await self._rpc.call("getnewaddress", type=str)
        if await self.height() < PREMINED_BLOCKS:
            await self.mine(PREMINED_BLOCKS)

    async def mine(self, count: int) -> int:
        await self._rpc.call("generatetoaddress", count, self._address, type=list[str])
        return await self.height()

    async def fund(self, outputs: Sequence[TxOut]) -> None:
        amounts: dict[str, float] = {}
        for output in outputs:
            address = address_of(output.script, EmbeddedChain.network)
            assert address not in amounts, "every coin has an address of its own"
            amounts[address] = output.value_sat / SAT_PER_BITCOIN
        try:
            await self._rpc.call("sendmany", "", amounts, type=str)
        except RpcError as refused:
            if refused.code != INSUFFICIENT_FUNDS:
                raise
            raise PoorMiner(sum(output.value_sat for output in outputs)) from None
        await self.mine(1)

    async def is_waiting(self, txids: Sequence[str]) -> bool:
        waiting = set(await self._rpc.call("getrawmempool", type=list[str]))
        return waiting.issuperset(txids)

    async def height(self) -> int:
        return await self._rpc.call("getblockcount", type=int)


@asynccontextmanager
async def embedded_ground(directory: Path) -> AsyncIterator[Ground]:
    """The embedded chain on a directory, until the end of the block."""
    with EmbeddedChain(directory) as chain:
        served = ServedChain(chain, credentials=Credentials(USER, PASSWORD))
        async with trio.open_nursery() as nursery:
            await nursery.start(served.run)
            yield EmbeddedGround(chain, served)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def bitcoind_ground(directory: Path) -> AsyncIterator[Ground]:
    """A bitcoind on a directory, until the end of the block.

    Raises:
        NoBitcoind: there is none.
        BitcoindFailed: it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything runs beside it
    program, port = bitcoind_program(), free_port()
    # whoever finds it running without us can end it
    (directory / PORT_FILE).write_text(str(port))
    process = _started(program, _options(directory, port))
    try:
        ground = BitcoindGround(port)
        await _wait_for(ground, process)
        yield ground
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(process.wait)


def _started(program: str, options: list[str]) -> subprocess.Popen[bytes]:
    silent = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [program, *options], stdin=silent, stdout=silent, stderr=silent, start_new_session=True
        )
    except OSError:
        raise NoBitcoind(program) from None


async def _wait_for(ground: BitcoindGround, process: subprocess.Popen[bytes]) -> None:
    """Return once it answers; raises BitcoindFailed if it never will."""
    is_ready = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, process, nursery.cancel_scope)
        nursery.cancel_scope.deadline = trio.current_time() + START_SECONDS
        await ground.ready()
        is_ready = True
        nursery.cancel_scope.cancel()
    if is_ready:
        return
    why = "it did not answer in time" if process.poll() is None else f"it ended with code {process.poll()}"
    raise BitcoindFailed(why)


async def _watch(process: subprocess.Popen[bytes], scope: trio.CancelScope) -> None:
    while process.poll() is None:  # noqa: ASYNC110 - there is no event between processes
        await trio.sleep(LOOK_SECONDS)
    scope.cancel()


def bitcoind_program() -> str:
    """The bitcoind that BITCOIND names, or the one on the path, or the one that our tests install.

    Raises:
        NoBitcoind: there is none.
    """
    installed = Path.home() / ".cache/bitcoind/bin/bitcoind"
    named = os.environ.get("BITCOIND") or shutil.which("bitcoind") or (installed.exists() and str(installed))
    if not named:
        raise NoBitcoind
    return named


def _options(directory: Path, port: int) -> list[str]:
    access = [f"-rpcport={port}", f"-rpcuser={USER}", f"-rpcpassword={PASSWORD}"]
    alone = ["-listen=0", "-dnsseed=0", "-fixedseeds=0", "-networkactive=0", "-fallbackfee=0.00002"]
    return ["-regtest", "-server", f"-datadir={directory}", *access, *alone]
