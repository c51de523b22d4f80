"""What `rill lab graph` shows and writes."""

from math import nan
from pathlib import Path

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from gossip.exports import to_table
from node.lab.figures import Figures, mainnet, measured
from node.lab.generator import generate
from node.lab.graphs import BadGraphFile, read_graph
from node.lab.parts import arrivals
from node.lab.portrait import portrait


def show_graph(seed: int, like: Path | None, out: Path | None, *, as_json: bool) -> int:
    """Generate, compare, and write if asked; return the exit code."""
    progress = Console(stderr=True).status(f"a network like {like or 'mainnet'}")
    try:
        with progress:
            figures = mainnet() if like is None else measured(read_graph([like]), like.name)
            graph = generate(seed, figures)
            if out is not None:
                out.write_bytes(to_table(graph))
            fit = _fit(figures.portrait, portrait(graph)) | _fit(figures.arrivals, arrivals(graph))
    except (BadGraphFile, OSError) as wrong:
        typer.echo(f"rill: {wrong}", err=True)
        return 2
    if as_json:
        typer.echo(msgspec.json.encode({"seed": seed, "like": figures.name, "fit": fit}).decode())
    else:
        Console().print(_table(figures, seed, fit))
    return 0


def _fit(there: dict[str, float], here: dict[str, float]) -> dict[str, tuple[float, float]]:
    return {name: (value, here.get(name, nan)) for name, value in there.items()}


def _table(figures: Figures, seed: int, fit: dict[str, tuple[float, float]]) -> Table:
    table = Table("", box=None, pad_edge=False)
    table.add_column(figures.name, justify="right")
    table.add_column(f"seed {seed}", justify="right")
    for name, (there, here) in fit.items():
        table.add_row(name, _figure(there), _figure(here))
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value.is_integer() else f"{value:.3g}"
