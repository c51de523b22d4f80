"""The embedded regtest chain without any waiting: kernel, coins, mempool and miner as one state.

Every method is a plain call that returns in well under a millisecond per block. `embedded` makes
a `Chain` of it. Block times are ten minutes apart, counted from the first block in 2011: the same
calls give the same blocks, on any day.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from node.chain import admission, miner
from node.chain.coins import Coins
from node.chain.interface import Rejected
from node.chain.kernel import Kernel
from node.chain.locks import NextBlock
from node.chain.mempool import Mempool
from wire.bitcoin.block import Block, BlockHeader, parse_block
from wire.bitcoin.tx import Transaction

BLOCK_INTERVAL_SECONDS = 600
MEDIAN_TIME_SPAN = 11
KEPT_BLOCKS = 1024


class ReorganisationTooDeep(ValueError):
    """More blocks should be replaced than there are."""

    def __init__(self, depth: int, height: int) -> None:
        super().__init__(f"cannot replace {depth} blocks of a chain of {height}")
        self.depth = depth
        self.height = height


class Regtest:
    """One chain on one directory."""

    def __init__(self, directory: Path) -> None:
        self._kernel = Kernel(directory)
        self._parsed: OrderedDict[bytes, Block] = OrderedDict()
        self._headers: list[BlockHeader] = []
        self.coins = Coins()
        self.mempool = Mempool(self.coins)
        for height in range(self._kernel.height + 1):
            self._connect(self.block(self._kernel.block_hash(height)))

    def close(self) -> None:
        """Release the directory. What waits in the mempool is lost, as in a power cut."""
        self._kernel.close()

    @property
    def height(self) -> int:
        return len(self._headers) - 1

    def block_hash(self, height: int) -> bytes | None:
        """The hash of the block of the best chain at this height, if it is that long."""
        return self._headers[height].block_hash if 0 <= height <= self.height else None

    def find(self, block_hash: bytes) -> tuple[int, bytes] | None:
        """Height and previous hash of a block on any branch."""
        return self._kernel.find(block_hash)

    def block(self, block_hash: bytes) -> Block:
        """A known block. The last ones read are kept, since many followers read the same."""
        block = self._parsed.get(block_hash)
        if block is None:
            block = parse_block(self._kernel.read_block(block_hash))
            self._keep(block)
        return block

    def _keep(self, block: Block) -> None:
        self._parsed[block.header.block_hash] = block
        if len(self._parsed) > KEPT_BLOCKS:
            self._parsed.popitem(last=False)

    def median_time_past(self, height: int) -> int:
        """The median time of the eleven blocks up to this height (BIP 113)."""
        span = self._headers[max(0, height + 1 - MEDIAN_TIME_SPAN) : max(1, height + 1)]
        return sorted(header.time for header in span)[len(span) // 2]

    def submit(self, *transactions: Transaction) -> None:
        """Admit one transaction, or a parent and its child.

        Raises:
            Rejected: by consensus or policy.
        """
        admission.submit(self.mempool, transactions, self._next_block())

    def mine(self, count: int, script: bytes) -> None:
        """Mine blocks that pay `script`; the first of them take what waits in the mempool."""
        for _ in range(count):
            self._extend(script)
        assert self._kernel.height == self.height, "the kernel refused what the mempool had let in"

    def reorganise(self, depth: int, script: bytes, confirm: Sequence[Transaction] | None = None) -> None:
        """Replace the last `depth` blocks by a branch that is one longer.

        Its first block contains the transactions of `confirm`, or, if that is None, what fits of
        all that then waits. The rest returns to the mempool as far as it is still valid.

        Raises:
            Rejected: a transaction to confirm is invalid on that branch; nothing has changed.
        """
        replaced = self._replaced(depth)
        mark = self._headers[-1].block_hash
        for block in reversed(replaced):
            self._disconnect(block)
        waiting = [tx for block in replaced for tx in block.transactions[1:]] + self.mempool.clear()
        try:
            for transaction in waiting if confirm is None else confirm:
                self._readmit(transaction, is_required=confirm is not None)
        except Rejected:
            self._restore(replaced, waiting)
            raise
        for _ in range(depth + 1):
            self._extend(script, mark)
        assert self._kernel.block_hash(self.height) == self.block_hash(self.height)
        for transaction in waiting:
            self._readmit(transaction, is_required=False)

    def _replaced(self, depth: int) -> list[Block]:
        if not 1 <= depth <= self.height:
            raise ReorganisationTooDeep(depth, self.height)
        return [self.block(header.block_hash) for header in self._headers[-depth:]]

    def _extend(self, script: bytes, mark: bytes = b"") -> None:
        previous, entries = self._headers[-1], miner.fill(self.mempool)
        time = previous.time + BLOCK_INTERVAL_SECONDS
        block = miner.assemble(self.height + 1, previous.block_hash, time, entries, script, mark)
        self._kernel.submit(block.serialize(), block.header.block_hash)
        self._keep(block)
        self._connect(block)
        self.mempool.confirm(block.transactions[1:])

    def _connect(self, block: Block) -> None:
        self._headers.append(block.header)
        self.coins.connect(self.height, block.transactions)

    def _disconnect(self, block: Block) -> None:
        self._headers.pop()
        self.coins.disconnect(block.transactions)

    def _restore(self, blocks: Sequence[Block], waiting: Iterable[Transaction]) -> None:
        self.mempool.clear()
        for block in blocks:
            self._connect(block)
        for transaction in waiting:
            self._readmit(transaction, is_required=False)

    def _readmit(self, transaction: Transaction, *, is_required: bool) -> None:
        try:
            self.submit(transaction)
        except Rejected:
            if is_required:
                raise

    def _next_block(self) -> NextBlock:
        return NextBlock(self.height + 1, self.median_time_past)
