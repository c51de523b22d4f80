"""The embedded chain: Bitcoin's own consensus code in this process, as a `Chain` for many nodes.

It starts in some 30 ms and mines a block in a fraction of one. Methods are async only because a
`Chain` is; none of them waits. Followers hold nothing but the hash of the last block they gave:
from there they walk to the best chain, back over disconnected blocks and forward over connected
ones. A queue per follower was rejected: it would have to be kept while its reader is slow, and
could not serve one that comes late.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import trio

from node.chain.faucet import Faucet
from node.chain.interface import (
    MIN_FEERATE_PER_KW,
    BlockConnected,
    BlockDisconnected,
    BlockEvent,
    FoundOutput,
    Tip,
    UnknownBlock,
    UnspentOutput,
)
from node.chain.regtest import Regtest
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.scid import parts
from wire.units import Sat

PREMINED_BLOCKS = 150
DEFAULT_FEERATE_PER_KW = 1000


class EmbeddedChain:
    """A regtest chain on a directory, or on a temporary one that goes away with it.

    A new chain is born with enough blocks for the faucet to pay from. It is closed by `close`, or
    by leaving its `with` block; calls after that raise ChainClosed.
    """

    network = "regtest"

    def __init__(self, directory: Path | None = None, *, premined_blocks: int = PREMINED_BLOCKS) -> None:
        self._temporary = TemporaryDirectory(prefix="rill-chain-") if directory is None else None
        self.directory = Path(self._temporary.name) if self._temporary else directory or Path()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.regtest = Regtest(self.directory)
        self.faucet = Faucet(self.regtest)
        self.feerate_now_per_kw = DEFAULT_FEERATE_PER_KW
        self._grown = trio.Event()
        if self.regtest.height == 0:
            self.regtest.mine(premined_blocks, self.faucet.script)

    def close(self) -> None:
        """Release the directory, and remove it if it was temporary."""
        self.regtest.close()
        if self._temporary:
            self._temporary.cleanup()

    def __enter__(self) -> "EmbeddedChain":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what every Chain does

    async def tip(self) -> Tip:
        height = self.regtest.height
        return Tip(height, self._hash(height))

    async def funding_output(self, short_channel_id: int) -> FoundOutput | None:
        height, position, index = parts(short_channel_id)
        block_hash = self.regtest.block_hash(height)
        transactions = self.regtest.block(block_hash).transactions if block_hash else ()
        if position >= len(transactions) or index >= len(transactions[position].outputs):
            return None
        funding = transactions[position]
        output, depth = funding.outputs[index], self.regtest.height - height + 1
        is_unspent = self.regtest.coins.find(funding.outpoint(index)) is not None
        return FoundOutput(funding.outpoint(index), output.script, output.value_sat, is_unspent, depth)

    async def output(self, outpoint: OutPoint) -> UnspentOutput | None:
        coin = self.regtest.coins.find(outpoint)
        if coin is None or coin.height is None:
            return None
        return UnspentOutput(coin.value_sat, coin.script, coin.height)

    async def broadcast(self, *transactions: Transaction) -> None:
        self.regtest.submit(*transactions)

    async def feerate_per_kw(self, target_blocks: int) -> int:  # noqa: ARG002
        return max(MIN_FEERATE_PER_KW, self.feerate_now_per_kw)

    def follow(self, from_height: int, last_hash: bytes | None = None) -> "Follower":
        return Follower(self, from_height, last_hash)

    # --- what only a chain of one's own does

    async def mine(self, count: int = 1, script: bytes | None = None) -> Tip:
        """Mine blocks, the first of them with what waits in the mempool; return the new tip."""
        self.regtest.mine(count, self.faucet.script if script is None else script)
        return await self._changed()

    async def mine_only(self, transactions: Sequence[Transaction], script: bytes | None = None) -> Tip:
        """Mine one block with exactly these transactions; return the new tip.

        Raises:
            Rejected: one is invalid, or needs another that is not before it.
        """
        self.regtest.mine_only(transactions, self.faucet.script if script is None else script)
        return await self._changed()

    async def invalidate(self, block_hash: bytes) -> Tip:
        """Leave the best chain from this block on, if it is part of it; return the tip below it.

        Raises:
            UnknownBlock: it is on no branch.
        """
        found = self.regtest.find(block_hash)
        if found is None:
            raise UnknownBlock(block_hash)
        if self.regtest.block_hash(found[0]) == block_hash:
            self.regtest.invalidate(found[0])
        return await self._changed()

    async def fund(self, script: bytes, amount_sat: Sat) -> OutPoint:
        """Pay from mined coins and mine one block; return the confirmed output.

        Raises:
            FaucetEmpty: more blocks must be mined first.
        """
        [outpoint] = await self.fund_many([TxOut(amount_sat, script)])
        return outpoint

    async def fund_many(self, outputs: Sequence[TxOut]) -> list[OutPoint]:
        """Pay all of these from mined coins and mine one block; return them in their order.

        Raises:
            FaucetEmpty: more blocks must be mined first.
        """
        paid = self.faucet.pay(outputs)
        await self.mine()
        return paid

    async def reorganise(self, depth: int, confirm: Sequence[Transaction] | None = None) -> Tip:
        """Replace the last blocks by a branch that is one longer, and return its tip.

        The first new block contains `confirm`, or all that fits if that is None; whatever else was
        in the replaced blocks waits in the mempool again, unless it conflicts.

        Raises:
            Rejected: a transaction to confirm is invalid on the new branch; nothing has changed.
        """
        self.regtest.reorganise(depth, self.faucet.script, confirm)
        return await self._changed()

    async def _changed(self) -> Tip:
        self._grown.set()
        self._grown = trio.Event()
        return await self.tip()

    def _hash(self, height: int) -> bytes:
        block_hash = self.regtest.block_hash(height)
        assert block_hash is not None, "asked above the tip"
        return block_hash

    async def wait_for_change(self) -> None:
        """Until the best chain is another than now."""
        await self._grown.wait()


class Follower:
    """The stream of one caller's blocks: the last one given, and the way from it to the tip."""

    def __init__(self, chain: EmbeddedChain, from_height: int, last_hash: bytes | None) -> None:
        self._chain = chain
        self._height = from_height - 1
        self._hash = last_hash or chain.regtest.block_hash(self._height)

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> BlockEvent:
        await trio.lowlevel.checkpoint()
        while True:
            event = self.step()
            if event is not None:
                return event
            await self._chain.wait_for_change()

    def step(self) -> BlockEvent | None:
        """The next step towards the tip of the best chain, or None when standing on it; never waits."""
        regtest = self._chain.regtest
        if self._hash is not None and regtest.block_hash(self._height) != self._hash:
            return self._back(self._hash)
        block_hash = regtest.block_hash(self._height + 1)
        if block_hash is None:
            return None
        self._height, self._hash = self._height + 1, block_hash
        return BlockConnected(self._height, block_hash, regtest.block(block_hash).transactions)

    def _back(self, block_hash: bytes) -> BlockEvent:
        found = self._chain.regtest.find(block_hash)
        if found is None:
            raise UnknownBlock(block_hash)
        height, previous_hash = found
        self._height, self._hash = height - 1, previous_hash
        return BlockDisconnected(height, block_hash)
