"""How the commands are told of their network and of its bitcoind: the same options for each of them."""

from pathlib import Path
from typing import Annotated

import typer

from node.cli.places import LOG_LEVELS, NETWORKS, ChainOptions


def _log_level(level: str) -> str:
    if level not in LOG_LEVELS:
        raise typer.BadParameter(f"--log-level is {level!r}, not one of {', '.join(LOG_LEVELS)}")
    return level


NetworkName = Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(NETWORKS)}.")]
RpcHost = Annotated[str, typer.Option(metavar="HOST", help="Where bitcoind is.")]
RpcPort = Annotated[int | None, typer.Option(metavar="N", help="Its port. Without: its own.")]
RpcUser = Annotated[str | None, typer.Option(metavar="NAME", help="Without: the cookie's.")]
RpcPassword = Annotated[str | None, typer.Option(metavar="WORD")]
BitcoinDirectory = Annotated[Path, typer.Option(metavar="DIR", help="Where bitcoind keeps its cookie.")]
LogLevel = Annotated[
    str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.", callback=_log_level)
]
LogFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Log there, not to stdout.")]


def chain_options(
    network: str, host: str, port: int | None, user: str | None, password: str | None, directory: Path
) -> ChainOptions:
    """What the command line said of the chain, if it can be meant.

    Raises:
        typer.BadParameter: it cannot.
    """
    if network not in NETWORKS:
        raise typer.BadParameter(f"--network is {network!r}, not one of {', '.join(NETWORKS)}")
    if (user is None) != (password is None):
        raise typer.BadParameter("--bitcoin-rpcuser and --bitcoin-rpcpassword go together")
    return ChainOptions(network, host, port, user, password, directory.expanduser())
