"""`rill cli`: one command of a running node, over its socket."""

from pathlib import Path
from typing import Annotated

import typer


def cli(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Such as getinfo, newaddr, pay, or help.")],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PARAMETER]…", help="By position, or each as name=value."),
    ] = None,
    lightning_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the node lives.", show_default="~/.rill")
    ] = Path("~/.rill"),
    network: Annotated[str, typer.Option(metavar="NAME", help="The network it is on.")] = "regtest",
    rpc_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its socket, if that is not lightning-rpc.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer, or the error, as JSON on one line.")
    ] = False,
) -> None:
    """Ask a running node: its answer as tables, or with --json as programs read it.

    A value that is JSON is sent as such, everything else as text. An error of the node is one sentence \
with its number on stderr, and the exit code 1. `rill cli help` lists the commands.
    """
    from node.cli.client_call import call_node

    directory = lightning_dir.expanduser() / network
    raise typer.Exit(call_node(directory, method, parameters or [], as_json=as_json, rpc_file=rpc_file))
