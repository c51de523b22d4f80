"""The server that an Electrum wallet needs, over a bitcoind: as much of protocol 1.6 as the wallet speaks.

It keeps, in memory, which transactions touch which script. Blocks are read once each; a block that is no
longer in the chain is forgotten with all that it had. JSON-RPC, a line each way.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import trio

from tests.interop.bitcoin import Bitcoind, BitcoindRefused
from wire.bitcoin.block import Block, parse_block
from wire.bitcoin.tx import OutPoint, Transaction, parse_transaction, txid_hex
from wire.crypto.hashes import sha256, sha256d

VERSION = "1.6"
RELAY_FEE, FEE = 1e-5, 2e-5  # bitcoin per kvB
HEADERS_AT_ONCE = 2016
COINBASE_TXID = bytes(32)
REFUSED, UNKNOWN_METHOD = 1, -32601
LOOK_SECONDS = 0.1
MAX_LINE = 1 << 23


def scripthash(script: bytes) -> str:
    """The name of a script in this protocol."""
    return sha256(script)[::-1].hex()


def branch(txids: list[bytes], at: int) -> list[str]:
    """The hashes beside the way from a transaction to its block's merkle root."""
    beside: list[str] = []
    while len(txids) > 1:
        if len(txids) % 2:
            txids = [*txids, txids[-1]]
        beside.append(txids[at ^ 1][::-1].hex())
        txids = [sha256d(txids[each], txids[each + 1]) for each in range(0, len(txids), 2)]
        at //= 2
    return beside


class Index:
    """The chain and the mempool, by script."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.blocks: list[Block] = []
        self.waiting: dict[bytes, Transaction] = {}
        self._outputs: dict[OutPoint, str] = {}
        self._touched: dict[bytes, set[str]] = {}

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def header(self, height: int) -> str:
        return self.blocks[height].header.serialize().hex()

    def connect(self, block_hash: str, block: Block) -> None:
        self.hashes.append(block_hash)
        self.blocks.append(block)
        for transaction in block.transactions:
            self._learn(transaction)

    def wait(self, transactions: list[Transaction]) -> None:
        """What is in the mempool now, parents before children."""
        self.waiting = {transaction.txid: transaction for transaction in transactions}
        for transaction in transactions:
            self._learn(transaction)

    def _learn(self, transaction: Transaction) -> None:
        touched = self._touched.setdefault(transaction.txid, set())
        for number, output in enumerate(transaction.outputs):
            touched.add(scripthash(output.script))
            self._outputs[transaction.outpoint(number)] = scripthash(output.script)
        touched.update(
            self._outputs[spent.outpoint] for spent in transaction.inputs if spent.outpoint in self._outputs
        )

    def history(self, script: str) -> Iterator[dict[str, Any]]:
        """The transactions of a script, in the order that the protocol wants."""
        for height, block in enumerate(self.blocks):
            for transaction in block.transactions:
                if script in self._touched[transaction.txid]:
                    yield {"height": height, "tx_hash": txid_hex(transaction.txid)}
        found = [
            (int(any(spent.outpoint.txid in self.waiting for spent in transaction.inputs)), txid[::-1])
            for txid, transaction in self.waiting.items()
            if script in self._touched[txid]
        ]
        for is_chained, shown in sorted(found):
            yield {"height": -is_chained, "tx_hash": shown.hex(), "fee": 0}

    def status(self, script: str) -> str | None:
        """What changes when a script's history does."""
        text = "".join(f"{row['tx_hash']}:{row['height']}:" for row in self.history(script))
        return hashlib.sha256(text.encode()).hexdigest() if text else None

    def merkle(self, txid: str, height: int) -> dict[str, Any]:
        txids = [transaction.txid for transaction in self.blocks[height].transactions]
        at = [txid_hex(each) for each in txids].index(txid)
        return {"block_height": height, "pos": at, "merkle": branch(txids, at)}


class Session:
    """One wallet's connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream, self._writing = stream, trio.Lock()
        self.scripts: dict[str, str | None] = {}
        self.wants_headers = False

    async def tell(self, message: dict[str, Any]) -> None:
        async with self._writing:
            await self._stream.send_all(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")

    async def lines(self) -> Any:
        rest = b""
        async for chunk in self._stream:
            *lines, rest = (rest + chunk).split(b"\n")
            assert len(rest) < MAX_LINE, "no request is that long"
            for line in lines:
                yield line


class ElectrumServer:
    """Answers wallets, and tells them of blocks and payments."""

    def __init__(self, bitcoind: Bitcoind) -> None:
        self._bitcoind, self._index = bitcoind, Index()
        self._sessions: set[Session] = set()
        self.looking = trio.Lock()
        self.port = 0
        self._methods: dict[str, Callable[..., Any]] = {
            "server.version": lambda *_: ["a test's server", VERSION],
            "server.features": self._features,
            "server.ping": lambda *_: None,
            "server.banner": lambda: "",
            "server.donation_address": lambda: "",
            "server.peers.subscribe": list,
            "mempool.get_fee_histogram": list,
            "mempool.get_info": lambda: {
                "mempoolminfee": 1e-5,
                "minrelaytxfee": 1e-5,
                "incrementalrelayfee": 1e-5,
            },
            "blockchain.estimatefee": lambda *_: FEE,
            "blockchain.block.header": self._header,
            "blockchain.block.headers": self._headers,
            "blockchain.scripthash.get_history": lambda script: list(self._index.history(script)),
            "blockchain.transaction.get_merkle": self._index.merkle,
            "blockchain.transaction.get": lambda txid, *_: bitcoind.call("getrawtransaction", txid),
            "blockchain.transaction.broadcast": self._broadcast,
            "blockchain.transaction.broadcast_package": self._broadcast_package,
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        await self.look()
        async with trio.open_nursery() as nursery:
            [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
            self.port = listener.socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self._serve, [listener])
            task_status.started()
            while True:
                await trio.sleep(LOOK_SECONDS)
                await self.look()

    # --- what bitcoind has

    async def look(self) -> None:
        """Take what is new, and tell whom it concerns."""
        async with self.looking:
            best = self._index.hashes[-1:]
            await self._follow()
            await self._mempool()
            for session in list(self._sessions):
                try:
                    await self._tell(session, is_new=best != self._index.hashes[-1:])
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._sessions.discard(session)

    async def _follow(self) -> None:
        height = await self._bitcoind.call("getblockcount")
        index = self._index
        while index.hashes and (
            index.height > height
            or index.hashes[-1] != await self._bitcoind.call("getblockhash", index.height)
        ):
            del index.hashes[-1], index.blocks[-1]
        for each in range(index.height + 1, height + 1):
            block_hash = await self._bitcoind.call("getblockhash", each)
            raw = bytes.fromhex(await self._bitcoind.call("getblock", block_hash, 0))
            index.connect(block_hash, parse_block(raw))

    async def _mempool(self) -> None:
        names = await self._bitcoind.call("getrawmempool", True)
        if {txid_hex(txid) for txid in self._index.waiting} == names.keys():
            return
        ordered = sorted(names, key=lambda txid: names[txid]["ancestorcount"])
        raws = [await self._bitcoind.call("getrawtransaction", txid) for txid in ordered]
        self._index.wait([parse_transaction(bytes.fromhex(raw)) for raw in raws])

    async def _tell(self, session: Session, is_new: bool) -> None:
        if is_new and session.wants_headers:
            await session.tell({"method": "blockchain.headers.subscribe", "params": [self._tip()]})
        for script, known in list(session.scripts.items()):
            status = self._index.status(script)
            if status != known:
                session.scripts[script] = status
                params = [script, status]
                await session.tell({"method": "blockchain.scripthash.subscribe", "params": params})

    # --- what wallets ask

    async def _serve(self, stream: trio.SocketStream) -> None:
        session = Session(stream)
        self._sessions.add(session)
        try:
            async for line in session.lines():
                asked = msgspec.json.decode(line)
                await session.tell({"id": asked["id"], **await self._answer(session, asked)})
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._sessions.discard(session)

    async def _answer(self, session: Session, asked: dict[str, Any]) -> dict[str, Any]:
        method, params = asked["method"], asked.get("params", [])
        try:
            if method == "blockchain.headers.subscribe":
                session.wants_headers = True
                return {"result": self._tip()}
            if method == "blockchain.scripthash.subscribe":
                session.scripts[params[0]] = status = self._index.status(params[0])
                return {"result": status}
            if method == "blockchain.scripthash.unsubscribe":
                return {"result": session.scripts.pop(params[0], None) is not None}
            if method not in self._methods:
                return {"error": {"code": UNKNOWN_METHOD, "message": f"no method {method}"}}
            result = self._methods[method](*params)
            return {"result": await result if hasattr(result, "__await__") else result}
        except (BitcoindRefused, IndexError, ValueError) as refused:
            return {"error": {"code": REFUSED, "message": str(refused)}}

    def _tip(self) -> dict[str, Any]:
        return {"height": self._index.height, "hex": self._index.header(self._index.height)}

    def _features(self) -> dict[str, Any]:
        genesis = self._index.hashes[0]
        return {
            "genesis_hash": genesis,
            "hash_function": "sha256",
            "protocol_min": VERSION,
            "protocol_max": VERSION,
        }

    def _header(self, height: int, *_: int) -> str:
        return self._index.header(height)

    def _headers(self, first: int, count: int, *_: int) -> dict[str, Any]:
        last = min(first + min(count, HEADERS_AT_ONCE), self._index.height + 1)
        headers = [self._index.header(height) for height in range(first, last)]
        return {"count": len(headers), "headers": headers, "max": HEADERS_AT_ONCE}

    async def _broadcast(self, raw: str) -> str:
        txid: str = await self._bitcoind.call("sendrawtransaction", raw)
        return txid

    async def _broadcast_package(self, raws: list[str], *_: bool) -> dict[str, Any]:
        answer = await self._bitcoind.call("submitpackage", raws)
        results = answer["tx-results"].values()
        errors = [{"txid": each["txid"], "error": each["error"]} for each in results if "error" in each]
        return {"success": answer["package_msg"] == "success", "errors": errors}
