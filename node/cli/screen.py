"""What a person sees of the demo: live progress on a terminal, and the account at the end.

Progress goes to stderr and only if that is a terminal; the account goes to stdout.
"""

from types import TracebackType

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from node.lab.account import Account
from node.lab.plan import PUSHED_SAT, Plan
from node.stream.manifest import Manifest
from node.stream.receipt import ChunkBought
from wire.units import Msat

DUST_LIMIT_MSAT = 354_000
MEBIBYTE = 1 << 20


class _Earned(ProgressColumn):
    """How fast the film comes, and what was paid for it so far."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        speed = (task.speed or 0) / MEBIBYTE
        return Text(f"{speed:5.1f} MiB/s  {task.fields['paid_msat'] // 1000:,} sat", style="cyan")


class Screen:
    """Live progress while inside its `with` block; nothing at all if stderr is no terminal."""

    def __init__(self) -> None:
        self.has_channels = False
        console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            _Earned(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, paid_msat=0)

    def __enter__(self) -> "Screen":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def stage(self, text: str) -> None:
        """What happens from now on."""
        self._progress.update(self._task, description=text, total=None)

    def channels_open(self) -> None:
        """From now on there is something to be left as it is."""
        self.has_channels = True

    def buying(self, manifest: Manifest) -> None:
        """The first chunk is about to be asked for."""
        self._progress.reset(self._task, total=manifest.layout.length, description="Alice buys the film")

    def page(self, url: str) -> None:
        """The film waits here: bring the person there if there is one."""
        self._progress.console.print(f"watch it at [link={url}]{url}[/link]", soft_wrap=True, highlight=False)
        if self._progress.console.is_terminal:
            typer.launch(url)

    def bought(self, chunk: ChunkBought) -> None:
        """One chunk more."""
        task = self._progress.tasks[0]
        paid_msat = task.fields["paid_msat"] + chunk.price_msat + chunk.fee_msat
        self._progress.update(self._task, advance=chunk.bytes, paid_msat=paid_msat)


def print_account(account: Account, plan: Plan) -> None:
    """The account, for a person."""
    console = Console(highlight=False)
    console.print()
    console.print(_summary(account, plan))
    console.print(_nodes(account))
    console.print(_verdict(account))


def _summary(account: Account, plan: Plan) -> Table:
    film, seconds, chunk = account.film, account.seconds, account.chunk_ms
    fees_msat = sum(account.fees_msat.values())
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("film", f"{film.name}, {film.bytes:,} bytes in {film.chunks:,} chunks")
    table.add_row("copy", _copy(account, plan))
    table.add_row("pieces root", film.pieces_root)
    table.add_row("route", " → ".join(name.capitalize() for name in account.route))
    table.add_row("paid to Eric", f"{_sat(account.paid_msat)}{_dust(plan.price_msat)}")
    table.add_row("fees", f"{_sat(fees_msat)} to the three hops")
    table.add_row("a chunk took", f"{chunk.median:.1f} ms in the median, {chunk.p95:.1f} ms at p95")
    table.add_row("goodput", f"{account.goodput_mib_s:.1f} MiB/s with a window of {plan.window}")
    table.add_row(
        "time",
        f"ready in {seconds.ready:.2f} s, streamed in {seconds.stream:.2f} s, "
        f"closed in {seconds.close:.2f} s: {seconds.total:.2f} s",
    )
    return table


def _copy(account: Account, plan: Plan) -> str:
    """What became of the copy: a film that was not watched to its end has none."""
    if account.paid_msat == account.film.chunks * plan.price_msat:
        return f"{plan.out}, the same bytes"
    bought = account.paid_msat // plan.price_msat
    return f"none: {bought:,} of {account.film.chunks:,} chunks were bought"


def _nodes(account: Account) -> Table:
    table = Table(title="what each node has on chain, in satoshi", title_justify="left", title_style="bold")
    table.add_column("node")
    for name in ("before", "after", "change", "fees earned"):
        table.add_column(name, justify="right")
    for name, balance in account.balances_sat.items():
        fee_msat = account.fees_msat.get(name)
        table.add_row(
            name.capitalize(),
            f"{balance.before:,}",
            f"{balance.after:,}",
            f"{balance.after - balance.before:+,}",
            "" if fee_msat is None else f"{fee_msat / 1000:,.3f}",
        )
    return table


def _verdict(account: Account) -> Text:
    chain = account.chain
    counts = ", ".join(map(str, chain.transactions_per_channel))
    text = (
        f"Each opener gave half of its channel, {PUSHED_SAT:,} sat, to the next in line.\n"
        f"Transactions on chain per channel: {counts}. On-chain fees: {chain.onchain_fees_sat:,} sat.\n"
    )
    if account.conserved:
        return Text(text + "Every satoshi is accounted for.", style="green")
    return Text(text + "The satoshis before and after do not add up.", style="bold red")


def _sat(amount_msat: int) -> str:
    return f"{amount_msat / 1000:,.3f}".rstrip("0").rstrip(".") + " sat"


def _dust(price_msat: Msat) -> str:
    """What a small price means: said where the price is shown."""
    if price_msat >= DUST_LIMIT_MSAT:
        return ""
    return " (each price is below the dust limit: no output on chain)"
