"""The call behind `rill cli`."""

from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio
import typer

from node.cli.places import LOG_LEVELS
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed

FAILED, USAGE, UNREACHABLE = 1, 2, 2
NO_NOTIFICATIONS = "none"
_LITERALS = {"true": True, "false": False, "null": None}


class Shape(Enum):
    """How an answer is printed."""

    TABLES = "for people"
    JSON = "as JSON"
    RAW = "as it came"
    FLAT = "a value in a line"


class Call(NamedTuple):
    """What the command line asks for."""

    method: str
    parameters: tuple[str, ...] = ()
    is_by_name: bool = False
    is_by_place: bool = False
    filter: str | None = None
    level: str | None = None  # of what the node says meanwhile; None: all, to a person

    @property
    def params(self) -> list[Any] | dict[str, Any]:
        """The parameters as they are sent: by name if each has one.

        Raises:
            typer.BadParameter: they shall be by name, and one has none.
        """
        named = [parameter.partition("=") for parameter in self.parameters]
        have_names = bool(named) and all(_is_name(name) and equals for name, equals, _ in named)
        if self.is_by_name and named and not have_names:
            raise typer.BadParameter("with --keywords every parameter is name=value")
        if have_names and not self.is_by_place:
            return {name: parameter_of(value) for name, _, value in named}
        return [parameter_of(text) for text in self.parameters]


def call_node(path: Path, call: Call, shape: Shape) -> int:
    """Make the call and print its result; return the exit code."""
    client = NodeClient(path.parent, Path(path.name))
    wanted = None if call.filter is None else _wanted(call.filter)
    is_told = call.level != NO_NOTIFICATIONS and (call.level is not None or shape is Shape.TABLES)
    hear = _hearing(call.level or "info") if is_told else None
    try:
        raw = trio.run(client.ask, call.method, call.params, wanted, hear)
    except CommandFailed as refused:
        return _refused(call.method, refused, is_shown=shape is not Shape.TABLES)
    except NodeUnreachable as gone:
        typer.echo(f"rill: {gone}", err=True)
        return UNREACHABLE
    _show(bytes(raw), shape)
    return 0


def _wanted(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        raise typer.BadParameter(f"--filter is {text!r}, no JSON object") from None


def _hearing(level: str) -> Any:
    """Prints what the node says while it works, of a level or above."""
    if level not in LOG_LEVELS:
        raise typer.BadParameter(f"--notifications is {level!r}, not none or one of {', '.join(LOG_LEVELS)}")
    loud_enough = LOG_LEVELS[LOG_LEVELS.index(level) :]

    def hear(level: str, message: str) -> None:
        if level in loud_enough:
            typer.echo(f"# {message}", err=True)

    return hear


def _show(raw: bytes, shape: Shape) -> None:
    if shape in (Shape.JSON, Shape.RAW):
        typer.echo(raw.decode())
        return
    result = msgspec.json.decode(raw)
    if shape is Shape.FLAT:
        for line in flat("", result):
            typer.echo(line)
    else:
        from node.cli.tables import show

        show(result)


def flat(name: str, value: Any) -> Iterator[str]:
    """A line for each value in a result, with the way to it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from flat(f"{name}[{at}]", inner)
    else:
        yield f"{name}={value if isinstance(value, str) else msgspec.json.encode(value).decode()}"


def _refused(method: str, refused: CommandFailed, *, is_shown: bool) -> int:
    if is_shown:
        told = {"code": refused.code, "message": refused.message}
        told |= {} if refused.details is None else {"data": refused.details}
        typer.echo(msgspec.json.encode(told).decode())
    typer.echo(f"rill: {method}: {refused} ({refused.code})", err=True)
    return FAILED


def _is_name(text: str) -> bool:
    return text.replace("-", "_").isidentifier()


def parameter_of(text: str) -> Any:
    """A parameter of a node's command: JSON if it begins as an array, an object or a string does.

    Digits stay text, which is read as a number wherever one is wanted: they may be a label, a
    description, or hex that happens to have no letters.
    """
    if text in _LITERALS:
        return _LITERALS[text]
    if text[:1] not in ("[", "{", '"'):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise typer.BadParameter(f"{text!r} begins as JSON does, but is none") from None


def read(text: str) -> Any:
    """A parameter as bitcoin-cli's users mean it: JSON if it is some, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
