"""What a testnet's process left behind when it was killed: its nodes' processes, and its bitcoind."""

from contextlib import suppress
from pathlib import Path

import trio

from node.chain.http import Credentials
from node.chain.interface import ChainTrouble
from node.chain.jsonrpc import RpcError
from node.chain.rpc_client import RpcClient
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed
from node.lab.daemons import HOST, PASSWORD, USER
from node.lab.testnet.grounds import PORT_FILE
from node.lab.testnet.place import NETWORK, Place

LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 60.0
PID_FILE = f"{NETWORK}/bitcoind.pid"


async def end_leftovers(place: Place) -> None:
    """End what still runs of a network whose own process does not; return once it has ended.

    Raises:
        NoTestnet, BadScenario: there is no network.
    """
    names = place.scenario().names
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(_end_node, place.node_directory(name) / NETWORK)
        nursery.start_soon(_end_bitcoind, place.chain_directory)


async def _end_node(directory: Path) -> None:
    client = NodeClient(directory)
    with suppress(NodeUnreachable, CommandFailed), trio.move_on_after(PATIENCE_SECONDS):
        await client.call("stop")
        while client.path.exists():  # noqa: ASYNC110 - there is no event between processes
            await trio.sleep(LOOK_SECONDS)


async def _end_bitcoind(directory: Path) -> None:
    pid_file = directory / PID_FILE
    with suppress(OSError, ValueError, ChainTrouble, RpcError), trio.move_on_after(PATIENCE_SECONDS):
        port = int((directory / PORT_FILE).read_text())
        await RpcClient(HOST, port, Credentials(USER, PASSWORD)).call("stop", type=str)
        while pid_file.exists():  # noqa: ASYNC110 - there is no event between processes
            await trio.sleep(LOOK_SECONDS)
