"""Run the benchmarks: all of them, or those named (`python -m tests.bench onion wire`)."""

import argparse
import importlib
import inspect
import sys
from pathlib import Path

import msgspec
import trio
from rich.console import Console
from rich.table import Table

from tests.bench.harness import Hotspot, Line, Report, machine

SUBJECTS = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main() -> None:
    """Run, print a table and the profiles, and with --json write the same as one object."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("subject", nargs="*", help=", ".join(SUBJECTS))
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    asked = parser.parse_args()
    if unknown := set(asked.subject) - set(SUBJECTS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")

    report = Report()
    console = Console(stderr=True)
    for subject in asked.subject or SUBJECTS:
        with console.status(f"{subject} …"):
            measure(subject, report)
    show(report, Console(width=None if sys.stdout.isatty() else 140))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(found(report))) + b"\n")


def measure(subject: str, report: Report) -> None:
    """Run one benchmark, plain or async."""
    run = importlib.import_module(f"tests.bench.bench_{subject}").run
    report.subject = subject
    if inspect.iscoroutinefunction(run):
        trio.run(run, report)
    else:
        run(report)


def found(report: Report) -> dict[str, object]:
    """The whole report as one object."""
    return {"machine": machine(), "figures": report.lines, "profiles": report.profiles}


def show(report: Report, console: Console) -> None:
    """Print the figures by subject, then the profiles, then the machine."""
    for subject in dict.fromkeys(line.subject for line in report.lines):
        console.print(_table(subject, [line for line in report.lines if line.subject == subject]))
    for name, hotspots in report.profiles.items():
        console.print(_profile(name, hotspots))
    here = machine()
    console.print(f"{here['cores']} cores ({here['processor']}), {here['system']}, {here['python']}")


def _table(subject: str, lines: list[Line]) -> Table:
    """One subject's figures; a column that would be empty is left out."""
    headings = ("", "median", "p95", "ratio to", "goal", "beside")
    rows = [_row(line) for line in lines]
    columns = [column for column in range(len(headings)) if column < 2 or any(row[column] for row in rows)]
    table = Table(title=subject, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(headings[column], justify="left" if headings[column] in ("", "beside") else "right")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def _row(line: Line) -> list[str]:
    mark = {None: "", True: " ✓", False: " ✗"}[line.is_met]
    return [
        line.name,
        _amount(line.median, line.unit),
        "" if line.p95 is None else _amount(line.p95, line.unit),
        "" if line.ratio is None else f"{line.ratio:.2f} × {line.floor}",
        "" if line.goal is None else _amount(line.goal, line.unit) + mark,
        line.beside or "",
    ]


def _profile(name: str, hotspots: list[Hotspot]) -> Table:
    table = Table(title=f"profile of {name}", title_justify="left", title_style="bold")
    for heading in ("share", "own", "calls"):
        table.add_column(heading, justify="right")
    table.add_column("function")
    for spot in hotspots:
        table.add_row(f"{spot.share:.1%}", _amount(spot.own_seconds, "s"), f"{spot.calls:,}", spot.where)
    return table


def _amount(value: float, unit: str) -> str:
    """A figure as a person reads it: 12.3 µs, 312 /s, 24.1 MiB/s."""
    if unit != "s":
        return f"{value:,.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"
    scale, name = next((s for s in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")) if value >= s[0]), (1e-9, "ns"))
    return f"{value / scale:.3g} {name}" if value < 1000 * scale else f"{value / scale:,.0f} {name}"


if __name__ == "__main__":
    main()
