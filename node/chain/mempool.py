"""Transactions that wait for a block, and which of them need which.

Only the structure: who may enter is decided in `admission`. Entries keep the order in which they
came, and a parent must be here before its child, so that order is also one to mine in.
"""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from node.chain.coins import Coin, Coins
from wire.bitcoin.tx import OutPoint, Transaction
from wire.units import Sat


class Entry(msgspec.Struct, frozen=True):
    """A transaction that passed every rule, and what the rules measured of it."""

    transaction: Transaction
    vsize: int
    fee_sat: Sat
    spent: tuple[Coin, ...]

    @property
    def txid(self) -> bytes:
        return self.transaction.txid


class Mempool:
    """The waiting transactions on top of the confirmed coins."""

    def __init__(self, coins: Coins) -> None:
        self.confirmed = coins
        self._entries: dict[bytes, Entry] = {}
        self._spenders: dict[OutPoint, bytes] = {}

    def copy(self) -> "Mempool":
        """One with the same content, to try things out on."""
        other = Mempool(self.confirmed)
        other._entries, other._spenders = dict(self._entries), dict(self._spenders)
        return other

    def __contains__(self, txid: bytes) -> bool:
        return txid in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """The entries, each after its parents."""
        return iter(self._entries.values())

    def __getitem__(self, txid: bytes) -> Entry:
        return self._entries[txid]

    def is_spent(self, outpoint: OutPoint) -> bool:
        """Whether an entry spends this output."""
        return outpoint in self._spenders

    def spender(self, outpoint: OutPoint) -> bytes | None:
        """The txid of the entry that spends this output."""
        return self._spenders.get(outpoint)

    def find(self, outpoint: OutPoint) -> Coin | None:
        """An output that is confirmed and unspent, or made by an entry; whether entries spend it or not."""
        entry = self._entries.get(outpoint.txid)
        if entry is not None:
            return unconfirmed_coin(entry.transaction, outpoint.index)
        return self.confirmed.find(outpoint)

    def conflicts(self, transaction: Transaction) -> set[bytes]:
        """The entries that spend what this transaction spends."""
        found = (self._spenders.get(txin.outpoint) for txin in transaction.inputs)
        return {txid for txid in found if txid is not None}

    def ancestors(self, transaction: Transaction) -> set[bytes]:
        """The entries that this transaction needs, directly or through others."""
        return self._reach([transaction], lambda tx: (txin.outpoint.txid for txin in tx.inputs))

    def descendants(self, txid: bytes) -> set[bytes]:
        """The entries that need this one, directly or through others, without itself."""
        return self._reach([self._entries[txid].transaction], self._spenders_of)

    def _spenders_of(self, transaction: Transaction) -> Iterator[bytes]:
        for index in range(len(transaction.outputs)):
            spender = self._spenders.get(transaction.outpoint(index))
            if spender is not None:
                yield spender

    def _reach(
        self, waiting: list[Transaction], neighbours: Callable[[Transaction], Iterable[bytes]]
    ) -> set[bytes]:
        reached: set[bytes] = set()
        while waiting:
            for txid in neighbours(waiting.pop()):
                if txid in self._entries and txid not in reached:
                    reached.add(txid)
                    waiting.append(self._entries[txid].transaction)
        return reached

    def insert(self, entry: Entry) -> None:
        """Keep an entry, whose parents are here and whose conflicts are not."""
        self._entries[entry.txid] = entry
        for txin in entry.transaction.inputs:
            self._spenders[txin.outpoint] = entry.txid

    def remove(self, txid: bytes) -> None:
        """Forget one entry, and leave what needs it for the caller to remove or confirm."""
        entry = self._entries.pop(txid)
        for txin in entry.transaction.inputs:
            del self._spenders[txin.outpoint]

    def confirm(self, transactions: Iterable[Transaction]) -> None:
        """Remove what a block contains, and what can never be mined after it."""
        for transaction in transactions:
            if transaction.txid in self._entries:
                self.remove(transaction.txid)
            for conflict in self.conflicts(transaction):
                for txid in (*self.descendants(conflict), conflict):
                    if txid in self._entries:
                        self.remove(txid)

    def clear(self) -> list[Transaction]:
        """Empty the pool and return what was in it, in order."""
        transactions = [entry.transaction for entry in self]
        self._entries.clear()
        self._spenders.clear()
        return transactions


def unconfirmed_coin(transaction: Transaction, index: int) -> Coin | None:
    """The coin that an unconfirmed transaction makes at this index, if it has one there."""
    if index >= len(transaction.outputs):
        return None
    output = transaction.outputs[index]
    return Coin(output.value_sat, output.script, None)
