"""Version 3 transactions: at most one unconfirmed parent, at most one unconfirmed child (BIP 431).

What the rules buy is that such a pair can always be replaced cheaply, so only they may contain a
parent without a fee.
"""

from collections.abc import Sequence

from node.chain.interface import Rejected
from node.chain.mempool import Entry, Mempool
from wire.bitcoin.tx import Transaction

VERSION = 3
MAX_VSIZE = 10_000
MAX_CHILD_VSIZE = 1_000


def check(
    mempool: Mempool, entries: Sequence[Entry], ancestors: frozenset[bytes], conflicts: frozenset[bytes]
) -> None:
    """Whether these entries may enter with these ancestors and in the place of these conflicts.

    Raises:
        Rejected: one of them breaks a rule of version 3.
    """
    above = [*entries[:-1], *map(mempool.__getitem__, ancestors)]
    last = entries[-1]
    is_mixed = any((entry.transaction.version == VERSION) != _is_truc(last) for entry in above)
    if is_mixed or (_is_truc(last) and not _is_small_family(last, above)):
        raise Rejected(last.txid, "TRUC-violation")
    for parent in ancestors if _is_truc(last) else ():
        if mempool.descendants(parent) - conflicts:
            raise Rejected(last.txid, "TRUC-violation")


def _is_truc(entry: Entry) -> bool:
    return entry.transaction.version == VERSION


def _is_small_family(last: Entry, above: Sequence[Entry]) -> bool:
    limit = MAX_CHILD_VSIZE if above else MAX_VSIZE
    return len(above) <= 1 and last.vsize <= limit


def sibling(mempool: Mempool, transaction: Transaction) -> set[bytes]:
    """The only other child of the parent of a version 3 child, which it may replace."""
    ancestors = mempool.ancestors(transaction) if transaction.version == VERSION else set()
    if len(ancestors) != 1:
        return set()
    siblings = mempool.descendants(ancestors.pop())
    return siblings if len(siblings) == 1 else set()
