"""Any bitcoind as a `Chain`, over its JSON-RPC; the chain that `rill chain` serves is one too.

A follower asks for the header of the block it stands on: the header says whether that block is still
on the best chain, and which comes before and after it. So following, catching up and walking back
through a reorganisation are the same step, and a follower holds nothing but a height and a hash.

At the tip it looks for another tip again and again. bitcoind could tell by itself (`waitfornewblock`),
but each caller that waits there takes one of its few worker threads, and five nodes of one machine
would take them all; so only a chain that we serve ourselves is waited for.
"""

import logging
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from node.chain.http import Credentials
from node.chain.interface import (
    MIN_FEERATE_PER_KW,
    BlockConnected,
    BlockDisconnected,
    BlockEvent,
    ChainTrouble,
    ChainUnavailable,
    FoundOutput,
    Rejected,
    Tip,
    UnknownBlock,
    UnspentOutput,
)
from node.chain.jsonrpc import METHOD_NOT_FOUND, MISC_ERROR, RpcError
from node.chain.rpc_client import RpcClient
from wire.bitcoin.block import CHAIN_HASH, parse_block
from wire.bitcoin.tx import OutPoint, Transaction, parse_transaction, txid_hex, txid_of_hex
from wire.scid import parts
from wire.units import Sat

log = logging.getLogger("rill.chain")

OURS = "/Rill:"
RPC_PORTS = {"bitcoin": 8332, "testnet": 18332, "testnet4": 48332, "signet": 38332, "regtest": 18443}
_DIRECTORIES = {"bitcoin": "", "testnet": "testnet3"}

REGTEST_FEERATE_PER_KW = 1000
MAX_TARGET_BLOCKS = 1008
HURRIED_BLOCKS = 2
SAT_PER_BITCOIN = 100_000_000
WEIGHT_PER_VBYTE = 4

REGTEST_POLL_SECONDS = 0.1
POLL_SECONDS = 1.0
LONG_POLL_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

OUT_OF_RANGE = -8
NOT_FOUND = -5
ALREADY_IN_CHAIN = -27
_KNOWN = ("txn-already-in-mempool", "txn-already-known", "txn-same-nonwitness-data-in-mempool")

T = TypeVar("T")


class WrongNetwork(ChainTrouble):
    """Its blocks are another network's."""

    def __init__(self, wanted: str, found: str) -> None:
        super().__init__(f"this node is for {wanted}, but its bitcoind follows the chain {found!r}")
        self.wanted, self.found = wanted, found


class StillSyncing(ChainTrouble):
    """It does not have all blocks yet."""

    def __init__(self, height: int, headers: int) -> None:
        super().__init__(f"bitcoind is still syncing: it has {height} of {headers} blocks")
        self.height, self.headers = height, headers


class Pruned(ChainTrouble):
    """It has thrown away blocks that we have not read."""

    def __init__(self, height: int) -> None:
        super().__init__(f"bitcoind has pruned block {height}, which this node still has to read")
        self.height = height


class ChainRefused(ChainTrouble):
    """It answers, but not to what we need of it."""

    def __init__(self, refused: RpcError) -> None:
        super().__init__(f"bitcoind refuses what this node needs of it: {refused.message} ({refused.code})")
        self.code = refused.code


class Overview(msgspec.Struct, frozen=True):
    """The part of `getblockchaininfo` that matters."""

    chain: str
    blocks: int
    headers: int
    bestblockhash: str
    initialblockdownload: bool = False
    pruneheight: int = 0


class NetworkOverview(msgspec.Struct, frozen=True):
    """The part of `getnetworkinfo` that matters."""

    subversion: str


class Header(msgspec.Struct, frozen=True):
    """The part of `getblockheader` that matters. A block that left the best chain has -1 confirmations."""

    height: int
    confirmations: int
    previousblockhash: str | None = None
    nextblockhash: str | None = None


class BlockOfIds(msgspec.Struct, frozen=True):
    """The part of `getblock` with txids that matters."""

    confirmations: int
    tx: list[str]


class OutputScript(msgspec.Struct, frozen=True):
    """The script of an output."""

    hex: str


class Output(msgspec.Struct, frozen=True):
    """The part of `gettxout` that matters."""

    bestblock: str
    confirmations: int
    value: Decimal
    scriptPubKey: OutputScript  # noqa: N815 - bitcoind's spelling

    @property
    def value_sat(self) -> Sat:
        return Sat(int(self.value * SAT_PER_BITCOIN))

    @property
    def script(self) -> bytes:
        return bytes.fromhex(self.scriptPubKey.hex)


class Estimate(msgspec.Struct, frozen=True):
    """What `estimatesmartfee` says, in bitcoin for 1,000 virtual bytes, if it can say anything."""

    feerate: Decimal | None = None


class MempoolFloor(msgspec.Struct, frozen=True):
    """The part of `getmempoolinfo` that matters."""

    mempoolminfee: Decimal


class PackageResult(msgspec.Struct, frozen=True):
    """What became of one transaction of a package."""

    error: str | None = None


class PackageVerdict(msgspec.Struct, frozen=True, rename={"results": "tx-results"}):
    """What became of a package, by wtxid."""

    package_msg: str
    results: dict[str, PackageResult]


def cookie_path(directory: Path, network: str) -> Path:
    """Where a bitcoind with this data directory leaves its cookie."""
    return directory / _DIRECTORIES.get(network, network) / ".cookie"


class BitcoindChain:
    """The chain of a bitcoind."""

    def __init__(
        self,
        secret: Credentials | Path,
        network: str = "regtest",
        host: str = "127.0.0.1",
        port: int | None = None,
        poll_seconds: float | None = None,
    ) -> None:
        """`secret` is a user and a password, or the path of the cookie."""
        self.network = network
        self.client = RpcClient(host, RPC_PORTS[network] if port is None else port, secret)
        usual = REGTEST_POLL_SECONDS if network == "regtest" else POLL_SECONDS
        self.poll_seconds = usual if poll_seconds is None else poll_seconds
        self._tells_of_blocks: bool | None = None
        self._feerates: dict[int, int] = {}
        self._is_away = False

    async def check(self, needed_height: int | None = None) -> None:
        """Whether it can serve us from this block on; asked once, at the start.

        Raises:
            WrongNetwork, StillSyncing, Pruned, WrongCredentials, ChainUnavailable: it cannot.
        """
        try:
            first = await self.client.call("getblockhash", 0, type=str)
            overview = await self._overview()
        except RpcError as refused:
            raise ChainRefused(refused) from None
        if txid_of_hex(first) != CHAIN_HASH[self.network]:
            raise WrongNetwork(self.network, overview.chain)
        if overview.initialblockdownload and self.network != "regtest":
            raise StillSyncing(overview.blocks, overview.headers)
        if needed_height is not None and needed_height < overview.pruneheight:
            raise Pruned(needed_height)
        await self.tells_of_blocks()

    async def tells_of_blocks(self) -> bool:
        """Whether it may be asked to answer when a block comes."""
        if self._tells_of_blocks is None:
            found = await self.client.call("getnetworkinfo", type=NetworkOverview)
            self._tells_of_blocks = found.subversion.startswith(OURS)
        return self._tells_of_blocks

    async def patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, however long the backend is away; asked again after longer and longer pauses.

        Raises:
            ChainTrouble: it will not answer that.
        """
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = await ask()
            except ChainUnavailable as away:
                if not self._is_away:
                    log.warning("the chain backend is away", extra={"why": str(away)})
                self._is_away = True
            except RpcError as refused:
                raise ChainRefused(refused) from None
            else:
                if self._is_away:
                    log.info("the chain backend is back")
                self._is_away = False
                return answer
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    # --- what every Chain does

    async def tip(self) -> Tip:
        found = await self.patiently(self._overview)
        return Tip(found.blocks, txid_of_hex(found.bestblockhash))

    async def funding_output(self, short_channel_id: int) -> FoundOutput | None:
        return await self.patiently(lambda: self._funding_output(*parts(short_channel_id)))

    async def output(self, outpoint: OutPoint) -> UnspentOutput | None:
        return await self.patiently(lambda: self._output(outpoint))

    async def broadcast(self, *transactions: Transaction) -> None:
        for transaction in transactions:
            refused = await self._refusal(transaction)
            if refused is None:
                continue
            if transaction is transactions[-1]:
                raise refused
            # alone it is refused, but its child may pay for it
            await self._submit_package(transactions, refused)
            return

    async def feerate_per_kw(self, target_blocks: int) -> int:
        target = min(max(1, target_blocks), MAX_TARGET_BLOCKS)
        try:
            rate = await self._estimate(target)
        except ChainUnavailable:
            if target in self._feerates:
                return self._feerates[target]
            rate = await self.patiently(lambda: self._estimate(target))
        self._feerates[target] = max(MIN_FEERATE_PER_KW, rate)
        return self._feerates[target]

    def follow(self, from_height: int, last_hash: bytes | None = None) -> "BitcoindFollower":
        return BitcoindFollower(self, from_height, last_hash)

    # --- how it asks

    async def _overview(self) -> Overview:
        return await self.client.call("getblockchaininfo", type=Overview)

    async def hash_at(self, height: int) -> str | None:
        """The hash of the best chain's block at a height, as shown, if it has one."""
        try:
            return await self.client.call("getblockhash", height, type=str)
        except RpcError as refused:
            if refused.code == OUT_OF_RANGE:
                return None
            raise

    async def _funding_output(self, height: int, position: int, index: int) -> FoundOutput | None:
        block_hash = await self.hash_at(height)
        if block_hash is None:
            return None
        try:
            block = await self.client.call("getblock", block_hash, 1, type=BlockOfIds)
        except RpcError as refused:
            if refused.code != MISC_ERROR:
                raise
            log.warning("a channel cannot be verified: its block is pruned", extra={"height": height})
            return None
        if position >= len(block.tx):
            return None
        outpoint = OutPoint(txid_of_hex(block.tx[position]), index)
        unspent = await self._unspent(outpoint)
        if unspent is not None:
            return FoundOutput(outpoint, unspent.script, unspent.value_sat, True, unspent.confirmations)
        raw = await self.client.call("getrawtransaction", block.tx[position], False, block_hash, type=str)
        outputs = parse_transaction(bytes.fromhex(raw)).outputs
        if index >= len(outputs):
            return None
        return FoundOutput(
            outpoint, outputs[index].script, outputs[index].value_sat, False, block.confirmations
        )

    async def _unspent(self, outpoint: OutPoint) -> Output | None:
        asked = (txid_hex(outpoint.txid), outpoint.index, False)
        found = await self.client.call("gettxout", *asked, type=msgspec.Raw)
        return msgspec.json.decode(found, type=Output | None)

    async def _output(self, outpoint: OutPoint) -> UnspentOutput | None:
        found = await self._unspent(outpoint)
        if found is None:
            return None
        best = await self.client.call("getblockheader", found.bestblock, type=Header)
        return UnspentOutput(found.value_sat, found.script, best.height - found.confirmations + 1)

    async def _refusal(self, transaction: Transaction) -> Rejected | None:
        try:
            # what a transaction may cost was decided by whoever made it, so no limit is set here
            await self.client.call("sendrawtransaction", transaction.serialize().hex(), 0, type=str)
        except RpcError as refused:
            if refused.code == ALREADY_IN_CHAIN or refused.message.startswith(_KNOWN):
                return None
            return Rejected(transaction.txid, refused.message)
        return None

    async def _submit_package(self, transactions: tuple[Transaction, ...], parent_refused: Rejected) -> None:
        raw = [transaction.serialize().hex() for transaction in transactions]
        try:
            verdict = await self.client.call("submitpackage", raw, 0, type=PackageVerdict)
        except RpcError as refused:
            if refused.code == METHOD_NOT_FOUND:
                raise parent_refused from None
            raise Rejected(transactions[-1].txid, refused.message) from None
        if verdict.package_msg == "success":
            return
        for transaction in transactions:
            result = verdict.results.get(txid_hex(transaction.wtxid), PackageResult())
            if result.error is not None and not result.error.startswith(_KNOWN):
                raise Rejected(transaction.txid, result.error)
        raise Rejected(transactions[-1].txid, verdict.package_msg)

    async def _estimate(self, target_blocks: int) -> int:
        mode = "CONSERVATIVE" if target_blocks <= HURRIED_BLOCKS else "ECONOMICAL"
        estimate = await self.client.call("estimatesmartfee", target_blocks, mode, type=Estimate)
        if estimate.feerate is not None:
            return _per_kw(estimate.feerate)
        if self.network == "regtest":
            return REGTEST_FEERATE_PER_KW
        return _per_kw((await self.client.call("getmempoolinfo", type=MempoolFloor)).mempoolminfee)


def _per_kw(bitcoin_per_kvb: Decimal) -> int:
    return -(-int(bitcoin_per_kvb * SAT_PER_BITCOIN) // WEIGHT_PER_VBYTE)


class BitcoindFollower:
    """The stream of one caller's blocks: the last one given, and how to ask for what is next to it."""

    def __init__(self, chain: BitcoindChain, from_height: int, last_hash: bytes | None) -> None:
        self._chain = chain
        self._height = from_height - 1
        self._hash = None if last_hash is None else txid_hex(last_hash)
        self._next: str | None = None

    def __aiter__(self) -> "BitcoindFollower":
        return self

    async def __anext__(self) -> BlockEvent:
        while True:
            event = await self._chain.patiently(self._step)
            if event is not None:
                return event
            await self._chain.patiently(self._wait)

    async def _step(self) -> BlockEvent | None:
        """The next step towards the tip, or None when standing on it."""
        if self._hash is None and self._height >= 0:
            self._hash = await self._chain.hash_at(self._height)
        if self._next is None and self._hash is not None:
            header = await self._header(self._hash)
            if header.confirmations < 0:
                return self._back(self._hash, header)
            self._next = header.nextblockhash
        elif self._next is None:
            self._next = await self._chain.hash_at(self._height + 1)
        return None if self._next is None else await self._forward(self._next)

    async def _forward(self, block_hash: str) -> BlockEvent | None:
        """Read the next block, and in the same breath which one comes after it."""
        raw, asked = await self._chain.client.batch(
            ("getblock", (block_hash, 0)), ("getblockheader", (block_hash,))
        )
        header = asked.read(Header)
        self._next = None
        if header.confirmations < 0:
            return await self._step()
        try:
            block = parse_block(bytes.fromhex(raw.read(str)))
        except RpcError as refused:
            if refused.code == MISC_ERROR:
                raise Pruned(header.height) from None
            raise
        self._height, self._hash, self._next = header.height, block_hash, header.nextblockhash
        return BlockConnected(header.height, block.header.block_hash, block.transactions)

    def _back(self, block_hash: str, header: Header) -> BlockEvent:
        self._height, self._hash = header.height - 1, header.previousblockhash
        return BlockDisconnected(header.height, txid_of_hex(block_hash))

    async def _header(self, block_hash: str) -> Header:
        try:
            return await self._chain.client.call("getblockheader", block_hash, type=Header)
        except RpcError as refused:
            if refused.code == NOT_FOUND:
                raise UnknownBlock(txid_of_hex(block_hash)) from None
            raise

    async def _wait(self) -> None:
        """Return when the tip is not the block we stand on, or after a while."""
        client = self._chain.client
        if self._hash is not None and await self._chain.tells_of_blocks():
            await client.wait("waitfornewblock", int(LONG_POLL_SECONDS * 1000), self._hash, type=msgspec.Raw)
            return
        while True:
            await trio.sleep(self._chain.poll_seconds)
            if await client.call("getbestblockhash", type=str) != self._hash:
                return
