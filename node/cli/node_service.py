"""What `rill node` runs: the node, its chain, its RPC, and what ends them."""

import logging

import trio
import typer

from node.chain.bitcoind import BitcoindChain
from node.chain.interface import ChainTrouble, UnknownBlock
from node.cli.chain_access import open_chain
from node.cli.chain_options import bind_address
from node.cli.logs import start_logging
from node.cli.node import NodeOptions
from node.cli.signals import until_signal
from node.daemon.node import Node, NodeConfig, PortTaken
from node.daemon.reconnect import Address
from node.daemon.rpc import SOCKET_NAME, RpcServer
from node.daemon.rpc_general import DEFAULT_PORTS, Identity
from node.daemon.rpc_table import commands_of
from node.daemon.store import Damaged, DatabaseInUse

log = logging.getLogger("rill.lightningd")

FAILED = 1
HOST = "127.0.0.1"
LAST_WORDS_SECONDS = 0.1


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


async def _serve(options: NodeOptions) -> None:
    async with until_signal() as nursery:
        chain = await open_chain(options.chain)
        node, identity = node_of(options, chain)
        await nursery.start(node.run)
        # a node that knows no height yet is of no use to anybody
        await node.watcher.wait_for_height(min(1, (await chain.tip()).height))
        commands, general = commands_of(node, identity)
        await nursery.start(RpcServer(identity.directory / SOCKET_NAME, commands).run)
        log.info("Server started with public key %s, alias %s", node.node_id.hex(), identity.alias)
        await general.stopped.wait()
        # who called `stop` is answered first
        await trio.sleep(LAST_WORDS_SECONDS)


def node_of(options: NodeOptions, chain: BitcoindChain) -> tuple[Node, Identity]:
    """The node that the options describe.

    Raises:
        DatabaseInUse, Damaged: its database cannot be opened.
    """
    directory = options.directory / options.chain.network
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    host, port = bind_address(options.bind_addr, HOST, DEFAULT_PORTS[options.chain.network])
    towers = tuple([Address(*tower) for tower in options.watchtowers])
    config = NodeConfig(directory, alias=options.alias, host=host, port=port, watchtowers=towers)
    node = Node(config, chain)
    return node, Identity(directory, options.alias)
