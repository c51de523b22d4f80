"""What an experiment leaves behind: tables, plots, a page, and a manifest; the same findings, the same bytes.

Nothing that is written knows when or where it was written. Tables are CSV and Parquet, plots SVG and PNG.
The libraries for it are the extra `lab`, imported only here and only when something is written.
"""

import csv
import io
import json
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from node.lab.experiments.model import Cell, Figure, Findings, Table

LIBRARIES = ("rill-lightning", "matplotlib", "numpy", "pyarrow")
PLOT_INCHES = 7.2, 4.2
_PLOT_STYLE: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.fonttype": "path",
    "svg.hashsalt": "rill",
}
COLOURS = ("#2563eb", "#ea580c", "#16a34a", "#9333ea", "#dc2626", "#0891b2", "#a16207")
MOST_MARKED = 25
MANIFEST, REPORT = "manifest.json", "report.html"


class LabMissing(Exception):
    """What draws and writes tables is not installed."""

    def __init__(self, library: str) -> None:
        super().__init__(f"{library} is missing: the lab needs `pip install 'rill-lightning[lab]'`")


def write_results(folder: Path, question: str, findings: Findings, manifest: Mapping[str, Any]) -> None:
    """Write everything into a folder, which is made if need be. The manifest names the experiment.

    Raises:
        LabMissing: the extra is not installed.
        OSError: the folder cannot be written.
    """
    check_lab()
    folder.mkdir(parents=True, exist_ok=True)
    for table in findings.tables:
        write_table(folder, table)
    pictures = [draw(folder, figure) for figure in findings.figures]
    whole = {**manifest, "versions": versions(), "answers": findings.answers, "summary": findings.summary}
    (folder / MANIFEST).write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    page = _page(question, findings, pictures, whole)
    (folder / REPORT).write_text(page, encoding="utf-8")


def check_lab() -> None:
    """Raises LabMissing unless the extra is installed."""
    for library in ("matplotlib", "pyarrow"):
        try:
            version(library)
        except ModuleNotFoundError:
            raise LabMissing(library) from None


def versions() -> dict[str, str]:
    """What the results depend on beside the seed."""
    return {"python": platform.python_version(), **{library: version(library) for library in LIBRARIES}}


# --- tables


def write_table(folder: Path, table: Table) -> None:
    """One table, as CSV and as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    (folder / f"{table.name}.csv").write_bytes(csv_of(table.columns, table.rows))
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    arrays = [pa.array(_alike(column)) for column in columns]
    parquet.write_table(pa.table(arrays, names=list(table.columns)), folder / f"{table.name}.parquet")


def csv_of(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> bytes:
    """The rows under their heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _alike(column: Sequence[Cell]) -> list[Cell]:
    """A column has one type: whole numbers among others become others."""
    has_fractions = any(isinstance(cell, float) for cell in column)
    return [float(cell) for cell in column] if has_fractions else list(column)


# --- plots


def draw(folder: Path, figure: Figure) -> str:
    """One figure, as SVG and as PNG; the SVG's text."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(_PLOT_STYLE):
        picture, axes = plt.subplots(figsize=PLOT_INCHES, layout="constrained")
        (_bars if figure.bars else _lines)(axes, figure)
        axes.set_title(figure.title, loc="left", fontweight="bold")
        axes.set_xlabel(figure.x_label)
        axes.set_ylabel(figure.y_label)
        axes.grid(axis="y", color="#e5e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
        svg = folder / f"{figure.name}.svg"
        picture.savefig(svg, metadata={"Date": None, "Creator": None})
        picture.savefig(folder / f"{figure.name}.png", dpi=144, metadata={"Software": None})
        plt.close(picture)
    return svg.read_text(encoding="utf-8")


def _lines(axes: Any, figure: Figure) -> None:
    for number, line in enumerate(figure.lines):
        marker = "o" if len(line.x) <= MOST_MARKED else None
        # each thinner than the one below it, so that both are seen where they agree
        look = {"color": COLOURS[number % len(COLOURS)], "linewidth": max(1.2, 4.0 - 1.4 * number)}
        axes.plot(line.x, line.y, label=line.label, marker=marker, markersize=3.5, **look)
    if figure.is_log_x:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(_plain)
    if len(figure.lines) > 1:
        axes.legend(frameon=False)


def _plain(value: float, _: object) -> str:
    """A number on an axis, never as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _bars(axes: Any, figure: Figure) -> None:
    names, values = zip(*figure.bars, strict=True)
    drawn = axes.bar(names, values, color=COLOURS[0], width=0.6)
    axes.bar_label(drawn, fmt="{:,.3g}", padding=2)


# --- the page

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem;
  color: #111827; background: #fff }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
.question { color: #4b5563; margin-top: .25rem } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .85rem } td, th { padding: .2rem .6rem; text-align: right }
th { border-bottom: 2px solid #d1d5db } td { border-bottom: 1px solid #f3f4f6 } .wide { overflow-x: auto }
td:first-child, th:first-child { text-align: left } pre { font-size: .8rem; overflow-x: auto }
"""
MOST_ROWS = 80


def _page(question: str, findings: Findings, svgs: Sequence[str], manifest: Mapping[str, Any]) -> str:
    name, told = str(manifest["experiment"]), json.dumps(manifest, indent=2, sort_keys=True)
    parts = [f"<h1>{escape(name)}</h1>", f'<p class="question">{escape(question)}</p>', "<h2>Answer</h2><ul>"]
    parts += [f"<li>{escape(answer)}</li>" for answer in findings.answers]
    parts += ["</ul>", *(svg[svg.index("<svg") :] for svg in svgs)]
    parts += [_table(table) for table in findings.tables]
    parts += ["<h2>How to have it again</h2>", f"<pre>{escape(told)}</pre>"]
    head = f'<meta charset="utf-8"><title>{escape(name)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def _table(table: Table) -> str:
    heading = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = ["".join(f"<td>{escape(_shown(cell))}</td>" for cell in row) for row in table.rows[:MOST_ROWS]]
    more = len(table.rows) - MOST_ROWS
    note = f"<p>and {more} rows more in {escape(table.name)}.csv</p>" if more > 0 else ""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<h2>{escape(table.name)}</h2><div class="wide"><table><tr>{heading}</tr>{body}</table></div>{note}'
    )


def _shown(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.4g}" if abs(cell) < 1000 else f"{cell:,.0f}"
