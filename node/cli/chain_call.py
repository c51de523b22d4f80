"""The call behind `rill chain METHOD`: one command of a running chain, as bitcoin-cli makes it."""

from pathlib import Path
from typing import Any

import msgspec
import trio
import typer

from node.chain.bitcoind import cookie_path
from node.chain.embedded import EmbeddedChain
from node.chain.http import Credentials
from node.chain.interface import ChainTrouble
from node.chain.jsonrpc import RpcError
from node.chain.rpc_client import RpcClient
from node.cli.client_call import read

FAILED = 1
HOST = "127.0.0.1"


def call_chain(port: int, secret: Credentials | Path, words: list[str]) -> int:
    """Make the call, and print its result: a text as it is, all else as JSON; return the exit code."""
    method, *parameters = words
    if isinstance(secret, Path):
        secret = cookie_path(secret, EmbeddedChain.network)
    try:
        result = trio.run(_call, RpcClient(HOST, port, secret), method, [*map(read, parameters)])
    except (RpcError, ChainTrouble) as refused:
        typer.echo(f"rill: {method}: {refused}", err=True)
        return FAILED
    shown = result if isinstance(result, str) else msgspec.json.format(msgspec.json.encode(result)).decode()
    typer.echo(shown)
    return 0


async def _call(client: RpcClient, method: str, parameters: list[Any]) -> Any:
    return await client.call(method, *parameters, type=Any)
