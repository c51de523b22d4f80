"""What `rill node` runs: the node, its chain, its RPC, and what ends them."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from node.chain.bitcoind import RPC_PORTS, cookie_path
from node.chain.http import Credentials
from node.chain.interface import Chain, ChainDirectoryInUse, ChainPortTaken, ChainTrouble, UnknownBlock
from node.cli.chain_access import open_chain
from node.cli.logs import reopen_logs, start_logging
from node.cli.node_config import config_of, usual_views
from node.cli.node_options import directory_of, network_of
from node.cli.options import BadOption, Settings
from node.cli.places import DEFAULT_BITCOIN_DIRECTORY, ChainOptions, bind_address
from node.cli.signals import at_hangup, until_signal
from node.cli.words import complain
from node.daemon.gossip_file import GossipFile
from node.daemon.node import Node, NodeConfig, PortTaken
from node.daemon.restoring import UnusableBackup
from node.daemon.rpc import SOCKET_NAME, Commands, RpcServer
from node.daemon.rpc_general import GeneralCommands, Identity
from node.daemon.rpc_table import commands_of
from node.daemon.saboteur import BadSabotage
from node.daemon.seed import SeedDamaged, SeedMissing
from node.daemon.store import Damaged, DatabaseInUse
from node.daemon.web import BadCertificates, WebPortTaken, serve_web
from node.stream.opening import LaterStream
from node.stream.rpc_rooms import rooms_of

log = logging.getLogger("rill.lightningd")

FAILED, USAGE = 1, 2
LAST_WORDS_SECONDS = 0.1
REST_HOST = "127.0.0.1"
CHAIN_DIRECTORY, STREAM_DIRECTORY = "chain", "stream"


class Unwritable(Exception):
    """A file or a socket of ours cannot be made."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        super().__init__(f"{path} cannot be made: {(error.strerror or str(error)).lower()}")


_REFUSALS = (
    Unwritable,
    ChainTrouble,
    UnknownBlock,
    PortTaken,
    DatabaseInUse,
    UnusableBackup,
    SeedMissing,
    SeedDamaged,
    Damaged,
    BadSabotage,
    ChainDirectoryInUse,
    ChainPortTaken,
    WebPortTaken,
    BadCertificates,
)


def serve_node(settings: Settings) -> int:
    """Run until a signal or `stop`; return the exit code."""
    directory = directory_of(settings) / network_of(settings)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _start_logging(settings, directory)
    except OSError as error:
        complain(f"{error.filename}: {(error.strerror or str(error)).lower()}")
        return FAILED
    for name in dict.fromkeys(each.option.name for each in settings.said if each.option.is_ignored):
        log.info("--%s has no meaning here and is ignored", name)
    try:
        trio.run(_serve, settings, directory)
    except BadOption as bad:
        complain(bad)
        return USAGE
    except _REFUSALS as refused:
        complain(refused)
        return FAILED
    log.info("stopped")
    return 0


def _start_logging(settings: Settings, directory: Path) -> None:
    files = settings.all("log-file")
    levels = settings.all("log-level")
    of_all = [level for level, subsystem in levels if not subsystem]
    start_logging(
        of_all[-1] if of_all else "info",
        [directory / file for file in files if file != "-"],
        sys.stdout if "-" in files else None,
        [(level, subsystem) for level, subsystem in levels if subsystem],
    )


async def _serve(settings: Settings, directory: Path) -> None:
    config = config_of(settings, directory)
    with ExitStack() as kept:
        async with until_signal() as nursery:
            await nursery.start(at_hangup, reopen_logs)
            chain = await _chain(settings, directory, nursery, kept)
            async with trio.open_nursery() as living:
                server, general = await _start(settings, config, chain, living, nursery, kept)
                await general.stopped.wait()
                living.cancel_scope.cancel()
            # who called `stop` may start the next node in this place as soon as it is answered
            server.hide()
            general.ended.set()
            await trio.sleep(LAST_WORDS_SECONDS)


async def _start(
    settings: Settings,
    config: NodeConfig,
    chain: Chain,
    living: trio.Nursery,
    nursery: trio.Nursery,
    kept: ExitStack,
) -> tuple[RpcServer, GeneralCommands]:
    """Start the node in one nursery, and what its user speaks with in the other, which ends later."""
    node, directory = Node(config, chain), config.directory
    stream = LaterStream(node, directory / STREAM_DIRECTORY)
    await living.start(node.run)
    await living.start(stream.run)
    await living.start(GossipFile(directory, node.gossiper).run)
    # a node that knows no height yet is of no use to anybody
    await node.watcher.wait_for_height(min(1, (await chain.tip()).height))
    identity = Identity(directory, node.alias, {**usual_views(node.config, settings), **settings.views()})
    commands, general = commands_of(node, identity, *rooms_of(stream))
    general.is_ended_by_others = True
    server = RpcServer(directory / settings.get("rpc-file", Path(SOCKET_NAME)), commands)
    try:
        await nursery.start(server.run)
    except OSError as error:
        raise Unwritable(server.path, error) from None
    if settings.has("clnrest-port"):
        await _serve_rest(settings, directory, nursery, commands, node)
    kept.enter_context(_pid_file(settings))
    log.info("Server started with public key %s, alias %s", node.node_id.hex(), node.alias)
    return server, general


@contextmanager
def _pid_file(settings: Settings) -> Iterator[None]:
    """A file with our number, by which scripts find a node that runs; gone when it ends."""
    usual = Path(f"lightningd-{network_of(settings)}.pid")
    path = directory_of(settings) / settings.get("pid-file", usual)
    ours = f"{os.getpid()}\n"
    try:
        path.write_text(ours)
    except OSError as error:
        raise Unwritable(path, error) from None
    try:
        yield
    finally:
        # whoever waited for `stop` may have started the next node here
        if path.exists() and path.read_text() == ours:
            path.unlink()


async def _serve_rest(
    settings: Settings, directory: Path, nursery: trio.Nursery, commands: Commands, node: Node
) -> None:
    """Serve the commands over HTTP.

    Raises:
        WebPortTaken: it cannot listen there.
        BadCertificates: it cannot encrypt.
    """
    # like what makes certificates, of no use to a node that serves nobody
    from node.daemon.metrics import metrics_of
    from node.daemon.rest import CONTENT_POLICY, EVERY_ORIGIN, rest_app

    host, protocol = settings.get("clnrest-host", REST_HOST), settings.get("clnrest-protocol", "https")
    origins = settings.all("clnrest-cors-origins") or EVERY_ORIGIN
    app = rest_app(commands, lambda: metrics_of(node), origins, settings.get("clnrest-csp", CONTENT_POLICY))
    tls = None
    if protocol == "https":
        from node.daemon.certificates import certificates_in

        tls = certificates_in(settings.get("clnrest-certs", directory), host)
    port = await nursery.start(serve_web, app, host, settings.find("clnrest-port"), tls)
    log.info("commands are served over HTTP", extra={"url": f"{protocol}://{host}:{port}/v1/"})


async def _chain(settings: Settings, directory: Path, nursery: trio.Nursery, kept: ExitStack) -> Chain:
    """The chain that the node lives on.

    Raises:
        ChainTrouble, ChainDirectoryInUse, ChainPortTaken: it cannot serve us.
    """
    network = network_of(settings)
    user, password = settings.find("bitcoin-rpcuser"), settings.find("bitcoin-rpcpassword")
    host, port = bind_address(settings.find("bitcoin-rpcconnect"), "127.0.0.1", RPC_PORTS[network])
    port = settings.get("bitcoin-rpcport", port)
    if settings.get("chain", "bitcoind") == "bitcoind":
        bitcoin_directory = settings.get("bitcoin-datadir", DEFAULT_BITCOIN_DIRECTORY.expanduser())
        options = ChainOptions(network, host, port, user, password, bitcoin_directory)
        return await open_chain(options, settings.find("dev-bitcoind-poll"))
    # imported here, because Bitcoin's consensus engine is a quarter of a node's memory
    from node.chain.embedded import EmbeddedChain
    from node.chain.served import ServedChain

    if network != EmbeddedChain.network:
        raise BadOption(f"--chain=embedded is a chain for {EmbeddedChain.network}, not for {network}")
    chain = kept.enter_context(EmbeddedChain(directory / CHAIN_DIRECTORY))
    credentials = None if user is None else Credentials(user, password)
    await nursery.start(ServedChain(chain, cookie_path(directory, network), credentials).run, port)
    return chain
