"""A node's side of the stream, both selling and buying, beside the node that it belongs to."""

import time
from collections.abc import Callable
from pathlib import Path

import trio

from node.daemon.node import Node
from node.stream.library import Library
from node.stream.link import Address, Link
from node.stream.shop import Shop
from wire.node_address import Dns, Ipv4, Ipv6


class Stream:
    """What a node sells and buys. Construct it before the node runs, then start `run` in a nursery."""

    def __init__(self, node: Node, directory: Path, clock: Callable[[], float] = time.time) -> None:
        """`directory` is the stream's own.

        Raises:
            DatabaseInUse, Damaged: its books cannot be opened.
        """
        self.node = node
        self.library = Library(node, directory, clock=clock)
        self.shop = Shop(node, directory / "shop", self.library.book, clock=clock)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Sell and buy until cancelled; started once everything that was on sale is so again."""
        self.shop.book_again(self.node.switch.invoices.rows.values())
        async with trio.open_nursery() as nursery:
            await nursery.start(self.library.run)
            await nursery.start(self.shop.run)
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
