"""The stream of a node that may never need it.

Its modules and books would be a twentieth of a node's memory. So it begins with the first command or
the first request of a peer that is for it, and at the start of a node that has used it before.
"""

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from node.daemon.node import Node
from node.daemon.store import Damaged, DatabaseInUse
from node.stream.numbers import REQUESTS
from wire.crypto.secp256k1 import Point

if TYPE_CHECKING:
    from node.stream.service import Stream

log = logging.getLogger("rill.stream")


class LaterStream:
    """Construct it before the node runs, then start `run` in a nursery."""

    def __init__(self, node: Node, directory: Path) -> None:
        """`directory` is the stream's own; that it is there tells that the stream was used."""
        self._node, self._directory = node, directory
        self._was_used = directory.exists()
        self._stream: Stream | None = None
        self._opening = trio.Lock()
        self._nursery: trio.Nursery | None = None
        for type in REQUESTS:
            node.on_custom(type, partial(self._hear_first, type))

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let it begin and run until cancelled; started once everything that was on sale is so again.

        Raises:
            DatabaseInUse, Damaged: its books cannot be opened.
        """
        async with trio.open_nursery() as self._nursery:
            if self._was_used:
                await self.stream()
            task_status.started()
            await trio.sleep_forever()

    async def stream(self) -> "Stream":
        """The stream, which runs from now on.

        Raises:
            DatabaseInUse, Damaged, OSError: its books cannot be opened.
        """
        from node.stream.service import Stream

        assert self._nursery is not None, "it runs"
        async with self._opening:
            if self._stream is None:
                stream = Stream(self._node, self._directory)
                await self._nursery.start(stream.run)
                self._stream = stream
        return self._stream

    async def _hear_first(self, type: int, peer: Point, payload: bytes) -> None:
        """Begin, and let what has begun hear the request."""
        try:
            await self.stream()
        except (DatabaseInUse, Damaged, OSError) as trouble:
            log.warning("a request to the stream is not answered: %s", trouble)
            return
        await self._node.hear_custom(type, peer, payload)
