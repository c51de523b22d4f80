"""The node's RPC on a unix socket, framed and answered as Core Lightning does (lightningd-rpc).

Requests are JSON objects one after another, with nothing between them; replies end in a blank line.
The requests of one connection are carried out side by side and answered as each is done, so one that
waits holds up no other. Only the owner of the directory can open the socket.
"""

import inspect
import logging
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import trio

from node.daemon.rpc_parameters import INVALID_PARAMETERS, CommandFailed, Kind, Text

log = logging.getLogger("rill.rpc")

INTERNAL_ERROR = -1
INVALID_REQUEST = -32600
UNKNOWN_COMMAND = -32601
SOCKET_NAME = "lightning-rpc"
MAX_REQUEST_BYTES = 16 << 20
READ_BYTES = 4096  # most requests are short, and many connections may wait for their answers
LONGEST_SOCKET_PATH = 100

_OUTSIDE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')


class Audience:
    """One client: whether it wants to hear how its commands get on, and what tells it."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.send, self.is_listening = send, False


# of the command that is being carried out: who asked, and under which id
_audience: ContextVar[Audience | None] = ContextVar("audience", default=None)
_asked_id: ContextVar[object] = ContextVar("asked_id", default=None)


def listen(*, is_listening: bool) -> None:
    """Who asked wants to hear how its commands get on, or does not."""
    audience = _audience.get()
    if audience is not None:
        audience.is_listening = is_listening


async def tell(message: str, level: str = "info") -> None:
    """Let who asked know how its command gets on, if it listens."""
    audience = _audience.get()
    if audience is not None and audience.is_listening:
        params = {"id": _asked_id.get(), "level": level, "message": message}
        await audience.send(_framed({"method": "message", "params": params}))


class NoJson(Exception):
    """What came is no JSON object, or too long."""


class Splitter:
    """Cuts a stream of JSON objects at their ends, reading every byte once."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._at = 0
        self._depth = 0
        self._is_in_string = False

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The objects that are complete now.

        Raises:
            NoJson: something else than an object begins, or one does not end.
        """
        self._waiting += received
        while (end := self._end()) is not None:
            yield bytes(self._waiting[:end])
            del self._waiting[:end]
            self._at = 0
        if len(self._waiting) > MAX_REQUEST_BYTES:
            raise NoJson

    def _end(self) -> int | None:
        """The place after the first object, if it is all here."""
        waiting = self._waiting
        if not self._depth:
            del waiting[: len(waiting) - len(waiting.lstrip())]
            if waiting and waiting[:1] != b"{":
                raise NoJson
        while (
            found := (_IN_STRING if self._is_in_string else _OUTSIDE).search(waiting, self._at)
        ) is not None:
            mark = found.group()
            if mark == b"\\":
                if found.end() == len(waiting):
                    self._at = found.start()
                    return None
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if mark == b'"':
                self._is_in_string = not self._is_in_string
                continue
            self._depth += 1 if mark in b"{[" else -1
            if not self._depth:
                return self._at
        self._at = len(waiting)
        return None


class Asked(msgspec.Struct, frozen=True):
    """A request."""

    method: str
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: list[Any] | dict[str, Any] | None = None
    filter: dict[str, Any] | None = None


class Command:
    """A function that may be called by name. Its parameters' kinds are its annotations."""

    def __init__(self, act: Callable[..., Awaitable[Any]]) -> None:
        self.name, self.act = act.__name__, act
        hints = get_type_hints(act, include_extras=True)
        found = inspect.signature(act).parameters
        self.kinds = {name: _kind_in(hints[name]) for name in found}
        self._required = [name for name, each in found.items() if each.default is each.empty]

    @property
    def usage(self) -> str:
        """The name and its parameters, the optional ones in brackets."""
        shown = [name if name in self._required else f"[{name}]" for name in self.kinds]
        return " ".join((self.name.replace("_", "-"), *shown))

    @property
    def purpose(self) -> str:
        """The first line of what it does."""
        return (inspect.getdoc(self.act) or "").partition("\n")[0]

    def bind(self, given: list[Any] | dict[str, Any] | None) -> dict[str, Any]:
        """The arguments of a call.

        Raises:
            CommandFailed: too many, unknown, missing, or of another kind.
        """
        named = {} if given is None else given
        if isinstance(named, list):
            if len(named) > len(self.kinds):
                why = f"too many parameters: got {len(named)}, expected {len(self.kinds)}"
                raise CommandFailed(INVALID_PARAMETERS, why)
            named = dict(zip(self.kinds, named, strict=False))
        named = {name.replace("-", "_"): value for name, value in named.items() if value is not None}
        for name in named.keys() - self.kinds.keys():
            raise CommandFailed(INVALID_PARAMETERS, f"unknown parameter: {name}")
        for name in self._required:
            if name not in named:
                raise CommandFailed(INVALID_PARAMETERS, f"missing required parameter: {name}")
        return {name: self.kinds[name].of(name, value) for name, value in named.items()}


def _kind_in(hint: Any) -> Kind:
    """The kind that annotates a parameter, which may also be None."""
    annotated = hint if hasattr(hint, "__metadata__") else get_args(hint)[0]
    kind = annotated.__metadata__[0]
    assert isinstance(kind, Kind), "every parameter of a command has a kind"
    return kind


class Room(NamedTuple):
    """Commands that belong together: their names, and what gives the object whose methods they are.

    Most nodes never need most commands, so the object is made, and its module read, when one is.
    """

    names: tuple[str, ...]
    enter: Callable[[], Awaitable[object]]


class Commands:
    """Commands by name; `-` and `_` in it are one."""

    def __init__(self, *rooms: object) -> None:
        """The public coroutine methods of these objects are the commands, or what a `Room` says."""
        found = [each if isinstance(each, Room) else _room_of(each) for each in rooms]
        self._rooms = {name: room for room in found for name in room.names}
        self._rooms["check"] = Room(("check",), self._here)
        self._known: dict[str, Command] = {}
        self._entering = trio.Lock()

    async def find(self, name: str) -> Command:
        """The command of this name.

        Raises:
            CommandFailed: there is none.
        """
        own_name = name.replace("-", "_")
        room = self._rooms.get(own_name)
        if room is None:
            raise CommandFailed(UNKNOWN_COMMAND, f"Unknown command '{name}'{self._hint(name)}")
        if own_name not in self._known:
            async with self._entering:
                await self._enter(room)
        return self._known[own_name]

    async def all(self) -> list[Command]:
        """All commands, in the order of their rooms."""
        return [await self.find(name) for name in self._rooms]

    async def _enter(self, room: Room) -> None:
        if room.names[0] not in self._known:
            entered = await room.enter()
            self._known |= {name: Command(getattr(entered, name)) for name in room.names}

    def _hint(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self._rooms, n=1)
        return f": did you mean '{near[0]}'?" if near else ""

    async def answer(self, raw: bytes) -> bytes | None:
        """The reply to a request, or None if it wants none."""
        try:
            asked = msgspec.json.decode(raw, type=Asked)
        except msgspec.DecodeError as wrong:
            refused = CommandFailed(INVALID_REQUEST, f"Invalid request: {wrong}")
            return _framed({"id": _id_of(raw), "error": _error(refused)})
        _asked_id.set(asked.id)
        try:
            result = await self.call(asked.method, asked.params)
        except CommandFailed as failed:
            return None if asked.id is msgspec.UNSET else _framed({"id": asked.id, "error": _error(failed)})
        if asked.filter is not None:
            result = filtered(msgspec.to_builtins(result), asked.filter)
        return None if asked.id is msgspec.UNSET else _framed({"id": asked.id, "result": result})

    async def call(self, method: str, params: list[Any] | dict[str, Any] | None) -> Any:
        """The result of a command.

        Raises:
            CommandFailed: it refuses.
        """
        if method == "check":
            # its other parameters are those of another command
            return await self._check(params)
        try:
            command = await self.find(method)
            return await command.act(**command.bind(params))
        except CommandFailed:
            raise
        except Exception as error:
            log.exception("a command failed in a way that nobody foresaw", extra={"command": method})
            raise CommandFailed(INTERNAL_ERROR, f"internal error: {error!r}") from None

    async def _here(self) -> object:
        return self

    async def check(self, command_to_check: Text) -> dict[str, str]:
        """Whether a command would take the parameters that follow its name; nothing is done."""
        return await self._check([command_to_check])

    async def _check(self, given: list[Any] | dict[str, Any] | None) -> dict[str, str]:
        """Whether a command would take these parameters, the first of which names it."""
        rest: list[Any] | dict[str, Any]
        if isinstance(given, list) and given:
            name, rest = given[0], given[1:]
        elif isinstance(given, dict) and "command_to_check" in given:
            rest = {key: value for key, value in given.items() if key != "command_to_check"}
            name = given["command_to_check"]
        else:
            raise CommandFailed(INVALID_PARAMETERS, "missing required parameter: command_to_check")
        (await self.find(str(name))).bind(rest)
        return {"command_to_check": str(name)}


def _room_of(entered: object) -> Room:
    """The commands of an object that is there already."""

    async def enter() -> object:
        return entered

    return Room(tuple(commands_in(type(entered))), enter)


def class_at(place: str) -> type:
    """The class of a room, whose place is written MODULE:CLASS."""
    module, _, name = place.partition(":")
    found: type = getattr(import_module(module), name)
    return found


def commands_in(kind: type) -> list[str]:
    """The public coroutine methods of a class."""
    return [name for name, act in vars(kind).items() if name[0] != "_" and inspect.iscoroutinefunction(act)]


def _id_of(raw: bytes) -> object:
    """The id of a request that is wrong otherwise, if it can be read."""
    try:
        return msgspec.json.decode(raw, type=dict[str, Any]).get("id")
    except msgspec.DecodeError:
        return None


def _error(failed: CommandFailed) -> dict[str, Any]:
    told: dict[str, Any] = {"code": failed.code, "message": failed.message}
    return told if failed.details is None else {**told, "data": failed.details}


def _framed(reply: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "2.0", **reply}) + b"\n\n"


def filtered(result: Any, wanted: Any) -> Any:
    """The part of a result that a filter asks for: fields that it names `true`, lists item by item."""
    if isinstance(wanted, dict) and isinstance(result, dict):
        return {name: filtered(result[name], wanted[name]) for name in wanted if name in result}
    if isinstance(wanted, list) and len(wanted) == 1 and isinstance(result, list):
        return [filtered(item, wanted[0]) for item in result]
    return result


class RpcServer:
    """Answers on the socket. Start `run` in a nursery."""

    def __init__(self, path: Path, commands: Commands) -> None:
        self.path, self._commands = path, commands
        self._inode = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; started once the socket is there."""
        listener = trio.SocketListener(self._bound())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, self._serve, [listener])
                task_status.started()
        finally:
            self.hide()

    def hide(self) -> None:
        """Let nobody else connect; if another node has the place by now, leave it alone."""
        with suppress(FileNotFoundError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _bound(self) -> trio.socket.SocketType:
        """A listening socket that only we may connect to."""
        self.path.unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            with short_name(self.path) as name:
                bound.bind(name)
        finally:
            os.umask(mask)
        self._inode = self.path.stat().st_ino
        bound.listen()
        return trio.socket.from_stdlib_socket(bound)

    async def _serve(self, stream: trio.SocketStream) -> None:
        splitter, lock = Splitter(), trio.Lock()

        async def send(raw: bytes) -> None:
            # what was begun is finished even if nobody is left to hear of it
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                async with lock:
                    await stream.send_all(raw)

        async def serve_one(raw: bytes) -> None:
            await send(await self._commands.answer(raw) or b"")

        _audience.set(Audience(send))

        try:
            async with stream, trio.open_nursery() as nursery:
                while received := await stream.receive_some(READ_BYTES):
                    for at, raw in enumerate(splitter.feed(received)):
                        if at:
                            # what comes first begins first: `notifications`, and then what they are of
                            await trio.lowlevel.checkpoint()
                        nursery.start_soon(serve_one, raw)
        except* trio.BrokenResourceError:
            pass
        except* NoJson:
            log.info("a client of the RPC sent no JSON")


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A name for a socket that is short enough for the system, which takes at most 108 bytes."""
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
