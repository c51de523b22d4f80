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
        Path | None, typer.Option(metavar="DIR", help="Where the node lives.", show_default="~/.rill")
    ] = None,
    network: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network it is on.", show_default="regtest")
    ] = None,
    conf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The node's configuration, if it has another.")
    ] = None,
    mainnet: Annotated[bool, typer.Option("--mainnet", help="The same as --network=bitcoin.")] = False,
    testnet: Annotated[bool, typer.Option("--testnet", help="And so on.")] = False,
    signet: Annotated[bool, typer.Option("--signet", hidden=True)] = False,
    regtest: Annotated[bool, typer.Option("--regtest", hidden=True)] = False,
    rpc_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its socket, if that is not lightning-rpc.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", "-J", help="Print the answer, or the error, as JSON on one line.")
    ] = False,
    is_raw: Annotated[bool, typer.Option("--raw", "-R", help="As JSON, as the node wrote it.")] = False,
    is_flat: Annotated[bool, typer.Option("--flat", "-F", help="One value in a line, as a.b[0]=c.")] = False,
    is_human: Annotated[
        bool, typer.Option("--human-readable", "-H", help="As tables, which is usual.")
    ] = False,
    by_name: Annotated[bool, typer.Option("--keywords", "-k", help="All parameters are name=value.")] = False,
    by_place: Annotated[bool, typer.Option("--order", "-o", help="None of them is.")] = False,
    notifications: Annotated[
        str | None,
        typer.Option("--notifications", "-N", metavar="LEVEL", help="Tell how it gets on: none, info, …"),
    ] = None,
    filter: Annotated[
        str | None, typer.Option("--filter", "-l", metavar="JSON", help="Which fields to ask for.")
    ] = None,
) -> None:
    """Ask a running node: its answer as tables, or with --json as programs read it.

    A value that is JSON is sent as such, everything else as text. An error of the node is one sentence \
with its number on stderr, and the exit code 1; it is 2 if there is no node. `rill cli help` lists the \
commands.
    """
    from node.cli.client_call import Call, Shape, call_node
    from node.cli.client_place import socket_of

    flags = {"mainnet": mainnet, "testnet": testnet, "signet": signet, "regtest": regtest}
    said = {"lightning-dir": lightning_dir, "network": network, "conf": conf, "rpc-file": rpc_file}
    shapes = {Shape.RAW: is_raw, Shape.FLAT: is_flat, Shape.JSON: as_json, Shape.TABLES: is_human}
    if sum(shapes.values()) > 1 or (by_name and by_place):
        raise typer.BadParameter("these options do not go together: one form of answers, one of parameters")
    shape = next((shape for shape, is_wished in shapes.items() if is_wished), Shape.TABLES)
    call = Call(method, tuple(parameters or ()), by_name, by_place, filter, notifications)
    raise typer.Exit(call_node(socket_of(said, flags), call, shape))
