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
from node.chain.mempool import Entry, Mempool
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
        self._mark = b""
        self._is_kernel_ahead = False
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
            self._extend(script, miner.fill(self.mempool))
        self._compare_with_kernel()

    def mine_only(self, transactions: Sequence[Transaction], script: bytes) -> None:
        """Mine one block with these, in this order, and nothing else that waits.

        Those that do not wait yet enter the mempool first.

        Raises:
            Rejected: one of them is invalid, or needs one that is not before it; nothing was mined.
        """
        chosen: dict[bytes, Entry] = {}
        for transaction in transactions:
            self.submit(transaction)
            if (
                transaction.txid not in self.mempool
                or not self.mempool.ancestors(transaction) <= chosen.keys()
            ):
                raise Rejected(transaction.txid, "bad-txns-inputs-missingorspent")
            chosen[transaction.txid] = self.mempool[transaction.txid]
        self._extend(script, list(chosen.values()))
        self._compare_with_kernel()

    def try_out(self, transaction: Transaction) -> Entry | None:
        """What the mempool would keep if it were given this, or None if it is known; nothing changes.

        Raises:
            Rejected: it would be refused.
        """
        trial = self.mempool.copy()
        if admission.is_known(trial, transaction):
            return None
        admission.submit(trial, [transaction], self._next_block())
        return trial[transaction.txid]

    def invalidate(self, height: int) -> None:
        """Leave the best chain from this height on; what its blocks held waits again.

        The next block is mined on the one below. Until the new branch is the longer one, a restart
        returns to the old: the files do not say that it was left.
        """
        replaced = self._replaced(self.height - height + 1)
        self._mark, self._is_kernel_ahead = self._headers[-1].block_hash, True
        for transaction in self._taken_back(replaced):
            self._readmit(transaction, is_required=False)

    def reorganise(self, depth: int, script: bytes, confirm: Sequence[Transaction] | None = None) -> None:
        """Replace the last `depth` blocks by a branch that is one longer.

        Its first block contains the transactions of `confirm`, or, if that is None, what fits of
        all that then waits. The rest returns to the mempool as far as it is still valid.

        Raises:
            Rejected: a transaction to confirm is invalid on that branch; nothing has changed.
        """
        replaced = self._replaced(depth)
        mark = self._headers[-1].block_hash
        waiting = self._taken_back(replaced)
        try:
            for transaction in waiting if confirm is None else confirm:
                self._readmit(transaction, is_required=confirm is not None)
        except Rejected:
            self._restore(replaced, waiting)
            raise
        self._mark = mark
        for _ in range(depth + 1):
            self._extend(script, miner.fill(self.mempool))
        self._compare_with_kernel()
        for transaction in waiting:
            self._readmit(transaction, is_required=False)

    def _replaced(self, depth: int) -> list[Block]:
        if not 1 <= depth <= self.height:
            raise ReorganisationTooDeep(depth, self.height)
        return [self.block(header.block_hash) for header in self._headers[-depth:]]

    def _taken_back(self, replaced: Sequence[Block]) -> list[Transaction]:
        """Disconnect the last blocks and empty the mempool; all that waits then, in order."""
        for block in reversed(replaced):
            self._disconnect(block)
        return [tx for block in replaced for tx in block.transactions[1:]] + self.mempool.clear()

    def _compare_with_kernel(self) -> None:
        """The kernel follows us, except while a branch that we left is still the longest."""
        is_same = self._kernel.height == self.height and self._kernel.block_hash(self.height) == (
            self._headers[-1].block_hash
        )
        is_left = self._is_kernel_ahead and self._kernel.height >= self.height
        assert is_same or is_left, "the kernel refused what the mempool had let in"
        self._is_kernel_ahead = not is_same

    def _extend(self, script: bytes, entries: Sequence[Entry]) -> None:
        previous = self._headers[-1]
        time = previous.time + BLOCK_INTERVAL_SECONDS
        block = miner.assemble(self.height + 1, previous.block_hash, time, entries, script, self._mark)
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
