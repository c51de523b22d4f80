"""`rill node`: one node in the foreground, with Core Lightning's names for what both have."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

NETWORKS = ("bitcoin", "testnet", "testnet4", "signet", "regtest")
DEFAULT_DIRECTORY = Path("~/.rill")
DEFAULT_BITCOIN_DIRECTORY = Path("~/.bitcoin")


class NodeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line said."""

    directory: Path
    network: str
    alias: str
    bind_addr: str | None
    log_level: str
    log_file: Path | None
    bitcoin_host: str
    bitcoin_port: int | None
    bitcoin_user: str | None
    bitcoin_password: str | None
    bitcoin_directory: Path


def node(
    lightning_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the node lives: its seed, its database, its socket.")
    ] = DEFAULT_DIRECTORY,
    network: Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(NETWORKS)}.")] = "regtest",
    alias: Annotated[
        str, typer.Option(metavar="NAME", help="How others see it. Without: from its key.")
    ] = "",
    bind_addr: Annotated[
        str | None,
        typer.Option(metavar="HOST[:PORT]", help="Listen there. Port 0: any. Without: on the loopback."),
    ] = None,
    log_level: Annotated[str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = "info",
    log_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Log there, not to stdout.")] = None,
    bitcoin_rpcconnect: Annotated[str, typer.Option(metavar="HOST", help="Where bitcoind is.")] = "127.0.0.1",
    bitcoin_rpcport: Annotated[
        int | None, typer.Option(metavar="N", help="Its port. Without: its own.")
    ] = None,
    bitcoin_rpcuser: Annotated[
        str | None, typer.Option(metavar="NAME", help="Without: the cookie's.")
    ] = None,
    bitcoin_rpcpassword: Annotated[str | None, typer.Option(metavar="WORD")] = None,
    bitcoin_datadir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where bitcoind keeps its cookie.")
    ] = DEFAULT_BITCOIN_DIRECTORY,
) -> None:
    """One Lightning node, on a bitcoind or on the chain of `rill chain`.

    It is driven over the socket DIR/NETWORK/lightning-rpc, as Core Lightning is. SIGTERM, SIGINT or the \
command `stop` end it.
    """
    if network not in NETWORKS:
        raise typer.BadParameter(f"--network is {network!r}, not one of {', '.join(NETWORKS)}")
    if (bitcoin_rpcuser is None) != (bitcoin_rpcpassword is None):
        raise typer.BadParameter("--bitcoin-rpcuser and --bitcoin-rpcpassword go together")
    from node.cli.node_service import serve_node

    options = NodeOptions(
        directory=lightning_dir.expanduser(),
        network=network,
        alias=alias,
        bind_addr=bind_addr,
        log_level=log_level,
        log_file=log_file,
        bitcoin_host=bitcoin_rpcconnect,
        bitcoin_port=bitcoin_rpcport,
        bitcoin_user=bitcoin_rpcuser,
        bitcoin_password=bitcoin_rpcpassword,
        bitcoin_directory=bitcoin_datadir.expanduser(),
    )
    raise typer.Exit(serve_node(options))
