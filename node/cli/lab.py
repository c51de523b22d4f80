"""`rill lab`: experiments on networks of one's own."""

from pathlib import Path
from typing import Annotated

import typer

lab = typer.Typer(help="Experiments on networks of one's own.", no_args_is_help=True)


@lab.callback()
def _lab() -> None:
    """Experiments on networks of one's own."""


@lab.command()
def chaos(
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed makes the same trouble.")] = 1,
    minutes: Annotated[float, typer.Option(metavar="M", help="How long the trouble lasts.")] = 1.0,
    nodes: Annotated[int, typer.Option(metavar="K", help="How many nodes, in a ring.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Kill, cut, reorganise and cheat under payments, and account for every satoshi.

    The nodes are processes on a chain of this one's. In the end everything is closed. The exit code \
is 0 only if no payment is stuck and no satoshi is missing.
    """
    if not 2 <= nodes <= 20:
        raise typer.BadParameter(f"--nodes {nodes} is not between 2 and 20")
    if not 0 < minutes <= 24 * 60:
        raise typer.BadParameter(f"--minutes {minutes} is not between 0 and 1440")
    from node.cli.lab_chaos import show_chaos

    raise typer.Exit(show_chaos(seed, minutes, nodes, as_json=as_json))


@lab.command()
def graph(
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed makes the same network.")] = 1,
    like: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The network to be like. Without it, mainnet on 2026-02-03."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it there, as a table of edges (CSV).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Make a network with the figures of a real one, and show how well it fits."""
    from node.cli.lab_graph import show_graph

    raise typer.Exit(show_graph(seed, like, out, as_json=as_json))
