"""What the chain itself tells of channels: their transactions and the fees these paid.

Pure, over blocks in order. Nothing a node says is believed here.
"""

from collections.abc import Iterable, Sequence

import msgspec

from wire.bitcoin.tx import OutPoint, Transaction
from wire.units import Sat


class Audit(msgspec.Struct, frozen=True):
    """The fees of all channel transactions, and how many each channel has on chain."""

    onchain_fees_sat: Sat
    transactions_per_channel: tuple[int, ...]


def audit(blocks: Iterable[Sequence[Transaction]], fundings: Sequence[OutPoint]) -> Audit:
    """Follow each channel from its funding through everything that spends from it.

    The blocks must hold the transactions that the funding transactions spend from, too.
    """
    trail = _Trail(fundings)
    for block in blocks:
        for transaction in block:
            trail.follow(transaction)
    counts = tuple([len(transactions) for transactions in trail.transactions])
    return Audit(Sat(sum(trail.fees_sat.values())), counts)


class _Trail:
    """What is known of the channels after the transactions so far."""

    def __init__(self, fundings: Sequence[OutPoint]) -> None:
        self._fundings = fundings
        self._values_sat: dict[OutPoint, Sat] = {}
        self._owners: dict[OutPoint, set[int]] = {}
        """Outputs that are a channel's funding, or came of it, with the channels' numbers."""
        self.transactions: list[set[bytes]] = [set() for _ in fundings]
        self.fees_sat: dict[bytes, int] = {}

    def follow(self, transaction: Transaction) -> None:
        outpoints = [transaction.outpoint(index) for index in range(len(transaction.outputs))]
        for outpoint, output in zip(outpoints, transaction.outputs, strict=True):
            self._values_sat[outpoint] = output.value_sat
        funded = {n for n, funding in enumerate(self._fundings) if funding.txid == transaction.txid}
        spent = {n for txin in transaction.inputs for n in self._owners.get(txin.outpoint, ())}
        for number in funded:
            self._owners.setdefault(self._fundings[number], set()).add(number)
        for outpoint in outpoints if spent else ():
            self._owners.setdefault(outpoint, set()).update(spent)
        for number in funded | spent:
            self.transactions[number].add(transaction.txid)
            self.fees_sat[transaction.txid] = self._fee_sat(transaction)

    def _fee_sat(self, transaction: Transaction) -> int:
        paid_in = sum(self._values_sat[txin.outpoint] for txin in transaction.inputs)
        return paid_in - sum(output.value_sat for output in transaction.outputs)
