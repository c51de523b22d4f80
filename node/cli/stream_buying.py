"""What `rill browse` and `rill fetch` do."""

import signal
import webbrowser
from pathlib import Path
from typing import Any, NamedTuple

import trio
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from node.cli.stream_calls import FAILED, INTERRUPTED, given, print_json, sat, size, with_node
from node.daemon.rpc_client import NodeClient

INTERRUPTION = "interrupted"
LOOK_SECONDS = 0.1
"""At most so often the progress is shown again."""


class Budgets(NamedTuple):
    """What may be spent; None leaves it to what the provider asks now."""

    per_chunk_msat: int | None
    per_title_msat: int | None
    per_hour_msat: int | None
    fee_per_chunk_msat: int | None


class FetchWish(NamedTuple):
    """What the command line said."""

    link: str
    out: Path
    budgets: Budgets
    is_reshared: bool
    reshare_msat: int | None


def show_catalogue(directory: Path, provider: str, *, as_json: bool) -> int:
    """Print what a provider sells; return the exit code."""

    async def act(node: NodeClient) -> int:
        found = await node.call("catalogue", provider=provider)
        if as_json:
            print_json(found)
            return 0
        for each in found["titles"]:
            typer.echo(f"{each['title']}: {size(each['length'])}, {sat(each['total_msat'])}\n{each['link']}")
        if found["missing"]:
            typer.echo(f"and {found['missing']} more")
        return 0

    return with_node(directory, act)


def fetch_link(directory: Path, wish: FetchWish, *, as_json: bool) -> int:
    """Buy until the file is whole or the title stops; return the exit code."""
    if wish.out.exists():
        typer.echo(f"rill: {wish.out} exists already", err=True)
        return FAILED
    if not wish.out.absolute().parent.is_dir():
        typer.echo(f"rill: {wish.out.absolute().parent} is no directory", err=True)
        return FAILED

    async def act(node: NodeClient) -> int:
        title = await node.call("fetch", **_call(wish))
        if wish.is_reshared:
            title = await node.call("fetch", **_call(wish), reshare_msat=_resale_price(wish, title))
        if title["price_note"] and not as_json:
            typer.echo(title["price_note"], err=True)
        title = await _follow(node, title, quiet=as_json)
        return _end(title, wish.out, as_json=as_json)

    return with_node(directory, act)


def watch_link(directory: Path, link: str, budgets: Budgets, *, opens_browser: bool) -> int:
    """Show a title on the node's page until interrupted; return the exit code."""

    async def act(node: NodeClient) -> int:
        shown = await node.call("watch", link=link, **given(**budgets._asdict()))
        title = shown["title"]
        if title["price_note"]:
            typer.echo(title["price_note"], err=True)
        typer.echo(shown["url"])
        if opens_browser and not webbrowser.open(shown["url"]):
            typer.echo("rill: there is no browser here: open the link yourself", err=True)
        await _follow(node, title, quiet=False, is_watched=True)
        return 0

    return with_node(directory, act)


def _call(wish: FetchWish) -> dict[str, Any]:
    return given(link=wish.link, out=str(wish.out.absolute()), **wish.budgets._asdict())


def _resale_price(wish: FetchWish, title: dict[str, Any]) -> int:
    return title["price_msat"] if wish.reshare_msat is None else wish.reshare_msat


async def _follow(
    node: NodeClient, title: dict[str, Any], *, quiet: bool, is_watched: bool = False
) -> dict[str, Any]:
    """Show the title as it comes, until a download is whole or stopped; a signal closes it."""
    console = Console(stderr=True)
    is_shown = console.is_terminal and not quiet
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not is_shown) as progress:
        bar = progress.add_task(title["title"], total=title["chunk_count"])
        signals: list[int] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(_close_on_signal, node, title["root"], signals, nursery.cancel_scope)
            while is_watched or not (title["delivered"] or title["is_stopped"]):
                title = await node.call("waittitle", root=title["root"], version=title["version"])
                text = f"{title['title']}  {sat(title['spent_msat'])} + {sat(title['fee_msat'])}"
                shown = f"{text}  {title['problem']}" if title["problem"] else text
                progress.update(bar, completed=title["chunks_bought"], description=shown)
                await trio.sleep(LOOK_SECONDS)
            nursery.cancel_scope.cancel()
    return {**title, "problem": INTERRUPTION} if signals else title


async def _close_on_signal(
    node: NodeClient,
    root: str,
    caught: list[int],
    scope: trio.CancelScope,
    task_status: trio.TaskStatus[None],
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            caught.append(number)
            await node.call("closetitle", root=root)
            scope.cancel()
            return


def _end(title: dict[str, Any], out: Path, *, as_json: bool) -> int:
    """Say what it came to."""
    is_whole = bool(title["delivered"])
    if as_json:
        print_json(title)
    else:
        bought = f"{title['chunks_bought']} of {title['chunk_count']} chunks"
        paid = f"{sat(title['spent_msat'])} to providers and {sat(title['fee_msat'])} to the nodes on the way"
        typer.echo(f"{out if is_whole else title['title']}: {bought} for {paid}")
    if is_whole:
        return 0
    typer.echo(f"rill: {title['problem']}; what was bought is kept", err=True)
    return INTERRUPTED if title["problem"] == INTERRUPTION else FAILED
