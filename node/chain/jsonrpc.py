"""JSON-RPC the way bitcoind serves it: what a request may look like, and what each mistake is told.

A method is an async function; its parameters' names, types and defaults are read from its signature,
so the table of methods is the code itself. Requests without `"jsonrpc": "2.0"` get bitcoind's older
framing, where an error is also an HTTP status and a reply has both `result` and `error`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_type_hints

import msgspec

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
MISC_ERROR = -1
TYPE_ERROR = -3
INVALID_PARAMETER = -8

_HTTP_STATUS = {INVALID_REQUEST: 400, METHOD_NOT_FOUND: 404}
_NULL = msgspec.Raw(b"null")


class RpcError(Exception):
    """A refusal, by bitcoind's number."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class WireCall(msgspec.Struct, frozen=True):
    """A request as it comes, before anything but its braces is believed."""

    method: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    jsonrpc: Any = None

    @property
    def is_second(self) -> bool:
        """Whether it speaks JSON-RPC 2.0."""
        return bool(self.jsonrpc == "2.0")


_UNREADABLE = WireCall(id=_NULL)


class WireReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reply, in either framing: a field that is not set is not there."""

    jsonrpc: str | msgspec.UnsetType = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    id: Any = msgspec.UNSET


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a method."""

    name: str
    decoder: msgspec.json.Decoder[Any]
    default: Any = inspect.Parameter.empty

    @property
    def is_required(self) -> bool:
        return self.default is inspect.Parameter.empty


class Method:
    """A function that may be called by name, and what it takes."""

    def __init__(self, act: Callable[..., Awaitable[Any]]) -> None:
        self.name, self.act = act.__name__, act
        types = get_type_hints(act)
        self.parameters = tuple(
            Parameter(name, msgspec.json.Decoder(types[name]), parameter.default)
            for name, parameter in inspect.signature(act).parameters.items()
        )

    @property
    def usage(self) -> str:
        """The name and the parameters, the optional ones in brackets, and what it does."""
        required = [parameter.name for parameter in self.parameters if parameter.is_required]
        optional = [parameter.name for parameter in self.parameters if not parameter.is_required]
        brackets = ["(", *optional, ")"] if optional else []
        return f"{' '.join((self.name, *required, *brackets))}\n\n{inspect.getdoc(self.act)}\n"

    async def __call__(self, params: msgspec.Raw) -> Any:
        """Call it with the parameters of a request.

        Raises:
            RpcError: they do not fit, or as the method says.
        """
        return await self.act(**self._bound(self._given(params)))

    def _given(self, params: msgspec.Raw) -> Mapping[str, msgspec.Raw]:
        try:
            named = msgspec.json.decode(params, type=list[msgspec.Raw] | dict[str, msgspec.Raw] | None) or []
        except msgspec.ValidationError:
            raise RpcError(INVALID_REQUEST, "Params must be an array or object") from None
        if isinstance(named, dict):
            for name in named.keys() - {parameter.name for parameter in self.parameters}:
                raise RpcError(INVALID_PARAMETER, f"Unknown named parameter {name}")
            return named
        if len(named) > len(self.parameters):
            raise RpcError(MISC_ERROR, self.usage)
        return {parameter.name: raw for parameter, raw in zip(self.parameters, named, strict=False)}

    def _bound(self, given: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        for place, parameter in enumerate(self.parameters, 1):
            raw = given.get(parameter.name)
            if raw is None and parameter.is_required:
                raise RpcError(MISC_ERROR, self.usage)
            if raw is None or (bytes(raw) == b"null" and not parameter.is_required):
                continue
            try:
                bound[parameter.name] = parameter.decoder.decode(raw)
            except msgspec.ValidationError as wrong:
                text = f"Wrong type passed: position {place} ({parameter.name}): {wrong}"
                raise RpcError(TYPE_ERROR, text) from None
        return bound


class Table:
    """Methods by their names."""

    def __init__(self, *acts: Callable[..., Awaitable[Any]]) -> None:
        self.methods = {act.__name__: Method(act) for act in acts}

    async def answer(self, body: bytes) -> tuple[int, bytes]:
        """The HTTP status and the body that answer a request or a batch of them."""
        try:
            asked = msgspec.json.decode(body, type=list[msgspec.Raw] | WireCall)
        except msgspec.ValidationError:
            return _alone(_failed(_UNREADABLE, RpcError(PARSE_ERROR, "Top-level object parse error")))
        except msgspec.DecodeError:
            return _alone(_failed(_UNREADABLE, RpcError(PARSE_ERROR, "Parse error")))
        if isinstance(asked, WireCall):
            return _alone(await self._reply(asked))
        replies = [await self._reply_raw(raw) for raw in asked]
        said = [reply for reply in replies if reply is not None]
        return (200, msgspec.json.encode(said)) if said or not asked else (204, b"")

    async def _reply_raw(self, raw: msgspec.Raw) -> WireReply | None:
        try:
            asked = msgspec.json.decode(raw, type=WireCall)
        except msgspec.ValidationError:
            return _failed(_UNREADABLE, RpcError(INVALID_REQUEST, "Invalid Request object"))
        return await self._reply(asked)

    async def _reply(self, asked: WireCall) -> WireReply | None:
        try:
            result = await self._call(asked)
        except RpcError as error:
            return None if _is_notification(asked) else _failed(asked, error)
        if not asked.is_second:
            return WireReply(result=result, error=None, id=asked.id)
        return None if _is_notification(asked) else WireReply("2.0", result, id=asked.id)

    async def _call(self, asked: WireCall) -> Any:
        if asked.method is msgspec.UNSET:
            raise RpcError(INVALID_REQUEST, "Missing method")
        try:
            name = msgspec.json.decode(asked.method, type=str)
        except msgspec.ValidationError:
            raise RpcError(INVALID_REQUEST, "Method must be a string") from None
        method = self.methods.get(name)
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        return await method(_NULL if asked.params is msgspec.UNSET else asked.params)


def _is_notification(asked: WireCall) -> bool:
    return asked.is_second and asked.id is msgspec.UNSET


def _failed(asked: WireCall, error: RpcError) -> WireReply:
    told = {"code": error.code, "message": error.message}
    if asked.is_second:
        return WireReply("2.0", error=told, id=asked.id)
    return WireReply(result=None, error=told, id=asked.id)


def _alone(reply: WireReply | None) -> tuple[int, bytes]:
    if reply is None:
        return 204, b""
    is_old_refusal = reply.jsonrpc is msgspec.UNSET and reply.error is not None
    status = _HTTP_STATUS.get(reply.error["code"], 500) if is_old_refusal else 200
    return status, msgspec.json.encode(reply)
