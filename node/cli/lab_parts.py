"""What `rill lab parts` shows, and the files that it writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from node.lab.generator import generate
from node.lab.graphs import BadGraphFile, read_graph
from node.lab.parts import STRATEGIES, Row, ShareRow, compare, shares

FAILED, USAGE = 1, 2
NO_PLOTS = "a plot needs matplotlib: pip install 'rill-lightning[lab]'"


def show_parts(seed: int, payments: int, network: Path | None, out: Path | None, *, as_json: bool) -> int:
    """Run the experiment, print, and write if asked; return the exit code."""
    try:
        graph = generate(seed) if network is None else read_graph([network])
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            import matplotlib as mpl  # noqa: F401 - said before the work is done
    except (BadGraphFile, OSError) as wrong:
        typer.echo(f"rill: {wrong}", err=True)
        return USAGE
    except ImportError:
        typer.echo(f"rill: {NO_PLOTS}", err=True)
        return FAILED
    with Console(stderr=True).status("paying …"):
        rows = list(compare(graph, seed, payments))
        brought = list(shares(graph, seed, max(1, payments // 2)))
    if not rows[0].payments:
        typer.echo("rill: no two nodes of this network have channels of 50,000,000 sat", err=True)
        return FAILED
    if out is not None:
        _write(out, rows, brought)
    if as_json:
        typer.echo(msgspec.json.encode({"seed": seed, "amounts": rows, "shares": brought}).decode())
    else:
        _tell(rows, brought)
    return 0


def _tell(rows: Sequence[Row], brought: Sequence[ShareRow]) -> None:
    console = Console()
    table = Table(
        "sat", title="payments that arrived, in % / median fee of those, in ppm", title_justify="left"
    )
    for strategy in STRATEGIES:
        table.add_column(strategy, justify="right")
    for amount_sat in dict.fromkeys(row.amount_sat for row in rows):
        of_amount = [row for row in rows if row.amount_sat == amount_sat]
        table.add_row(f"{amount_sat:,}", *(f"{100 * r.paid_share:.0f} / {r.fee_ppm:,.0f}" for r in of_amount))
    console.print(table)
    table = Table(
        "share of what there is room for", title="split, learning: large shares", title_justify="left"
    )
    for heading in ("median sat", "arrived, %", "rounds, median", "rounds, most", "parts, median"):
        table.add_column(heading, justify="right")
    for row in brought:
        told = (f"{row.amount_sat:,.0f}", f"{100 * row.paid / max(1, row.payments):.0f}")
        table.add_row(f"{row.share:.0%}", *told, f"{row.rounds:g}", str(row.most_rounds), f"{row.parts:g}")
    console.print(table)


def _write(out: Path, rows: Sequence[Row], brought: Sequence[ShareRow]) -> None:
    for name, table in (("parts.csv", rows), ("shares.csv", brought)):
        fields = table[0].__struct_fields__
        lines = [",".join(fields), *(_line([getattr(row, field) for field in fields]) for row in table)]
        (out / name).write_text("\n".join(lines) + "\n")
    _plot(out / "parts.svg", rows)


def _line(cells: Sequence[Any]) -> str:
    return ",".join(f'"{cell}"' if isinstance(cell, str) else str(cell) for cell in cells)


def _plot(path: Path, rows: Sequence[Row]) -> None:
    """Success and fee against the amount; the same rows make the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "rill"
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 6.5), layout="constrained")
    for strategy, style in zip(STRATEGIES, ("^:", "o--", "o-", "s--", "s-"), strict=True):
        of_it = [row for row in rows if row.strategy == strategy]
        above.plot([r.amount_sat for r in of_it], [100 * r.paid_share for r in of_it], style, label=strategy)
        paid = [row for row in of_it if row.paid]
        below.plot([r.amount_sat for r in paid], [r.fee_ppm for r in paid], style, label=strategy)
    above.set(xscale="log", ylabel="payments that arrived, %", ylim=(0, 103))
    below.set(yscale="symlog", xlabel="amount, sat", ylabel="median fee, ppm")
    for axes in (above, below):
        axes.grid(visible=True, alpha=0.3)
    above.legend()
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)
