"""The methods of bitcoind's JSON-RPC that Lightning nodes and their tests use, on the embedded chain.

Names, parameters, result fields and error numbers are bitcoind's. What has no meaning here, such as
a limit on the feerate of one's own transaction, is taken and ignored.
"""
# ruff: noqa: ARG002

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import trio

from node.chain.admission import MIN_RELAY_SAT_PER_KVB
from node.chain.embedded import EmbeddedChain
from node.chain.faucet import FaucetEmpty
from node.chain.interface import Rejected
from node.chain.json_views import (
    DIFFICULTY,
    SAT_PER_BITCOIN,
    bitcoin,
    block_view,
    chainwork,
    entry_view,
    header_view,
    output_view,
    transaction_view,
)
from node.chain.jsonrpc import INVALID_PARAMETER, MISC_ERROR, RpcError, Table
from wire.bitcoin.address import InvalidAddress, address_of, script_of
from wire.bitcoin.block import Block
from wire.bitcoin.tx import (
    MalformedTransaction,
    OutPoint,
    Transaction,
    TxOut,
    parse_transaction,
    txid_hex,
    txid_of_hex,
)
from wire.units import MAX_SAT, Sat

TYPE_ERROR = -3
NOT_FOUND = -5
INSUFFICIENT_FUNDS = -6
DESERIALIZATION = -22
VERIFY_ERROR = -25
VERIFY_REJECTED = -26
ALREADY_IN_CHAIN = -27

VERSION = 290000
SUBVERSION = "/Rill:0.1.0/"
PROTOCOL_VERSION = 70016
MAX_MEMPOOL_BYTES = 300_000_000
MAX_PACKAGE = 25
MAX_TARGET_BLOCKS = 1008
WEIGHT_PER_VBYTE = 4
MISSING_INPUTS = "bad-txns-inputs-missingorspent"

Natural = Annotated[int, msgspec.Meta(ge=0)]
Feerate = Decimal | None


class PrevOut(msgspec.Struct, frozen=True):
    """An output that `gettxspendingprevout` is asked about."""

    txid: str
    vout: Natural


class ServedMethods:
    """Every method, on one chain. `stopped` is set by `stop`."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain, self._regtest = chain, chain.regtest
        self._started_at = time.monotonic()
        self.stopped = trio.Event()
        self.table = Table(*(getattr(self, name) for name in vars(ServedMethods) if not name.startswith("_")))

    # --- the chain

    async def getblockchaininfo(self) -> dict[str, Any]:
        """The state of the chain."""
        tip = await self._chain.tip()
        header = self._block(txid_hex(tip.block_hash)).header
        return {
            "chain": self._chain.network,
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": txid_hex(tip.block_hash),
            "bits": f"{header.bits:08x}",
            "difficulty": DIFFICULTY,
            "time": header.time,
            "mediantime": self._regtest.median_time_past(tip.height),
            "verificationprogress": 1,
            "initialblockdownload": False,
            "chainwork": chainwork(tip.height),
            "size_on_disk": 0,
            "pruned": False,
            "softforks": {},
            "warnings": [],
        }

    async def getblockcount(self) -> int:
        """The height of the tip."""
        return self._regtest.height

    async def getbestblockhash(self) -> str:
        """The hash of the tip."""
        return txid_hex((await self._chain.tip()).block_hash)

    async def getblockhash(self, height: int) -> str:
        """The hash of the block of the best chain at a height."""
        block_hash = self._regtest.block_hash(height)
        if block_hash is None:
            raise RpcError(INVALID_PARAMETER, "Block height out of range")
        return txid_hex(block_hash)

    async def getblockheader(self, blockhash: str, verbose: bool = True) -> dict[str, Any] | str:
        """A header, on whichever branch: shown, or serialised."""
        block = self._block(blockhash)
        if not verbose:
            return block.header.serialize().hex()
        return header_view(self._regtest, block.header, len(block.transactions))

    async def getblock(self, blockhash: str, verbosity: int | bool = 1) -> dict[str, Any] | str:
        """A block, on whichever branch: serialised (0), with its txids (1), or its transactions (2)."""
        block = self._block(blockhash)
        if not verbosity:
            return block.serialize().hex()
        return block_view(self._regtest, block, int(verbosity), self._chain.network)

    async def waitfornewblock(self, timeout: Natural = 0, current_tip: str | None = None) -> dict[str, Any]:
        """Wait until the tip is another, at most so many milliseconds; the tip then."""
        seen = (
            (await self._chain.tip()).block_hash if current_tip is None else _hash(current_tip, "current_tip")
        )
        while (await self._chain.tip()).block_hash == seen:
            if not await self._changed_within(timeout):
                break
        return await self._shown_tip()

    async def waitforblockheight(self, height: int, timeout: Natural = 0) -> dict[str, Any]:
        """Wait until the chain has this height, at most so many milliseconds; the tip then."""
        while self._regtest.height < height:
            if not await self._changed_within(timeout):
                break
        return await self._shown_tip()

    async def invalidateblock(self, blockhash: str) -> None:
        """Leave the best chain from this block on."""
        block_hash = self._block(blockhash).header.block_hash
        if self._regtest.block_hash(0) == block_hash:
            raise RpcError(MISC_ERROR, "the first block cannot be invalid")
        await self._chain.invalidate(block_hash)

    # --- transactions

    async def getrawtransaction(
        self, txid: str, verbosity: int | bool = 0, blockhash: str | None = None
    ) -> dict[str, Any] | str:
        """A transaction that waits or was mined: serialised, or shown."""
        wanted = _hash(txid, "txid")
        block = None if blockhash is None else self._block(blockhash)
        transaction, block = self._find(wanted, block)
        raw = transaction.serialize().hex()
        if not verbosity:
            return raw
        view = {**transaction_view(transaction, self._chain.network), "hex": raw}
        if block is not None:
            header = header_view(self._regtest, block.header, len(block.transactions))
            view |= {"blockhash": header["hash"], "confirmations": max(0, header["confirmations"])}
            view |= {"time": header["time"], "blocktime": header["time"]}
        return view

    async def gettxout(self, txid: str, n: Natural, include_mempool: bool = True) -> dict[str, Any] | None:
        """An unspent output, or null."""
        outpoint = OutPoint(_hash(txid, "txid"), n)
        mempool = self._regtest.mempool
        coin = mempool.find(outpoint) if include_mempool else self._regtest.coins.find(outpoint)
        if coin is None or (include_mempool and mempool.is_spent(outpoint)):
            return None
        return {
            "bestblock": await self.getbestblockhash(),
            "confirmations": 0 if coin.height is None else self._regtest.height - coin.height + 1,
            **output_view(coin.output(), self._chain.network),
            "coinbase": coin.is_coinbase,
        }

    async def sendrawtransaction(
        self, hexstring: str, maxfeerate: Feerate = None, maxburnamount: Feerate = None
    ) -> str:
        """Put a transaction into the mempool; its txid."""
        transaction = _transaction(hexstring)
        is_waiting = transaction.txid in self._regtest.mempool
        outpoints = map(transaction.outpoint, range(len(transaction.outputs)))
        if not is_waiting and any(map(self._regtest.coins.find, outpoints)):
            raise RpcError(ALREADY_IN_CHAIN, "Transaction outputs already in utxo set")
        self._submit(transaction)
        return txid_hex(transaction.txid)

    async def submitpackage(
        self, package: list[str], maxfeerate: Feerate = None, maxburnamount: Feerate = None
    ) -> dict[str, Any]:
        """Put a transaction, or a parent and the child that pays for it, into the mempool."""
        transactions = self._package(package)
        before = {entry.txid for entry in self._regtest.mempool}
        refused: dict[bytes, str] = {}
        try:
            self._regtest.submit(*transactions)
        except Rejected as rejected:
            refused[rejected.txid] = rejected.reason
        waiting = {entry.txid for entry in self._regtest.mempool}
        results = {txid_hex(tx.wtxid): self._package_result(tx, refused) for tx in transactions}
        return {
            "package_msg": "transaction failed" if refused else "success",
            "tx-results": results,
            "replaced-transactions": [txid_hex(txid) for txid in before - waiting],
        }

    async def testmempoolaccept(self, rawtxs: list[str], maxfeerate: Feerate = None) -> list[dict[str, Any]]:
        """Whether the mempool would take each of these alone."""
        return [self._try_out(transaction) for transaction in self._package(rawtxs)]

    async def getmempoolinfo(self) -> dict[str, Any]:
        """The state of the mempool."""
        entries = list(self._regtest.mempool)
        floor = bitcoin(MIN_RELAY_SAT_PER_KVB)
        return {
            "loaded": True,
            "size": len(entries),
            "bytes": sum(entry.vsize for entry in entries),
            "usage": sum(entry.vsize for entry in entries),
            "total_fee": bitcoin(sum(entry.fee_sat for entry in entries)),
            "maxmempool": MAX_MEMPOOL_BYTES,
            "mempoolminfee": floor,
            "minrelaytxfee": floor,
            "incrementalrelayfee": floor,
            "unbroadcastcount": 0,
            "fullrbf": True,
        }

    async def getrawmempool(
        self, verbose: bool = False, mempool_sequence: bool = False
    ) -> list[str] | dict[str, Any]:
        """What waits: the txids, or each shown; or the txids and how often they have changed."""
        txids = [txid_hex(entry.txid) for entry in self._regtest.mempool]
        if verbose:
            return {txid_hex(entry.txid): entry_view(self._regtest, entry) for entry in self._regtest.mempool}
        return {"txids": txids, "mempool_sequence": len(txids)} if mempool_sequence else txids

    async def getmempoolentry(self, txid: str) -> dict[str, Any]:
        """A transaction that waits, with its fees and its kin."""
        wanted = _hash(txid, "txid")
        if wanted not in self._regtest.mempool:
            raise RpcError(NOT_FOUND, "Transaction not in mempool")
        return entry_view(self._regtest, self._regtest.mempool[wanted])

    async def gettxspendingprevout(self, outputs: list[PrevOut]) -> list[dict[str, Any]]:
        """Which waiting transactions spend these outputs."""
        found: list[dict[str, Any]] = []
        for output in outputs:
            spender = self._regtest.mempool.spender(OutPoint(_hash(output.txid, "txid"), output.vout))
            spent = {"spendingtxid": txid_hex(spender)} if spender is not None else {}
            found.append({"txid": output.txid, "vout": output.vout, **spent})
        return found

    async def estimatesmartfee(self, conf_target: int, estimate_mode: str = "unset") -> dict[str, Any]:
        """The feerate of this chain, in bitcoin for 1,000 virtual bytes, whatever the target."""
        if not 1 <= conf_target <= MAX_TARGET_BLOCKS:
            why = f"Invalid conf_target, must be between 1 and {MAX_TARGET_BLOCKS}"
            raise RpcError(INVALID_PARAMETER, why)
        rate = await self._chain.feerate_per_kw(conf_target)
        return {"feerate": bitcoin(rate * WEIGHT_PER_VBYTE), "blocks": conf_target}

    # --- the miner and its wallet

    async def generatetoaddress(
        self, nblocks: Natural, address: str, maxtries: Natural = 1_000_000
    ) -> list[str]:
        """Mine blocks that pay to an address; their hashes."""
        try:
            script = self._script(address)
        except InvalidAddress:
            raise RpcError(NOT_FOUND, "Error: Invalid address") from None
        before = self._regtest.height
        await self._chain.mine(nblocks, script)
        return [await self.getblockhash(before + number) for number in range(1, nblocks + 1)]

    async def generateblock(
        self, output: str, transactions: list[str], submit: bool = True
    ) -> dict[str, Any]:
        """Mine one block with exactly these transactions, named or serialised; its hash."""
        if not submit:
            raise RpcError(INVALID_PARAMETER, "a block that is not submitted cannot be made here")
        try:
            script = self._script(output)
        except InvalidAddress:
            raise RpcError(NOT_FOUND, "Error: Invalid address or descriptor") from None
        chosen = [self._waiting_or_new(text) for text in transactions]
        try:
            tip = await self._chain.mine_only(chosen, script)
        except Rejected as rejected:
            raise RpcError(VERIFY_ERROR, f"testBlockValidity failed: {rejected.reason}") from None
        return {"hash": txid_hex(tip.block_hash)}

    async def getnewaddress(self, label: str = "", address_type: str = "bech32") -> str:
        """The address of the miner's wallet, which has only one."""
        return address_of(self._chain.faucet.script, self._chain.network)

    async def sendtoaddress(self, address: str, amount: Decimal, comment: str = "") -> str:
        """Pay from the miner's wallet; the txid of what waits to be mined."""
        try:
            script = self._script(address)
        except InvalidAddress:
            raise RpcError(NOT_FOUND, f"Invalid Bitcoin address: {address}") from None
        try:
            [outpoint] = self._chain.faucet.pay([TxOut(_sat(amount), script)])
        except FaucetEmpty:
            raise RpcError(INSUFFICIENT_FUNDS, "Insufficient funds") from None
        except Rejected as rejected:
            raise RpcError(VERIFY_REJECTED, rejected.reason) from None
        return txid_hex(outpoint.txid)

    # --- the server

    async def getnetworkinfo(self) -> dict[str, Any]:
        """What we are, in the words of a Bitcoin node; it has no peers."""
        return {
            "version": VERSION,
            "subversion": SUBVERSION,
            "protocolversion": PROTOCOL_VERSION,
            "localservices": "0000000000000009",
            "localservicesnames": ["NETWORK", "WITNESS"],
            "localrelay": True,
            "timeoffset": 0,
            "networkactive": True,
            "connections": 0,
            "connections_in": 0,
            "connections_out": 0,
            "networks": [],
            "relayfee": bitcoin(MIN_RELAY_SAT_PER_KVB),
            "incrementalfee": bitcoin(MIN_RELAY_SAT_PER_KVB),
            "localaddresses": [],
            "warnings": [],
        }

    async def uptime(self) -> int:
        """For how many seconds this has been served."""
        return int(time.monotonic() - self._started_at)

    async def echo(self) -> list[str]:
        """Nothing; a client sees that it is heard."""
        return []

    async def help(self, command: str | None = None) -> str:
        """The methods, or what one of them takes."""
        methods = self.table.methods
        if command is None:
            return "\n".join(method.usage.partition("\n")[0] for method in methods.values())
        return methods[command].usage if command in methods else f"help: unknown command: {command}\n"

    async def stop(self) -> str:
        """End the chain."""
        self.stopped.set()
        return "Rill chain stopping"

    # --- parts of these

    async def _shown_tip(self) -> dict[str, Any]:
        tip = await self._chain.tip()
        return {"hash": txid_hex(tip.block_hash), "height": tip.height}

    async def _changed_within(self, timeout_milliseconds: int) -> bool:
        """Wait for the chain to change; false if it has not. No time is no limit."""
        with trio.move_on_after(
            timeout_milliseconds / 1000 if timeout_milliseconds else float("inf")
        ) as scope:
            await self._chain.wait_for_change()
        return not scope.cancelled_caught

    def _block(self, shown: str) -> Block:
        block_hash = _hash(shown, "blockhash")
        if self._regtest.find(block_hash) is None:
            raise RpcError(NOT_FOUND, "Block not found")
        return self._regtest.block(block_hash)

    def _find(self, txid: bytes, block: Block | None) -> tuple[Transaction, Block | None]:
        """A transaction, and the block that it is in."""
        if block is None and txid in self._regtest.mempool:
            return self._regtest.mempool[txid].transaction, None
        for searched in [block] if block is not None else self._blocks_backwards():
            for transaction in searched.transactions:
                if transaction.txid == txid:
                    return transaction, searched
        where = "in the provided block" if block is not None else "or waiting"
        raise RpcError(NOT_FOUND, f"No such transaction found {where}")

    def _blocks_backwards(self) -> Iterator[Block]:
        """The blocks of the best chain, the last first: new ones are asked for most."""
        for height in range(self._regtest.height, -1, -1):
            block_hash = self._regtest.block_hash(height)
            assert block_hash is not None, "the chain does not change while this looks"
            yield self._regtest.block(block_hash)

    def _submit(self, transaction: Transaction) -> None:
        try:
            self._regtest.submit(transaction)
        except Rejected as rejected:
            code = VERIFY_ERROR if rejected.reason == MISSING_INPUTS else VERIFY_REJECTED
            raise RpcError(code, rejected.reason) from None

    def _package(self, package: list[str]) -> list[Transaction]:
        if not 1 <= len(package) <= MAX_PACKAGE:
            raise RpcError(INVALID_PARAMETER, f"Array must contain between 1 and {MAX_PACKAGE} transactions.")
        return [_transaction(text) for text in package]

    def _package_result(self, transaction: Transaction, refused: dict[bytes, str]) -> dict[str, Any]:
        txid = transaction.txid
        result: dict[str, Any] = {"txid": txid_hex(txid)}
        if txid in self._regtest.mempool:
            entry = self._regtest.mempool[txid]
            return {**result, "vsize": entry.vsize, "fees": {"base": bitcoin(entry.fee_sat)}}
        return {**result, "error": refused.get(txid, "package-not-validated")}

    def _try_out(self, transaction: Transaction) -> dict[str, Any]:
        result: dict[str, Any] = {"txid": txid_hex(transaction.txid), "wtxid": txid_hex(transaction.wtxid)}
        try:
            entry = self._regtest.try_out(transaction)
        except Rejected as rejected:
            reason = "missing-inputs" if rejected.reason == MISSING_INPUTS else rejected.reason
            return {
                **result,
                "allowed": False,
                "reject-reason": reason.partition(",")[0],
                "reject-details": reason,
            }
        if entry is None:
            is_waiting = transaction.txid in self._regtest.mempool
            reason = "txn-already-in-mempool" if is_waiting else "txn-already-known"
            return {**result, "allowed": False, "reject-reason": reason, "reject-details": reason}
        fees = {
            "base": bitcoin(entry.fee_sat),
            "effective-feerate": bitcoin(entry.fee_sat * 1000 // entry.vsize),
            "effective-includes": [result["wtxid"]],
        }
        return {**result, "allowed": True, "vsize": entry.vsize, "fees": fees}

    def _script(self, text: str) -> bytes:
        """What an address, or a descriptor `raw(HEX)` or `addr(ADDRESS)`, pays to."""
        if text.startswith("raw(") and text.endswith(")"):
            return _bytes(text[4:-1])
        if text.startswith("addr(") and text.endswith(")"):
            text = text[5:-1]
        return script_of(text, self._chain.network)

    def _waiting_or_new(self, text: str) -> Transaction:
        if len(text) != 64:
            return _transaction(text)
        txid = _hash(text, "txid")
        if txid not in self._regtest.mempool:
            raise RpcError(NOT_FOUND, f"Transaction {text} not in mempool.")
        return self._regtest.mempool[txid].transaction


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise RpcError(DESERIALIZATION, "TX decode failed") from None


def _hash(text: str, name: str) -> bytes:
    """The hash that a parameter shows."""
    if len(text) != 64:
        raise RpcError(INVALID_PARAMETER, f"{name} must be of length 64 (not {len(text)}, for '{text}')")
    try:
        return txid_of_hex(text)
    except ValueError:
        raise RpcError(INVALID_PARAMETER, f"{name} must be hexadecimal string (not '{text}')") from None


def _sat(amount: Decimal) -> Sat:
    """The satoshis of an amount of bitcoin that somebody wants to send."""
    # first of all that it is a number at all, and no astronomical one
    if not (amount.is_finite() and 0 < amount <= MAX_SAT // SAT_PER_BITCOIN):
        raise RpcError(TYPE_ERROR, "Invalid amount")
    amount_sat = amount * SAT_PER_BITCOIN
    if amount_sat != int(amount_sat):
        raise RpcError(TYPE_ERROR, "Invalid amount")
    return Sat(int(amount_sat))


def _transaction(text: str) -> Transaction:
    try:
        return parse_transaction(_bytes(text))
    except MalformedTransaction:
        message = "TX decode failed. Make sure the tx has at least one input."
        raise RpcError(DESERIALIZATION, message) from None
