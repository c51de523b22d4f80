"""(f) How much splitting a payment and learning from failures raise what arrives, and at what cost."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from gossip.compact import CompactGraph
from node.lab.experiments.ground import MAINNET
from node.lab.experiments.model import Experiment, Figure, Findings, Line, Table
from node.lab.generator import generate
from node.lab.graphs import BadGraphFile, read_graph
from node.lab.parts import AMOUNTS_SAT, STRATEGIES, Row, ShareRow, compare, shares
from node.lab.plugins import BadPlugin

RELIABLE = 0.9


class PaymentParts(Experiment, frozen=True, kw_only=True):
    """The same payments by growing strategies, over balances that nobody knows."""

    question: ClassVar[str] = "How much more arrives if payments are split, and learn from their failures?"
    takes_seconds: ClassVar[int] = 60

    graph: str = MAINNET  # or a file
    network_seed: int = 1
    payments: int = 100
    amounts_sat: tuple[int, ...] = AMOUNTS_SAT

    def run(self, seed: int) -> Findings:
        network = self._network()
        rows = list(compare(network, seed, self.payments, self.amounts_sat))
        brought = list(shares(network, seed, max(1, self.payments // 2)))
        if not rows or not rows[0].payments:
            raise BadPlugin("no two nodes of this network have channels of 50,000,000 sat")
        return Findings(
            answers=(*_reach(rows), *_rounds(brought)),
            summary={f"paid_{_name(row)}_{row.amount_sat}": row.paid_share for row in rows},
            tables=(_table("amounts", Row, rows), _table("shares", ShareRow, brought)),
            figures=(
                _figure("success", "Payments that arrive", "%", rows, lambda row: 100 * row.paid_share),
                _figure("fee", "What those cost", "median fee, ppm", rows, lambda row: row.fee_ppm),
            ),
        )

    def _network(self) -> CompactGraph:
        try:
            return generate(self.network_seed) if self.graph == MAINNET else read_graph([Path(self.graph)])
        except BadGraphFile as wrong:
            raise BadPlugin(f"graph is {MAINNET} or a file: {wrong}") from None


def _name(row: Row) -> str:
    return row.strategy.replace(", ", "_")


def _reach(rows: Sequence[Row]) -> list[str]:
    """Up to which amount nine payments in ten arrive, by strategy."""
    said = []
    for strategy in STRATEGIES:
        reliable = [r.amount_sat for r in rows if r.strategy == strategy and r.paid_share >= RELIABLE]
        largest = f"{max(reliable):,} sat" if reliable else "no amount"
        said.append(f"{strategy}: nine payments in ten arrive up to {largest}.")
    return said


def _rounds(brought: Sequence[ShareRow]) -> list[str]:
    """What large shares of all that there is room for need."""
    return [
        f"{row.share:.0%} of what payer and payee have room for: {row.paid} of {row.payments} arrive, "
        f"in {row.rounds:g} rounds (median) and {row.most_rounds} at most."
        for row in brought
    ]


def _table(name: str, kind: type[Row | ShareRow], rows: Sequence[Row | ShareRow]) -> Table:
    columns = kind.__struct_fields__
    return Table(name, columns, tuple(tuple(getattr(row, column) for column in columns) for row in rows))


def _figure(name: str, title: str, y_label: str, rows: Sequence[Row], of: Callable[[Row], float]) -> Figure:
    lines = []
    for strategy in STRATEGIES:
        shown = [row for row in rows if row.strategy == strategy and (row.paid or name == "success")]
        lines.append(Line(strategy, tuple(float(r.amount_sat) for r in shown), tuple(of(r) for r in shown)))
    return Figure(name, title, "amount, sat", y_label, lines=tuple(lines), is_log_x=True)
