"""When a transaction may be mined: locktime, relative locktime (BIP 68), coinbase maturity."""

from collections.abc import Callable, Sequence

import msgspec

from node.chain.coins import COINBASE_MATURITY_BLOCKS, Coin
from node.chain.interface import Rejected
from wire.bitcoin.tx import FINAL_SEQUENCE, Transaction

LOCKTIME_THRESHOLD = 500_000_000
SEQUENCE_DISABLED = 1 << 31
SEQUENCE_IS_TIME = 1 << 22
SEQUENCE_MASK = 0xFFFF
SEQUENCE_TIME_SHIFT = 9


class NextBlock(msgspec.Struct, frozen=True):
    """The place where a transaction would be mined.

    `median_time_past` takes a height and gives the median time of the eleven blocks up to it.
    """

    height: int
    median_time_past: Callable[[int], int]


def check_locks(transaction: Transaction, spent: Sequence[Coin], block: NextBlock) -> None:
    """Whether the next block may contain a transaction that spends these coins.

    Raises:
        Rejected: it is too early.
    """
    if not is_final(transaction, block):
        raise Rejected(transaction.txid, "non-final")
    for coin in spent:
        depth = block.height - coin.height if coin.height is not None else 0
        if coin.is_coinbase and depth < COINBASE_MATURITY_BLOCKS:
            why = f"bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth {depth}"
            raise Rejected(transaction.txid, why)
    if not is_sequence_final(transaction, spent, block):
        raise Rejected(transaction.txid, "non-BIP68-final")


def is_final(transaction: Transaction, block: NextBlock) -> bool:
    """Whether the locktime has passed, or every input ignores it."""
    if transaction.locktime < LOCKTIME_THRESHOLD:
        now = block.height
    else:
        now = block.median_time_past(block.height - 1)
    is_ignored = all(txin.sequence == FINAL_SEQUENCE for txin in transaction.inputs)
    return transaction.locktime < now or is_ignored


def is_sequence_final(transaction: Transaction, spent: Sequence[Coin], block: NextBlock) -> bool:
    """Whether every input is as old as its sequence demands (BIP 68).

    An unconfirmed coin counts as mined in the next block.
    """
    if transaction.version < 2:
        return True
    return all(
        txin.sequence & SEQUENCE_DISABLED or _is_old_enough(txin.sequence, coin, block)
        for txin, coin in zip(transaction.inputs, spent, strict=True)
    )


def _is_old_enough(sequence: int, coin: Coin, block: NextBlock) -> bool:
    height = block.height if coin.height is None else coin.height
    wait = sequence & SEQUENCE_MASK
    if not sequence & SEQUENCE_IS_TIME:
        return height + wait <= block.height
    created_at = block.median_time_past(height - 1)
    return created_at + (wait << SEQUENCE_TIME_SHIFT) <= block.median_time_past(block.height - 1)
