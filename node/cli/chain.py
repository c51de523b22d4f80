"""`rill chain`: the embedded chain in the foreground, for nodes in other processes."""

from pathlib import Path
from typing import Annotated

import typer

FAILED, USAGE = 1, 2


def chain(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[METHOD [PARAMETER]…]", help="Ask the chain that runs, as bitcoin-cli does."),
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="Listen on this port. 0: on any free one.")] = 18443,
    datadir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the chain is kept. Without it, it goes away at the end."),
    ] = None,
    rpcuser: Annotated[str | None, typer.Option(metavar="NAME", help="A user beside the cookie's.")] = None,
    rpcpassword: Annotated[str | None, typer.Option(metavar="WORD", help="That user's password.")] = None,
) -> None:
    """A Bitcoin regtest chain with its miner, served as bitcoind's JSON-RPC.

    Nodes connect to it as to a bitcoind: with the cookie in DIR/regtest/.cookie, or with NAME and WORD. \
SIGTERM, SIGINT or `stop` end it. With a METHOD, a chain that runs with the same options is asked: \
`rill chain --datadir DIR getblockcount`, as `bitcoin-cli -regtest -datadir=DIR getblockcount` does.
    """
    if (rpcuser is None) != (rpcpassword is None):
        raise typer.BadParameter("--rpcuser and --rpcpassword go together")
    credentials = None if rpcuser is None or rpcpassword is None else (rpcuser, rpcpassword)
    if not words:
        from node.cli.chain_service import serve_chain

        raise typer.Exit(serve_chain(port, datadir, credentials))
    if credentials is None and datadir is None:
        raise typer.BadParameter("to ask a chain takes its --datadir, or --rpcuser and --rpcpassword")
    from node.chain.http import Credentials
    from node.cli.chain_call import call_chain

    secret = Credentials(*credentials) if credentials is not None else datadir or Path()
    raise typer.Exit(call_chain(port, secret, words))
