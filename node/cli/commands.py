"""The commands of `rill`.

Everything heavy is imported inside the command that needs it, so that help comes at once. A
mistake of the user gets one sentence on stderr and the exit code 2; a failure while running, 1.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from node.cli.chain import chain
from node.cli.client import cli
from node.cli.lab import lab
from node.cli.meter import meter
from node.cli.node import PURPOSE, run_node
from node.cli.restore import restore, seed
from node.cli.route import route
from node.cli.stream import browse, door, fetch, sales, share, unshare, verify_fraud, watch
from node.cli.testnet import testnet
from node.cli.watchtower import watchtower
from node.daemon.version import VERSION

USAGE, INTERRUPTED = 2, 130
_OPTIONS_OF_ITS_OWN = {"allow_extra_args": True, "ignore_unknown_options": True}

# typer carries its own copy of click or uses the installed one, but its BadParameter is always
# UsageError's child
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(name="rill", add_completion=True, pretty_exceptions_enable=False)


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def rill(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Say it, and end.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """A Lightning node in Python: a whole network on one laptop, content paid for chunk by chunk."""


@app.command()
def demo(
    film: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="What Eric sells. Without it, a short film.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where Alice writes it. Without it, ./rill-demo-NAME."),
    ] = None,
    chunk_size: Annotated[
        int, typer.Option(metavar="BYTES", help="The size of a chunk: 16 KiB times a power of two.")
    ] = 65536,
    price_msat: Annotated[int, typer.Option(metavar="N", help="What a chunk costs.")] = 100_000,
    window: Annotated[int, typer.Option(metavar="N", help="How many chunks are bought at once.")] = 50,
    seed: Annotated[int, typer.Option(metavar="N", help="Where the keys of the nodes come from.")] = 0,
    port: Annotated[
        int,
        typer.Option(metavar="N", help="Listen on this port and the four after it. 0: on any free ones."),
    ] = 0,
    web: Annotated[
        bool, typer.Option("--web", help="Watch it on a page: what is watched is bought, chunk by chunk.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, and nothing else.")] = False,
) -> None:
    """Five nodes, four hops, a film paid for chunk by chunk.

    An embedded chain and five nodes start in this process, open channels in a line, learn of them \
by gossip, and Alice buys FILE from Eric over Bob, Carol and Diana. Then every channel is closed, and \
the account is printed to the satoshi. PATH is replaced if it exists.
    """
    wish = {
        "film": film,
        "out": out,
        "chunk_size": chunk_size,
        "price_msat": price_msat,
        "window": window,
        "seed": seed,
        "first_port": port,
        "is_web": web,
    }
    try:
        from node.cli.demo import run_demo

        code = run_demo(wish, as_json=as_json)
    except KeyboardInterrupt:
        # before the demo listens for signals itself; typer would end without a word
        raise typer.Abort from None
    raise typer.Exit(code)


@app.command(add_help_option=False, context_settings=_OPTIONS_OF_ITS_OWN, help=PURPOSE)
def node(context: typer.Context) -> None:
    """Whatever follows it is the node's own."""
    raise typer.Exit(run_node(context.args))


app.command()(chain)
app.command()(cli)
app.command()(watchtower)
app.command()(route)
app.command()(share)
app.command()(unshare)
app.command()(door)
app.command()(sales)
app.command()(browse)
app.command()(fetch)
app.command()(watch)
app.command(name="verify-fraud")(verify_fraud)
app.command()(restore)
app.command()(seed)
app.add_typer(lab, name="lab")
app.add_typer(meter, name="meter")
app.add_typer(testnet, name="testnet")


def run_command(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code."""
    try:
        code = app(args=list(arguments) or ["--help"], prog_name="rill", standalone_mode=False)
    except _UsageError as wrong:
        typer.echo(f"rill: {wrong.format_message()}", err=True)
        return USAGE
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("rill: interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0
