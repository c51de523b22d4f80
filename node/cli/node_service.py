"""What `rill node` runs: the node, its chain, its RPC, and what ends them."""

import logging
from pathlib import Path

import trio
import typer

from node.chain.bitcoind import BitcoindChain, cookie_path
from node.chain.http import Credentials
from node.chain.interface import ChainTrouble, UnknownBlock
from node.chain.rpc_client import StartingUp
from node.cli.logs import start_logging
from node.cli.node import NodeOptions
from node.cli.signals import until_signal
from node.daemon.node import Node, NodeConfig, PortTaken
from node.daemon.rpc import SOCKET_NAME, Commands, RpcServer
from node.daemon.rpc_channels import ChannelCommands
from node.daemon.rpc_general import DEFAULT_PORTS, GeneralCommands, Identity
from node.daemon.rpc_payments import PaymentCommands
from node.daemon.store import Damaged, DatabaseInUse

log = logging.getLogger("rill.lightningd")

FAILED = 1
HOST = "127.0.0.1"
LAST_WORDS_SECONDS = 0.1
STARTING_SECONDS = 1.0


def serve_node(options: NodeOptions) -> int:
    """Run until a signal or `stop`; return the exit code."""
    start_logging(options.log_level, options.log_file)
    try:
        trio.run(_serve, options)
    except (ChainTrouble, UnknownBlock, PortTaken, DatabaseInUse, Damaged) as refused:
        typer.echo(f"rill: {refused}", err=True)
        return FAILED
    log.info("stopped")
    return 0


def chain_of(options: NodeOptions) -> BitcoindChain:
    """The chain that the options name."""
    if options.bitcoin_user is not None and options.bitcoin_password is not None:
        secret: Credentials | Path = Credentials(options.bitcoin_user, options.bitcoin_password)
    else:
        secret = cookie_path(options.bitcoin_directory, options.network)
    return BitcoindChain(secret, options.network, options.bitcoin_host, options.bitcoin_port)


async def _serve(options: NodeOptions) -> None:
    async with until_signal() as nursery:
        chain = chain_of(options)
        await _ready(chain)
        node, identity = node_of(options, chain)
        await nursery.start(node.run)
        # a node that knows no height yet is of no use to anybody
        await node.watcher.wait_for_height(min(1, (await chain.tip()).height))
        general = GeneralCommands(node, identity)
        commands = Commands(general, ChannelCommands(node), PaymentCommands(node))
        general.commands = commands
        await nursery.start(RpcServer(identity.directory / SOCKET_NAME, commands).run)
        log.info("Server started with public key %s, alias %s", node.node_id.hex(), identity.alias)
        await general.stopped.wait()
        # who called `stop` is answered first
        await trio.sleep(LAST_WORDS_SECONDS)


async def _ready(chain: BitcoindChain) -> None:
    """Return once the chain can serve us, waiting for a bitcoind that has only just been started.

    Raises:
        ChainTrouble: it cannot.
    """
    while True:
        try:
            return await chain.check()
        except StartingUp as starting:
            log.info("waiting for bitcoind", extra={"why": starting.why})
            await trio.sleep(STARTING_SECONDS)


def node_of(options: NodeOptions, chain: BitcoindChain) -> tuple[Node, Identity]:
    """The node that the options describe.

    Raises:
        DatabaseInUse, Damaged: its database cannot be opened.
    """
    directory = options.directory / options.network
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    host, port = _address(options)
    config = NodeConfig(directory, alias=options.alias, host=host, port=port)
    node = Node(config, chain)
    return node, Identity(directory, options.alias)


def _address(options: NodeOptions) -> tuple[str, int]:
    """Where to listen."""
    usual = DEFAULT_PORTS[options.network]
    if options.bind_addr is None:
        return HOST, usual
    host, colon, port = options.bind_addr.rpartition(":")
    if not colon or not port.isdigit():
        return options.bind_addr.strip("[]"), usual
    return host.strip("[]") or HOST, int(port)
