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


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")]
Name = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="One of `rill lab list`.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed finds the same, to the byte.")]


@lab.command(name="list")
def list_experiments(as_json: AsJson = False) -> None:
    """The experiments, their questions and options; fee policies and traffic models."""
    from node.cli.lab_run import show_list

    raise typer.Exit(show_list(as_json=as_json))


@lab.command()
def run(
    experiment: Name,
    seed: Seed = 1,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change an option. Repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For its results. Without: ./lab-EXPERIMENT-SEED.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask an experiment's question, and print its answer.

    DIR gets its tables (CSV, Parquet), plots (SVG, PNG), a manifest, and all of it on one page.
    """
    from node.cli.lab_run import run_experiment

    raise typer.Exit(run_experiment(experiment, seed, settings or [], out, as_json=as_json))


@lab.command()
def sweep(
    experiment: Name,
    grid: Annotated[list[str], typer.Option(metavar="NAME=V1,V2,…", help="An option's values. Repeatable.")],
    seed: Seed = 1,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes. 0: one for each core.")] = 0,
    cluster: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="A Dask scheduler, for more machines.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For its results. Without: ./sweep-EXPERIMENT-SEED.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment at every point of a grid, and gather the summaries in one table.

    Interrupted, the same command goes on where it stopped.
    """
    from node.cli.lab_run import SweepWish, run_sweep

    raise typer.Exit(run_sweep(SweepWish(experiment, seed, grid, workers, cluster, out), as_json=as_json))


@lab.command()
def scenarios(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """The scenarios that come with Rill; with a NAME its file, to start one's own from."""
    from node.cli.lab_play import show_scenarios

    raise typer.Exit(show_scenarios(name, as_json=as_json))


@lab.command()
def play(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="Its file, or a name of the house's.")],
    fidelity: Annotated[str, typer.Option(metavar="flow|real", help="Simulated, or on real nodes.")] = "flow",
    seed: Annotated[int | None, typer.Option(metavar="N", help="Instead of the scenario's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a scenario happen, and say who was paid, who earned what, and every final balance.

    At real fidelity it happens on real nodes in this process, under virtual time.
    """
    if fidelity not in ("flow", "real"):
        raise typer.BadParameter(f"--fidelity {fidelity!r} is neither flow nor real")
    from node.cli.lab_play import play_scenario

    raise typer.Exit(play_scenario(scenario, seed, is_real=fidelity == "real", as_json=as_json))
