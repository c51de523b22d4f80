"""`rill node`: one node in the foreground, with Core Lightning's names for what both have."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from node.cli.chain_options import (
    DEFAULT_BITCOIN_DIRECTORY,
    DEFAULT_DIRECTORY,
    BitcoinDirectory,
    ChainOptions,
    LogFile,
    LogLevel,
    NetworkName,
    RpcHost,
    RpcPassword,
    RpcPort,
    RpcUser,
    chain_options,
)

TOWER = re.compile(r"(0[23][0-9a-fA-F]{64})@(.+):([0-9]{1,5})")


class TowerOption(NamedTuple):
    """A watchtower that shall watch for the node."""

    node_id: bytes
    host: str
    port: int


class NodeOptions(NamedTuple):
    """What the command line said."""

    directory: Path
    alias: str
    bind_addr: str | None
    log_level: str
    log_file: Path | None
    watchtowers: tuple[TowerOption, ...]
    chain: ChainOptions


def node(
    lightning_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the node lives: its seed, its database, its socket.")
    ] = DEFAULT_DIRECTORY,
    network: NetworkName = "regtest",
    alias: Annotated[
        str, typer.Option(metavar="NAME", help="How others see it. Without: from its key.")
    ] = "",
    bind_addr: Annotated[
        str | None,
        typer.Option(metavar="HOST[:PORT]", help="Listen there. Port 0: any. Without: on the loopback."),
    ] = None,
    watchtower: Annotated[
        list[str] | None,
        typer.Option(metavar="ID@HOST:PORT", help="Let it watch for us; see `rill watchtower`. Repeatable."),
    ] = None,
    log_level: LogLevel = "info",
    log_file: LogFile = None,
    bitcoin_rpcconnect: RpcHost = "127.0.0.1",
    bitcoin_rpcport: RpcPort = None,
    bitcoin_rpcuser: RpcUser = None,
    bitcoin_rpcpassword: RpcPassword = None,
    bitcoin_datadir: BitcoinDirectory = DEFAULT_BITCOIN_DIRECTORY,
) -> None:
    """One Lightning node, on a bitcoind or on the chain of `rill chain`.

    It is driven over the socket DIR/NETWORK/lightning-rpc, as Core Lightning is. SIGTERM, SIGINT or the \
command `stop` end it.
    """
    options = NodeOptions(
        directory=lightning_dir.expanduser(),
        alias=alias,
        bind_addr=bind_addr,
        log_level=log_level,
        log_file=log_file,
        watchtowers=tuple(map(_tower, watchtower or ())),
        chain=chain_options(
            network,
            bitcoin_rpcconnect,
            bitcoin_rpcport,
            bitcoin_rpcuser,
            bitcoin_rpcpassword,
            bitcoin_datadir,
        ),
    )
    from node.cli.node_service import serve_node

    raise typer.Exit(serve_node(options))


def _tower(text: str) -> TowerOption:
    found = TOWER.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"--watchtower is {text!r}, not ID@HOST:PORT")
    return TowerOption(bytes.fromhex(found[1]), found[2].strip("[]"), int(found[3]))
