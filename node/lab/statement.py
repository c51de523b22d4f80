"""What chaos is asked for, and the statement of every satoshi that it ends with.

What the wallets had at the start is what they have now, plus the fees that miners got, plus what
was left on the chain: anchors, and HTLCs so small that taking them costs more than they bring.
"""

from collections.abc import Callable

import msgspec

from htlc.transactions import ANCHOR_SAT
from node.chain.embedded import EmbeddedChain
from node.chain.interface import BlockConnected, BlockDisconnected
from wire.bitcoin.tx import OutPoint, Transaction, TxOut
from wire.units import Sat

WORTHLESS_SAT = 500
"""An output of a commitment below this is not worth the lowest fee, and the dust limit, of taking it."""
_P2WSH_BYTES = 34


class ChaosWish(msgspec.Struct, frozen=True):
    """What kind of chaos."""

    seed: int = 1
    minutes: float = 1.0
    nodes: int = 4


class Payments(msgspec.Struct):
    """What became of the payments that were begun."""

    sent: int = 0
    failed: int = 0
    stuck: int = 0


class ChaosReport(msgspec.Struct):
    """The statement at the end."""

    seed: int
    payments: Payments
    kills: int = 0
    cuts: int = 0
    reorgs: int = 0
    breaches_punished: int = 0
    start_sat: int = 0
    end_sat: int = 0
    onchain_fees_sat: int = 0
    anchors_left_sat: int = 0
    dust_left_sat: int = 0
    conserved: bool = False
    difference_sat: int = 0


class Ledger:
    """What the chain alone tells since the nodes were funded: fees, and what is unspent."""

    def __init__(self, chain: EmbeddedChain, first_height: int) -> None:
        self._follower = chain.follow(first_height)
        self._blocks: list[tuple[Transaction, ...]] = []

    def read(self) -> None:
        """Take in all blocks that there are."""
        while (event := self._follower.step()) is not None:
            if isinstance(event, BlockConnected):
                self._blocks.append(event.transactions)
            elif isinstance(event, BlockDisconnected):
                self._blocks.pop()

    def outputs_to(self, scripts: list[bytes]) -> dict[OutPoint, Sat]:
        """The outputs that pay to these scripts."""
        return {
            transaction.outpoint(index): output.value_sat
            for transaction in self._transactions()
            for index, output in enumerate(transaction.outputs)
            if output.script in scripts
        }

    def spenders_of(self, parent: Transaction) -> dict[OutPoint, Transaction]:
        """The transactions that spend its outputs, by output."""
        return {
            txin.outpoint: transaction
            for transaction in self._transactions()
            for txin in transaction.inputs
            if txin.outpoint.txid == parent.txid
        }

    def state(self, report: ChaosReport, funded: dict[OutPoint, Sat]) -> None:
        """Write down what the chain says of everything that descends from these coins."""
        report.onchain_fees_sat, unspent = self._follow(funded)
        report.anchors_left_sat = _sum_sat(unspent, lambda value_sat: value_sat == ANCHOR_SAT)
        report.dust_left_sat = _sum_sat(unspent, lambda sat: sat != ANCHOR_SAT and sat < WORTHLESS_SAT)

    def _transactions(self) -> list[Transaction]:
        return [transaction for block in self._blocks for transaction in block[1:]]

    def _follow(self, funded: dict[OutPoint, Sat]) -> tuple[int, list[TxOut]]:
        """The fees of all that descends from the coins, and its unspent outputs."""
        unspent: dict[OutPoint, TxOut] = {}
        values: dict[OutPoint, int] = dict(funded)
        fees = 0
        for transaction in self._transactions():
            spends = [txin.outpoint for txin in transaction.inputs]
            if not all(outpoint in values for outpoint in spends):
                continue
            fees += sum(values[each] for each in spends) - sum(out.value_sat for out in transaction.outputs)
            for spent in spends:
                unspent.pop(spent, None)
            for index, output in enumerate(transaction.outputs):
                values[transaction.outpoint(index)] = output.value_sat
                unspent[transaction.outpoint(index)] = output
        return fees, list(unspent.values())


def _sum_sat(outputs: list[TxOut], is_meant: Callable[[int], bool]) -> int:
    """The sum of the script hash outputs, which no wallet of ours has, of such a value."""
    found = [output for output in outputs if len(output.script) == _P2WSH_BYTES]
    return sum(output.value_sat for output in found if is_meant(output.value_sat))
