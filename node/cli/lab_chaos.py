"""What a person sees of the chaos: what happens on a terminal, and the statement at the end."""

from collections.abc import Callable

import msgspec
import trio
import typer
from rich.console import Console
from rich.table import Table

from node.cli.signals import until_signal
from node.lab.chaos import run_chaos
from node.lab.daemons import DaemonFailed
from node.lab.statement import ChaosReport, ChaosWish

INTERRUPTED = 130


def show_chaos(seed: int, minutes: float, nodes: int, *, as_json: bool) -> int:
    """Run it and print the statement; return the exit code."""
    progress = Console(stderr=True)
    wish = ChaosWish(seed, minutes, nodes)
    with progress.status("starting") as status:
        say = status.update if progress.is_terminal else _ignore
        try:
            report = trio.run(_run, wish, say)
        except DaemonFailed as failed:
            typer.echo(f"rill: {failed}", err=True)
            return 1
    if report is None:
        return INTERRUPTED
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        Console().print(_table(report))
    return 0 if report.conserved else 1


async def _run(wish: ChaosWish, say: Callable[[str], None]) -> ChaosReport | None:
    """The statement at the end, or None if a signal came before it."""
    ended: list[ChaosReport] = []
    async with until_signal():
        ended.append(await run_chaos(wish, say))
    return ended[0] if ended else None


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
