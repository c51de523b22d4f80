"""A node's side of the stream, both selling and buying, beside the node that it belongs to."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from node.daemon.node import Node
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.meter_server import MeterServer
from node.stream.meter_user import MeterUser
from node.stream.shop import Shop
from node.stream.snapshot import alias_of
from node.stream.title import Title
from wire.crypto.secp256k1 import Point
from wire.node_address import Dns, Ipv4, Ipv6

if TYPE_CHECKING:
    from node.stream.door import Door
    from node.stream.gateway import Gateway


class Stream:
    """What a node sells and buys. Construct it before the node runs, then start `run` in a nursery."""

    def __init__(self, node: Node, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """`directory` is the stream's own.

        Raises:
            DatabaseInUse, Damaged: its books cannot be opened.
        """
        self.node = node
        self.library = Library(node, directory, clock=clock)
        self.meter_server = MeterServer(node, clock)
        self.meter_users = MeterUser(node, clock)
        self._door = trio.CancelScope()
        self._page: Gateway | None = None
        self._page_url = ""
        self._showing = trio.Lock()
        self._nursery: trio.Nursery | None = None
        self.shop = Shop(node, directory / "shop", self.library.book, clock=clock)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sell and buy until cancelled; started once everything that was on sale is so again."""
        self.shop.book_again(self.node.switch.invoices.rows.values())
        async with trio.open_nursery() as self._nursery:
            nursery = self._nursery
            await nursery.start(self.library.run)
            await nursery.start(self.shop.run)
            await nursery.start(self.meter_server.run)
            task_status.started()

    @property
    def address(self) -> Address:
        """Where this node's buyers find it."""
        for each in self.node.gossiper.addresses:
            if isinstance(each, Ipv4 | Ipv6 | Dns):
                return Address(self.node.node_id, each.host, each.port)
        return Address(self.node.node_id, self.node.config.host, self.node.port)

    def link_of(self, root: bytes) -> Link:
        """The link to a content that this node sells."""
        return Link(root, (self.address,))

    async def open_door(self, host: str, port: int) -> int:
        """Sell over HTTP at this address, and at no other any more; the port.

        Raises:
            WebPortTaken: it cannot listen there.
        """
        from node.stream.door import Door

        assert self._nursery is not None, "the stream runs"
        self.close_door()
        self._door = trio.CancelScope()
        door = Door(self.node, self.shop.provider.vendor)
        taken: int = await self._nursery.start(self._serve_door, door, host, port, self._door)
        return taken

    def close_door(self) -> None:
        """Sell over HTTP no more."""
        self._door.cancel()

    async def _serve_door(
        self, door: "Door", host: str, port: int, scope: trio.CancelScope, task_status: trio.TaskStatus[int]
    ) -> None:
        with scope:
            await door.run(host, port, task_status=task_status)

    def start(self, act: Callable[[], Awaitable[None]]) -> None:
        """Let something run as long as the stream does."""
        assert self._nursery is not None, "the stream runs"
        self._nursery.start_soon(act)

    async def show(self, link: Link) -> tuple[Title, str]:
        """Open a title on this node's page, and where that is; it listens on the loopback only.

        Raises:
            NobodySells, OSError: it cannot be opened.
            WebPortTaken: the page cannot be served.
        """
        from node.stream.gateway import Gateway

        assert self._nursery is not None, "the stream runs"
        async with self._showing:
            if self._page is None:
                page = Gateway(self.library, self.node.alias, name_of=self._name_of)
                self._page_url = await self._nursery.start(page.run)
                self._page = page
            return await self._page.show(link), self._page_url

    def _name_of(self, node_id: Point) -> str:
        return alias_of(self.node.graph, node_id) or node_id.hex()
