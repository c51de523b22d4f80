"""Clients of the commands of nodes, for the tests of the RPC."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from node.daemon.node import Node
from node.daemon.rpc import Commands
from node.daemon.rpc_general import Identity
from node.daemon.rpc_table import commands_of
from tests.node.line import Network, line
from tests.node.reply_table import faults


def commands_for(node: Node) -> Commands:
    """All commands of a node."""
    return commands_of(node, Identity(node.config.directory, node.alias))[0]


STRANGER = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


class Client:
    """Calls the commands of one node, through their bytes."""

    def __init__(self, node: Node) -> None:
        self.node, self._commands = node, commands_for(node)

    @property
    def id(self) -> str:
        return self.node.node_id.hex()

    async def reply(self, method: str, params: Any = None, **more: Any) -> dict[str, Any]:
        asked = {"jsonrpc": "2.0", "id": "test:1", "method": method, "params": params or {}, **more}
        raw = await self._commands.answer(json.dumps(asked).encode())
        assert raw is not None
        assert raw.endswith(b"}\n\n")
        reply: dict[str, Any] = json.loads(raw)
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", "test:1")
        if "error" not in reply and "filter" not in more:
            found = faults(method, reply["result"])
            assert not found, found
        return reply

    async def call(self, method: str, **params: Any) -> Any:
        reply = await self.reply(method, params)
        assert "error" not in reply, reply
        return reply["result"]

    async def error(self, method: str, **params: Any) -> dict[str, Any]:
        """The refusal of what must be refused."""
        reply = await self.reply(method, params)
        assert "error" in reply, reply
        error: dict[str, Any] = reply["error"]
        return error

    async def code(self, method: str, params: Any = None) -> int:
        return int((await self.reply(method, params))["error"]["code"])


@asynccontextmanager
async def clients(directory: Path, names: str) -> AsyncIterator[tuple[Network, list[Client]]]:
    async with line(directory, names) as net:
        yield net, [Client(net[name]) for name in names.split()]
