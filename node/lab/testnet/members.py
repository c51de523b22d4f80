"""The nodes of a testnet, alike from outside: in this process, or each in one of its own."""

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import trio

from htlc.channel import Channel
from htlc.relay import Toll
from node.chain.interface import Chain
from node.daemon.node import Node, NodeConfig, PortTaken
from node.daemon.rpc import SOCKET_NAME, RpcServer
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_general import Identity
from node.daemon.rpc_table import commands_of
from node.lab.daemons import HOST, Daemon
from node.lab.network import node_seed
from node.lab.testnet.place import NETWORK
from node.stream.opening import LaterStream
from node.stream.rpc_rooms import rooms_of

LOOK_SECONDS = 0.05

present: ContextVar[str] = ContextVar("present", default="")
"""Which of this process's nodes the running task belongs to."""


class Member(Protocol):
    """One node of the network."""

    name: str
    node_id: str
    port: int

    @property
    def is_up(self) -> bool:
        """Whether it runs."""

    async def start(self, nursery: trio.Nursery) -> None:
        """Run; it answers when this returns."""

    async def stop(self) -> None:
        """End, as at SIGTERM."""

    async def call(self, method: str, **parameters: Any) -> Any:
        """The result of one of its commands.

        Raises:
            CommandFailed: it refuses.
            OSError: it is not there.
        """

    async def set_toll(self, channel_id: str, toll: Toll) -> None:
        """Ask this for passing HTLCs on over a channel from now on."""

    async def wait_for_usable(self, count: int) -> None:
        """Return once so many channels take HTLCs."""

    async def wait_for_graph(self, channels: int, nodes: int) -> None:
        """Return once gossip has told it of all of these."""

    async def wait_for_height(self, height: int) -> None:
        """Return once it has read the chain so far."""


class NodeHere:
    """A node in this process; its socket is served like any other's."""

    def __init__(
        self,
        name: str,
        directory: Path,
        chain: Chain,
        seed: int,
        port: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.port, self.is_up = name, port, False
        self.directory = directory / NETWORK
        self.node: Node | None = None
        self.node_id = ""
        self._chain, self._seed, self._now = chain, seed, now
        self._scope, self._ended = trio.CancelScope(), trio.Event()

    async def start(self, nursery: trio.Nursery) -> None:
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        try:
            await nursery.start(self._run)
        except PortTaken:
            self.port = 0
            await nursery.start(self._run)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        present.set(self.name)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = NodeConfig(
            self.directory, seed=node_seed(self._seed, self.name), alias=self.name, host=HOST, port=self.port
        )
        node = self.node = Node(config, self._chain, self._now)
        stream = LaterStream(node, self.directory / "stream")
        identity = Identity(self.directory, self.name)
        self._commands, general = commands_of(node, identity, *rooms_of(stream))
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(node.run)
                    await nursery.start(stream.run)
                    await nursery.start(RpcServer(self.directory / SOCKET_NAME, self._commands).run)
                    self.node_id, self.port, self.is_up = node.node_id.hex(), node.port, True
                    task_status.started()
                    await general.stopped.wait()
                    # who called `stop` is answered first
                    nursery.cancel_scope.deadline = trio.current_time() + LOOK_SECONDS
        finally:
            self.is_up = False
            self._ended.set()

    async def stop(self) -> None:
        if self.is_up:
            self._scope.cancel()
            await self._ended.wait()

    async def call(self, method: str, **parameters: Any) -> Any:
        if not self.is_up:
            raise ConnectionResetError(f"{self.name} is down")
        command = await self._commands.find(method)
        return await command.act(**command.bind(parameters))

    async def set_toll(self, channel_id: str, toll: Toll) -> None:
        node = self._node
        await node.switch.set_toll(bytes.fromhex(channel_id), toll, 0)
        node.gossiper.tell_toll(bytes.fromhex(channel_id))

    async def wait_for_usable(self, count: int) -> None:
        def are_usable(channels: list[Channel]) -> bool:
            return sum(channel.is_usable for channel in channels) >= count

        await self._node.wait_for_channels(are_usable)

    async def wait_for_graph(self, channels: int, nodes: int) -> None:
        await self._node.gossiper.wait_for_graph(
            lambda graph: len(graph.policies) >= 2 * channels and len(graph.nodes) >= nodes
        )

    async def wait_for_height(self, height: int) -> None:
        await self._node.watcher.wait_for_height(height)

    @property
    def _node(self) -> Node:
        assert self.node is not None, "it runs"
        return self.node


class NodeThere(Daemon):
    """A node in a process of its own, driven over its socket."""

    async def start(self, nursery: trio.Nursery | None = None) -> None:  # noqa: ARG002 - it needs none of ours
        await super().start()

    async def call(self, method: str, **parameters: Any) -> Any:
        try:
            return await NodeClient(self.directory / NETWORK).call(method, **parameters)
        except NodeUnreachable as gone:
            raise ConnectionResetError(str(gone)) from None

    async def set_toll(self, channel_id: str, toll: Toll) -> None:
        if toll != Toll():
            await self.call(
                "setchannel",
                id=channel_id,
                feebase=toll.fee_base_msat,
                feeppm=toll.fee_proportional_millionths,
                htlcmin=toll.htlc_minimum_msat,
                enforcedelay=0,
                **({"htlcmax": toll.htlc_maximum_msat} if toll.htlc_maximum_msat else {}),
            )

    async def wait_for_usable(self, count: int) -> None:
        async def is_so() -> bool:
            return bool((await self.call("getinfo"))["num_active_channels"] >= count)

        await _until(is_so)

    async def wait_for_graph(self, channels: int, nodes: int) -> None:
        async def is_so() -> bool:
            directions = (await self.call("listchannels"))["channels"]
            known = (await self.call("listnodes"))["nodes"]
            return len(directions) >= 2 * channels and sum("alias" in node for node in known) >= nodes

        await _until(is_so)

    async def wait_for_height(self, height: int) -> None:
        async def is_so() -> bool:
            return bool((await self.call("getinfo"))["blockheight"] >= height)

        await _until(is_so)


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    while not await is_so():  # noqa: ASYNC110 - there is no event between processes
        await trio.sleep(LOOK_SECONDS)
