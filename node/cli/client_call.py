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


def call_node(
    directory: Path, method: str, parameters: list[str], *, as_json: bool, rpc_file: Path | None = None
) -> int:
    """Make the call and print its result; return the exit code."""
    client = NodeClient(directory, rpc_file)
    named = [parameter.partition("=") for parameter in parameters]
    is_named = bool(named) and all(_is_name(name) and equals for name, equals, _ in named)
    if is_named:
        call = partial(client.call, method, **{name: read(value) for name, _, value in named})
    else:
        call = partial(client.call, method, *map(read, parameters))
    try:
        result = trio.run(call)
    except CommandFailed as refused:
        return _refused(method, refused, as_json=as_json)
    except NodeUnreachable as gone:
        typer.echo(f"rill: {gone}", err=True)
        return FAILED
    if as_json:
        typer.echo(msgspec.json.encode(result).decode())
    else:
        from node.cli.tables import show

        show(result)
    return 0


def _refused(method: str, refused: CommandFailed, *, as_json: bool) -> int:
    if as_json:
        told = {"code": refused.code, "message": refused.message}
        told |= {} if refused.details is None else {"data": refused.details}
        typer.echo(msgspec.json.encode(told).decode())
    typer.echo(f"rill: {method}: {refused} ({refused.code})", err=True)
    return FAILED


def _is_name(text: str) -> bool:
    return text.replace("-", "_").isidentifier()


def read(text: str) -> Any:
    """A parameter as the user meant it: JSON if it is some, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
