"""How a testnet's nodes and chain are reached: for people, for programs, and as functions of a shell."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from node.cli.testnet_calls import USAGE, ask, print_json, say_failed

COLUMN = 10


def show_info(directory: Path, node: str | None, *, as_json: bool) -> int:
    """Print it; return the exit code."""
    status = ask(directory, "status")
    if isinstance(status, int):
        return status
    if not status["ready"]:
        return say_failed(f"the network is not up yet: {status['stage']}")
    nodes = [each for each in status["nodes"] if node in (None, each["name"])]
    if not nodes:
        return say_failed(f"there is no node called {node}", USAGE)
    told = [_of_node(each, directory.absolute()) for each in nodes]
    chain = _of_chain(status["chain"])
    if as_json:
        print_json({"nodes": told, "chain": chain})
        return 0
    for each in told:
        _print(each)
    if node is None:
        _print({"name": "chain", **chain})
    return 0


def _of_node(node: dict[str, Any], directory: Path) -> dict[str, str]:
    if not node["up"]:
        return {"name": node["name"], "state": "down"}
    return {
        "name": node["name"],
        "connect": f"{node['id']}@{node['host']}:{node['port']}",
        "cli": f"rill cli --lightning-dir {shlex.quote(node['directory'])}",
        "socket": node["socket"],
        "python": f"pyln.client.LightningRpc({node['socket']!r})",
        "log": f"rill testnet logs {node['name']} --dir {shlex.quote(str(directory))}",
    }


def _of_chain(chain: dict[str, Any]) -> dict[str, str]:
    user, password = chain["rpcuser"], chain["rpcpassword"]
    return {
        "backend": f"{chain['backend']}, {chain['network']}",
        "rpc": f"http://{user}:{password}@{chain['host']}:{chain['rpcport']}",
        "cli": f"rill chain --port {chain['rpcport']} --rpcuser {user} --rpcpassword {password}",
    }


def _print(told: dict[str, str]) -> None:
    typer.echo(told["name"])
    for name, value in told.items():
        if name != "name":
            typer.echo(f"  {name:<{COLUMN}}{value}")


def show_env(directory: Path, *, as_json: bool) -> int:
    """Print functions for bash and zsh; return the exit code."""
    status = ask(directory, "status")
    if isinstance(status, int):
        return status
    if not status["ready"]:
        return say_failed(f"the network is not up yet: {status['stage']}")
    functions = dict(_functions(status, directory.absolute()))
    if as_json:
        print_json(functions)
        return 0
    for name, command in functions.items():
        typer.echo(f'{name}() {{ {command} "$@"; }}')
    return 0


def _functions(status: dict[str, Any], directory: Path) -> Iterator[tuple[str, str]]:
    place = shlex.quote(str(directory))
    for node in status["nodes"]:
        name = node["name"]
        yield f"{name}-cli", f"rill cli --lightning-dir {shlex.quote(node['directory'])}"
        yield f"{name}-log", f"rill testnet logs {name} --dir {place}"
    yield "btc-cli", _of_chain(status["chain"])["cli"]
