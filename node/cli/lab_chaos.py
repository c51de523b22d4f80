"""What a person sees of the chaos: what happens on a terminal, and the statement at the end."""

from functools import partial

import msgspec
import trio
import typer
from rich.console import Console
from rich.table import Table

from node.lab.chaos import run_chaos
from node.lab.daemons import DaemonFailed
from node.lab.statement import ChaosReport, ChaosWish


def show_chaos(seed: int, minutes: float, nodes: int, *, as_json: bool) -> int:
    """Run it and print the statement; return the exit code."""
    progress = Console(stderr=True)
    wish = ChaosWish(seed, minutes, nodes)
    with progress.status("starting") as status:
        say = status.update if progress.is_terminal else _ignore
        try:
            report = trio.run(partial(run_chaos, wish, say))
        except ExceptionGroup as group:
            failed, others = group.split(DaemonFailed)
            if failed is None or others is not None:
                raise
            typer.echo(f"rill: {_first(failed)}", err=True)
            return 1
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        Console().print(_table(report))
    return 0 if report.conserved else 1


def _first(group: BaseException) -> BaseException:
    return _first(group.exceptions[0]) if isinstance(group, BaseExceptionGroup) else group


def _ignore(_: str) -> None:
    """Quiet where nobody watches."""


def _table(report: ChaosReport) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(justify="right")
    paid = report.payments
    table.add_row("payments sent, failed, stuck", f"{paid.sent:,}  {paid.failed:,}  {paid.stuck}")
    table.add_row("kills, cuts, reorganisations", f"{report.kills}  {report.cuts}  {report.reorgs}")
    table.add_row("breaches punished", str(report.breaches_punished))
    table.add_row("wallets at the start", f"{report.start_sat:,} sat")
    table.add_row("wallets at the end", f"{report.end_sat:,} sat")
    table.add_row("fees on chain", f"{report.onchain_fees_sat:,} sat")
    table.add_row("anchors that nobody took", f"{report.anchors_left_sat:,} sat")
    table.add_row("HTLCs not worth their fee", f"{report.dust_left_sat:,} sat")
    table.add_row("missing", f"{report.difference_sat:,} sat")
    return table
