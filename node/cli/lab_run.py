"""`rill lab run`, `list` and `sweep`: from options to an experiment, from findings to files and sentences."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import typer
from rich.console import Console

from node.cli.testnet_calls import FAILED, USAGE, print_json, say_failed
from node.lab.experiments.model import Experiment, Findings, listener
from node.lab.graphs import BadGraphFile
from node.lab.plugins import EXPERIMENTS, FEES, TRAFFIC, BadPlugin, names_of, plugin, plugin_class
from node.lab.results import REPORT, LabMissing, check_lab, write_results
from node.lab.sweeps import NoCluster, OtherSweep, Plan, sweep


class BadSetting(Exception):
    """An option of an experiment is not NAME=VALUE."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"{option} {text!r} is not NAME=VALUE")


def settings_of(option: str, texts: list[str]) -> dict[str, Any]:
    """The values by name: JSON where it is some, else text.

    Raises:
        BadSetting: one has no name or no value.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals and value):
            raise BadSetting(option, text)
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def show_list(*, as_json: bool) -> int:
    """The experiments with their questions and options, and the plug-ins they can use."""
    found = {name: plugin_class(EXPERIMENTS, name) for name in names_of(EXPERIMENTS)}
    if as_json:
        experiments = [
            {
                "name": name,
                "question": made.question,
                "seconds": made.takes_seconds,
                "options": msgspec.to_builtins(made()),
            }
            for name, made in found.items()
        ]
        print_json({"experiments": experiments, "fees": names_of(FEES), "traffic": names_of(TRAFFIC)})
        return 0
    console = Console(highlight=False)
    for name, made in found.items():
        takes = f"  (about {made.takes_seconds} s on one core)" if made.takes_seconds else ""
        console.print(f"[bold]{name}[/bold]  {made.question}{takes}")
        options = (f"{key}={_shown(value)}" for key, value in msgspec.to_builtins(made()).items())
        console.print("    " + "  ".join(options), style="dim", markup=False)
    console.print("[bold]graph[/bold]  mainnet, made from the seed; town, a small one; or a file of a graph")
    console.print(f"[bold]fee policies[/bold]  {', '.join(names_of(FEES))}")
    console.print(f"[bold]traffic models[/bold]  {', '.join(names_of(TRAFFIC))}")
    return 0


def _shown(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def run_experiment(name: str, seed: int, texts: list[str], out: Path | None, *, as_json: bool) -> int:
    """Run one, write its results, print its answers; return the exit code."""
    folder = out or Path(f"lab-{name}-{seed}")
    try:
        experiment = plugin(EXPERIMENTS, name, settings_of("--set", texts), Experiment)
        check_lab()
        findings = _watched(name, experiment, seed)
        manifest = {"experiment": name, "seed": seed, "options": msgspec.to_builtins(experiment)}
        write_results(folder, experiment.question, findings, manifest)
    except (BadPlugin, BadSetting) as wrong:
        return say_failed(wrong, USAGE)
    except (BadGraphFile, LabMissing, OSError) as failed:
        return say_failed(failed, FAILED)
    if as_json:
        found = {"answers": findings.answers, "summary": findings.summary}
        print_json({**manifest, **found, "folder": str(folder)})
    else:
        for answer in findings.answers:
            typer.echo(answer)
        typer.echo(f"report: {folder / REPORT}")
    return 0


def _watched(name: str, experiment: Experiment, seed: int) -> Findings:
    """Run it, and say how far it is."""
    with Console(stderr=True).status(name) as status:
        listening = listener.set(lambda done, of: status.update(f"{name}: {done} of {of} runs are done"))
        try:
            return experiment.run(seed)
        finally:
            listener.reset(listening)


class SweepWish(NamedTuple):
    """What the command line said."""

    name: str
    seed: int
    grid: list[str]
    workers: int
    cluster: str | None
    out: Path | None


def run_sweep(wish: SweepWish, *, as_json: bool) -> int:
    """Sweep a grid, and print where the table is; return the exit code."""
    name = wish.name
    folder = wish.out or Path(f"sweep-{name}-{wish.seed}")
    try:
        grid = {key: _values(value) for key, value in settings_of("--grid", wish.grid).items()}
        plan = Plan(name, grid, wish.seed, wish.workers or os.cpu_count() or 1, wish.cluster)
        with Console(stderr=True).status(name) as status:
            table = sweep(folder, plan, lambda done, total: status.update(f"{name}: {done} of {total}"))
    except (BadPlugin, BadSetting) as wrong:
        return say_failed(wrong, USAGE)
    except KeyboardInterrupt:
        say_failed(f"interrupted: the same command goes on where it stopped, in {folder}")
        raise
    except (LabMissing, OtherSweep, NoCluster, OSError) as failed:
        return say_failed(failed, FAILED)
    if as_json:
        print_json({"folder": str(folder), "columns": table.columns, "rows": table.rows})
    else:
        typer.echo(f"{len(table.rows)} points: {folder / 'sweep.csv'}")
    return 0


def _values(value: Any) -> list[Any]:
    """The values of one option in a grid: a list as it is, else what commas part."""
    if isinstance(value, list):
        return value
    return [_value(part) for part in value.split(",")] if isinstance(value, str) else [value]
