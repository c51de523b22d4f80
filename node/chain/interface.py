"""What a node asks of the Bitcoin chain, whichever backend answers (DESIGN §7).

Three questions (the tip, an output, a feerate), one act (broadcast), and one stream: the blocks,
connected and disconnected, from any height a caller names. The stream replaces callbacks and
polling: a follower that was away for a year and one that never left read the same thing. Hashes
are in hash order, as in `wire.bitcoin`.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from wire.bitcoin.tx import OutPoint, Transaction, txid_hex
from wire.units import Sat


class Tip(msgspec.Struct, frozen=True, gc=False):
    """The last block of the best chain."""

    height: int
    block_hash: bytes


class FoundOutput(msgspec.Struct, frozen=True, gc=False):
    """The output that a short_channel_id names (BOLT 7), however long ago it was spent.

    `depth` counts the block it is in: 1 in the tip.
    """

    outpoint: OutPoint
    script: bytes
    value_sat: Sat
    is_unspent: bool
    depth: int


class UnspentOutput(msgspec.Struct, frozen=True, gc=False):
    """A confirmed output that no confirmed transaction spends."""

    value_sat: Sat
    script: bytes
    height: int


class BlockConnected(msgspec.Struct, frozen=True):
    """The best chain grew by this block. The first transaction is the coinbase."""

    height: int
    block_hash: bytes
    transactions: tuple[Transaction, ...]


class BlockDisconnected(msgspec.Struct, frozen=True, gc=False):
    """The best chain lost this block, which was its last."""

    height: int
    block_hash: bytes


BlockEvent: TypeAlias = BlockConnected | BlockDisconnected


class Rejected(Exception):
    """The backend refused a transaction. `reason` is spelled as bitcoind spells it."""

    def __init__(self, txid: bytes, reason: str) -> None:
        super().__init__(f"transaction {txid_hex(txid)} was refused: {reason}")
        self.txid = txid
        self.reason = reason


class UnknownBlock(Exception):
    """A follower says that it stopped at a block which this chain has never seen."""

    def __init__(self, block_hash: bytes) -> None:
        super().__init__(f"block {txid_hex(block_hash)} is not on any branch of this chain")
        self.block_hash = block_hash


class ChainTrouble(Exception):
    """The backend cannot serve us; the text says in one sentence what its user can do."""


class ChainUnavailable(ChainTrouble):
    """The backend cannot be asked now, but it may come back: the same call may be made again."""


MIN_FEERATE_PER_KW = 253
"""The lowest feerate that still pays bitcoind's 1 sat per virtual byte after rounding up."""


class ChainDirectoryInUse(Exception):
    """Another process, or another chain of this process, works on the directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"the chain in {directory} is in use")
        self.directory = directory


class ChainPortTaken(Exception):
    """The chain cannot be served on this port."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"cannot serve the chain on {host}:{port}: {why}")
        self.host, self.port, self.why = host, port, why


class Chain(Protocol):
    """A source of blocks. Every method may be called by many tasks at once.

    A backend in another process may go away. Questions wait then until it returns, and streams go on
    where they stopped; only `broadcast` raises ChainUnavailable.
    """

    network: str

    async def tip(self) -> Tip:
        """The last block of the best chain."""

    async def funding_output(self, short_channel_id: int) -> FoundOutput | None:
        """The output with this block height, transaction index and output index, or None."""

    async def output(self, outpoint: OutPoint) -> UnspentOutput | None:
        """The output if it is confirmed and unspent, or None."""

    async def broadcast(self, *transactions: Transaction) -> None:
        """Give the network one transaction, or a parent and the one child that pays for it.

        Telling it what it already knows, or has already mined, is no error.

        Raises:
            Rejected: by consensus or by relay policy; nothing was kept.
            ChainUnavailable: the backend is away; it may or may not have heard.
        """

    async def feerate_per_kw(self, target_blocks: int) -> int:
        """The feerate that should confirm within so many blocks, at least MIN_FEERATE_PER_KW."""

    def follow(self, from_height: int, last_hash: bytes | None = None) -> AsyncIterator[BlockEvent]:
        """Every block from this height on, and then each as it comes, without end.

        The caller counts as having seen the block below when it calls, so a reorganisation that
        reaches deeper gives that block's disconnection too.

        A caller that stopped at the block before gives its hash as `last_hash`: if that block has
        left the best chain meanwhile, the stream starts with the disconnections back to the fork.

        Raises:
            UnknownBlock: while iterating, if no branch holds `last_hash`.
        """
