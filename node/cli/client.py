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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on one line, and nothing else.")
    ] = False,
) -> None:
    """Ask a running node, as lightning-cli does; the answer is JSON.

    A value that is JSON is sent as such, everything else as text. An error of the node is one sentence \
on stderr and the exit code 1.
    """
    from node.cli.client_call import call_node

    raise typer.Exit(
        call_node(lightning_dir.expanduser() / network, method, parameters or [], as_json=as_json)
    )
