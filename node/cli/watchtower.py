"""`rill watchtower`: watching the chain for nodes that are away."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from node.cli.chain_options import (
    BitcoinDirectory,
    LogFile,
    LogLevel,
    NetworkName,
    RpcHost,
    RpcPassword,
    RpcPort,
    RpcUser,
    chain_options,
)
from node.cli.places import DEFAULT_BITCOIN_DIRECTORY, DEFAULT_DIRECTORY, ChainOptions


class TowerOptions(NamedTuple):
    """What the command line said."""

    directory: Path
    bind_addr: str | None
    client_mib: int
    total_mib: int
    as_json: bool
    log_level: str
    log_file: Path | None
    chain: ChainOptions


def watchtower(
    lightning_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="The tower lives in DIR/NETWORK/watchtower.")
    ] = DEFAULT_DIRECTORY,
    network: NetworkName = "regtest",
    bind_addr: Annotated[
        str | None,
        typer.Option(metavar="HOST[:PORT]", help="Listen there. Port 0: any. Without: 127.0.0.1:9911."),
    ] = None,
    client_mib: Annotated[int, typer.Option(metavar="N", min=1, help="What one client may store.")] = 256,
    total_mib: Annotated[int, typer.Option(metavar="N", min=1, help="What all together may.")] = 16384,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object in a line.")] = False,
    log_level: LogLevel = "warning",
    log_file: LogFile = None,
    bitcoin_rpcconnect: RpcHost = "127.0.0.1",
    bitcoin_rpcport: RpcPort = None,
    bitcoin_rpcuser: RpcUser = None,
    bitcoin_rpcpassword: RpcPassword = None,
    bitcoin_datadir: BitcoinDirectory = DEFAULT_BITCOIN_DIRECTORY,
) -> None:
    """A watchtower: it punishes whoever cheats a node that is away.

    Nodes give it sealed penalties (`rill node --watchtower ID@HOST:PORT`). It learns nothing from them \
until a revoked commitment is in a block, needs no money, and can only pay the node that was cheated. \
SIGTERM or SIGINT end it.
    """
    chain = chain_options(
        network, bitcoin_rpcconnect, bitcoin_rpcport, bitcoin_rpcuser, bitcoin_rpcpassword, bitcoin_datadir
    )
    directory = lightning_dir.expanduser() / network / "watchtower"
    options = TowerOptions(directory, bind_addr, client_mib, total_mib, as_json, log_level, log_file, chain)
    from node.cli.watchtower_service import serve_watchtower

    raise typer.Exit(serve_watchtower(options))
