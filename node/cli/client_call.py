"""The call behind `rill cli`."""

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import trio
import typer

from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed

FAILED, USAGE = 1, 2


def call_node(directory: Path, method: str, parameters: list[str], *, as_json: bool) -> int:
    """Make the call and print its result; return the exit code."""
    named = [parameter.partition("=") for parameter in parameters]
    is_named = bool(named) and all(name.isidentifier() and equals for name, equals, _ in named)
    if is_named:
        call = partial(NodeClient(directory).call, method, **{name: read(value) for name, _, value in named})
    else:
        call = partial(NodeClient(directory).call, method, *map(read, parameters))
    try:
        result = trio.run(call)
    except CommandFailed as refused:
        typer.echo(f"rill: {method}: {refused}", err=True)
        return FAILED
    except NodeUnreachable as gone:
        typer.echo(f"rill: {gone}", err=True)
        return FAILED
    shown = msgspec.json.encode(result)
    typer.echo((shown if as_json else msgspec.json.format(shown, indent=3)).decode())
    return 0


def read(text: str) -> Any:
    """A parameter as the user meant it: JSON if it is some, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
