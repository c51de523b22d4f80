"""The other end of the RPC: calls of a node in another process."""

import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.daemon.rpc import SOCKET_NAME, short_name
from node.daemon.rpc_parameters import CommandFailed

READ_BYTES = 65_536
_LISTENING = {"jsonrpc": "2.0", "id": "notifications", "method": "notifications", "params": [True]}


class NodeUnreachable(Exception):
    """Nobody answers on the socket."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"no node answers at {path}: {why}")
        self.path, self.why = path, why


class Reply(msgspec.Struct, frozen=True):
    """What comes back: an answer, or a word of how it gets on."""

    id: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: dict[str, Any] | None = None
    params: dict[str, Any] = {}


class NodeClient:
    """Calls one node; each call has its own connection, so calls may wait side by side."""

    def __init__(self, directory: Path, rpc_file: Path | None = None) -> None:
        """`directory` is the node's own, which has its network's name; the socket may be elsewhere."""
        self.path = directory / (rpc_file or SOCKET_NAME)
        self._numbers = count(1)

    async def call(self, method: str, *positional: Any, **named: Any) -> Any:
        """The result of a command; its parameters by position, or by name.

        Raises:
            CommandFailed: the node refuses.
            NodeUnreachable: there is no node, or it ended before it answered.
        """
        return msgspec.json.decode(await self.ask(method, list(positional) or named))

    async def ask(
        self,
        method: str,
        params: list[Any] | dict[str, Any],
        wanted: dict[str, Any] | None = None,
        hear: Callable[[str, str], None] | None = None,
    ) -> msgspec.Raw:
        """The result of a command as it came.

        Args:
            wanted: the filter of its fields.
            hear: told the level and the text of each word on how the command gets on.

        Raises:
            CommandFailed, NodeUnreachable: as `call` does.
        """
        asked = {"jsonrpc": "2.0", "id": f"rill:{method}#{next(self._numbers)}", "method": method}
        request = {**asked, "params": params} | ({} if wanted is None else {"filter": wanted})
        before = b"" if hear is None else msgspec.json.encode(_LISTENING)
        async with aclosing(self._exchange(before + msgspec.json.encode(request))) as replies:
            async for reply in replies:
                if reply.id == asked["id"]:
                    return _result_of(reply)
                if hear is not None and "message" in reply.params:
                    hear(reply.params.get("level", "info"), reply.params["message"])
        raise NodeUnreachable(self.path, "it ended before it answered")

    async def _exchange(self, request: bytes) -> AsyncGenerator[Reply, None]:
        """All that comes back, one after another."""
        try:
            async with self._connected() as stream:
                await stream.send_all(request)
                waiting = bytearray()
                while received := await stream.receive_some(READ_BYTES):
                    waiting += received
                    *whole, rest = waiting.split(b"\n\n") if received.endswith(b"\n") else (waiting,)
                    for raw in whole:
                        yield msgspec.json.decode(raw, type=Reply)
                    waiting = rest
        except OSError as error:
            raise NodeUnreachable(self.path, (error.strerror or str(error)).lower()) from None
        except trio.BrokenResourceError:
            return

    def _connected(self) -> trio.SocketStream:
        unconnected = socket.socket(socket.AF_UNIX)
        try:
            with short_name(self.path) as name:
                # on this machine a connection is there at once, or not at all
                unconnected.connect(name)
        except OSError:
            unconnected.close()
            raise
        return trio.SocketStream(trio.socket.from_stdlib_socket(unconnected))


def _result_of(reply: Reply) -> msgspec.Raw:
    if reply.error is not None:
        raise CommandFailed(reply.error["code"], reply.error["message"], reply.error.get("data"))
    return reply.result
