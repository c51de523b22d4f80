"""The other end of the RPC: calls of a node in another process."""

import socket
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import trio

from node.daemon.rpc import READ_BYTES, SOCKET_NAME, short_name
from node.daemon.rpc_parameters import CommandFailed


class NodeUnreachable(Exception):
    """Nobody answers on the socket."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"no node answers at {path}: {why}")
        self.path, self.why = path, why


class Reply(msgspec.Struct, frozen=True):
    """What comes back."""

    result: Any = None
    error: dict[str, Any] | None = None


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
        asked = {"jsonrpc": "2.0", "id": f"rill:{method}#{next(self._numbers)}", "method": method}
        raw = await self._exchange(msgspec.json.encode({**asked, "params": list(positional) or named}))
        reply = msgspec.json.decode(raw, type=Reply)
        if reply.error is not None:
            raise CommandFailed(reply.error["code"], reply.error["message"], reply.error.get("data"))
        return reply.result

    async def _exchange(self, request: bytes) -> bytes:
        try:
            async with self._connected() as stream:
                await stream.send_all(request)
                reply = bytearray()
                while not reply.endswith(b"\n\n"):
                    received = await stream.receive_some(READ_BYTES)
                    if not received:
                        raise NodeUnreachable(self.path, "it ended before it answered")
                    reply += received
        except OSError as error:
            raise NodeUnreachable(self.path, (error.strerror or str(error)).lower()) from None
        except trio.BrokenResourceError:
            raise NodeUnreachable(self.path, "it ended before it answered") from None
        return bytes(reply)

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
