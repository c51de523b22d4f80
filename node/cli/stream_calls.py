"""How the commands of the stream ask their node, and how they say that it refused."""

import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
import typer

from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed
from wire.units import Msat

FAILED, INTERRUPTED = 1, 130


def with_node(directory: Path, act: Callable[[NodeClient], Awaitable[int]]) -> int:
    """Act with a running node; a refusal is one sentence on stderr and the exit code 1."""
    try:
        return trio.run(act, NodeClient(directory))
    except (CommandFailed, NodeUnreachable) as refused:
        typer.echo(f"rill: {refused}", err=True)
        return FAILED
    except OSError as error:
        typer.echo(f"rill: {error.filename}: {(error.strerror or str(error)).lower()}", err=True)
        return FAILED


async def wait_for_signal() -> None:
    """Return when the user wants an end."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


def given(**parameters: Any) -> dict[str, Any]:
    """The parameters that were said."""
    return {name: value for name, value in parameters.items() if value is not None}


def print_json(result: Any) -> None:
    """One JSON object on one line."""
    typer.echo(msgspec.json.encode(result).decode())


def sat(amount_msat: Msat | int) -> str:
    """An amount for people."""
    whole, rest = divmod(amount_msat, 1000)
    return f"{whole:,}.{rest:03} sat" if rest else f"{whole:,} sat"


def size(length: int) -> str:
    """A length for people."""
    power = min(4, max(0, length.bit_length() - 1) // 10)
    return f"{length} B" if not power else f"{length / 1024**power:.1f} {'KMGT'[power - 1]}iB"
