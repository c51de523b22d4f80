"""Watchtowers for the tests: real ones, on the chain of a network, that can be stopped and started."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from htlc.channel import Channel
from htlc.resolution_claims import our_commitment
from node.daemon.node import Node
from node.daemon.reconnect import Address
from node.daemon.tower_client import TowerClient
from node.daemon.watchtower import TowerConfig, Watchtower
from tests.node.line import HOST, Network, network
from wire.bitcoin.tx import Transaction
from wire.crypto.hashes import sha256


class Guard:
    """One tower, through all its lives."""

    def __init__(self, net: Network, nursery: trio.Nursery, directory: Path, **options: Any) -> None:
        self._net, self._nursery = net, nursery
        self._options = {"directory": directory, "seed": sha256(bytes(directory)), **options}
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self._kind: type[Watchtower] = Watchtower
        self.tower: Watchtower

    async def start(self, kind: type[Watchtower] = Watchtower) -> None:
        """Live, again on the same port."""
        self.tower = kind(TowerConfig(**self._options), self._net.chain)
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        await self._nursery.start(self._run)
        self._options["port"] = self.tower.port

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        with self._scope:
            await self.tower.run(task_status)
        self._ended.set()

    async def stop(self) -> None:
        """Die at once."""
        self._scope.cancel()
        await self._ended.wait()

    @property
    def address(self) -> Address:
        return Address(self.tower.node_id, HOST, self.tower.port)

    async def follow(self) -> None:
        """Return once the tower has read the chain to its tip, and published what that asks for."""
        await self.tower.pursuit.wait_for_height((await self._net.chain.tip()).height)


@asynccontextmanager
async def another(net: Network, directory: Path, **options: Any) -> AsyncIterator[Guard]:
    """A tower on the network's chain."""
    async with trio.open_nursery() as nursery:
        guard = Guard(net, nursery, directory, **options)
        await guard.start()
        yield guard
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def watched(directory: Path, **options: Any) -> AsyncIterator[tuple[Network, Guard]]:
    """A network in which a tower stands ready; its nodes are still to be started."""
    async with network(directory) as net, another(net, directory / "tower", **options) as guard:
        yield net, guard


async def watched_pair(net: Network, guard: Guard, **options: Any) -> None:
    """Alice, whom the tower guards, with a channel to Bob."""
    await net.start("alice", watchtowers=(guard.address,))
    await net.start("bob")
    await net.join([("alice", "bob")], **options)


def client_of(node: Node) -> TowerClient:
    (client,) = node.tower_clients
    return client


def commitment_of(node: Node, channel: Channel) -> Transaction:
    """The node's own commitment of that state, as it would publish it."""
    return our_commitment(channel, node.signer.channel_secrets(channel.charter.key_index))
