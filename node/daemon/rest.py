"""The commands over HTTP, as Core Lightning's clnrest serves them: POST /v1/METHOD with a rune.

Only a rune lets anyone in, to the figures at /metrics too, which count as a command of the name
`getmetrics`; what the commands are called anybody may read. There are no cookies, so nothing that a
browser carries along means anything here, and pages of every origin may try.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec

from node.daemon.rpc import UNKNOWN_COMMAND, Commands
from node.daemon.rpc_parameters import CommandFailed

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

METRICS = "getmetrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_BODY_BYTES = 4 << 20
NOT_AUTHORIZED = 1501
PARSE_ERROR = -32700
EVERY_ORIGIN = ("*",)
CONTENT_POLICY = (
    "default-src 'self'; font-src 'self'; img-src 'self' data:; frame-src 'self'; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline';"
)
_BEARER = "bearer "
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"
_CREATED = 201
_FORBIDDEN, _UNAUTHORIZED, _NOT_FOUND, _NOT_ALLOWED, _NOT_ACCEPTABLE = 403, 401, 404, 405, 406
_TOO_LARGE, _FAILED = 413, 500

Act = Callable[[str, Any], Awaitable["Response"]]


def rest_app(
    commands: Commands,
    metrics: Callable[[], str],
    origins: Sequence[str] = EVERY_ORIGIN,
    content_policy: str = CONTENT_POLICY,
) -> Any:
    """The ASGI application, for pages of these origins, which are told that policy for their content."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.cors import CORSMiddleware
    from starlette.routing import Route

    rest = _Rest(commands, metrics, content_policy)
    routes = [
        Route("/v1/list-methods", rest.list_methods, methods=["GET"]),
        Route("/v1/{method}", rest.call, methods=["POST"]),
        Route("/metrics", rest.show_metrics, methods=["GET"]),
    ]
    open_to = Middleware(
        CORSMiddleware, allow_origins=list(origins), allow_methods=["*"], allow_headers=["*"]
    )
    refusals: Any = {_NOT_FOUND: rest.not_found, _NOT_ALLOWED: rest.not_allowed}
    return Starlette(routes=routes, middleware=[open_to], exception_handlers=refusals)


class _HttpFailed(Exception):
    """A request that is refused, by its status."""

    def __init__(self, status: int, failed: CommandFailed) -> None:
        super().__init__(str(failed))
        self.status, self.failed = status, failed


class _Rest:
    """Answers requests."""

    def __init__(self, commands: Commands, metrics: Callable[[], str], content_policy: str) -> None:
        self._commands, self._metrics = commands, metrics
        self._fields = {"Content-Security-Policy": content_policy}

    async def call(self, request: "Request") -> "Response":
        return await self._guarded(request, request.path_params["method"], self._carry_out)

    async def _carry_out(self, method: str, params: Any) -> "Response":
        result = await self._commands.call(method, params)
        return self._response(msgspec.json.encode(result), _CREATED, _JSON)

    async def show_metrics(self, request: "Request") -> "Response":
        return await self._guarded(request, METRICS, self._count)

    async def _count(self, _: str, __: Any) -> "Response":
        return self._response(self._metrics(), 200, METRICS_TYPE)

    async def list_methods(self, _: "Request") -> "Response":
        """The commands and their parameters, as clnrest lays them out."""
        line = "\n" + "-" * 171 + "\n"
        listed = (await self._commands.call("help", {}))["help"]
        shown = "".join(f"Command: {each['command']}\n{line}\n" for each in listed)
        return self._response(shown, 200, "text/html; charset=utf-8")

    async def not_found(self, _: "Request", __: Exception) -> "Response":
        return self._failure(_NOT_FOUND, CommandFailed(UNKNOWN_COMMAND, "Path not found"))

    async def not_allowed(self, _: "Request", __: Exception) -> "Response":
        why = "Path invalid, http_method must be POST for CLN methods"
        return self._failure(_NOT_ALLOWED, CommandFailed(UNKNOWN_COMMAND, why))

    async def _guarded(self, request: "Request", method: str, act: Act) -> "Response":
        """Do it if the rune of the request allows it."""
        try:
            params = await self._permitted(request, method)
            return await act(method, params)
        except _HttpFailed as refused:
            return self._failure(refused.status, refused.failed)
        except CommandFailed as failed:
            return self._failure(_NOT_FOUND if failed.code == UNKNOWN_COMMAND else _FAILED, failed)

    async def _permitted(self, request: "Request", method: str) -> Any:
        """The parameters of the request.

        Raises:
            _HttpFailed: it may not be carried out.
        """
        rune = _rune_in(request.headers)
        if not rune:
            raise _HttpFailed(_FORBIDDEN, CommandFailed(NOT_AUTHORIZED, "Not authorized: Missing rune"))
        params = _params(await _body_of(request), request.headers.get("content-type", _JSON))
        try:
            await self._commands.call("checkrune", {"rune": rune, "method": method, "params": params})
        except CommandFailed as refused:
            raise _HttpFailed(_UNAUTHORIZED, refused) from None
        return params

    def _failure(self, status: int, failed: CommandFailed) -> "Response":
        told = {"code": failed.code, "message": failed.message}
        told |= {} if failed.details is None else {"data": failed.details}
        return self._response(msgspec.json.encode(told), status, _JSON)

    def _response(self, content: str | bytes, status: int, media_type: str) -> "Response":
        from starlette.responses import Response

        return Response(content, status, self._fields, media_type)


async def _body_of(request: "Request") -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            why = f"the body is longer than {MOST_BODY_BYTES} bytes"
            raise _HttpFailed(_TOO_LARGE, CommandFailed(PARSE_ERROR, why))
    return body


def _rune_in(headers: Any) -> str:
    """The rune of a request: in a field of its own, or where other programs put such things."""
    authorization: str = headers.get("authorization", "")
    bearer = authorization[len(_BEARER) :] if authorization.lower().startswith(_BEARER) else ""
    rune: str = headers.get("rune", bearer)
    return rune.strip()


def _params(body: bytes, content_type: str) -> dict[str, Any] | list[Any]:
    """What a body says, in one of the two forms that we read."""
    if _FORM in content_type:
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    if _JSON not in content_type and "*/*" not in content_type:
        why = f"Unsupported content-type header: {content_type}"
        raise _HttpFailed(_NOT_ACCEPTABLE, CommandFailed(PARSE_ERROR, why))
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any] | list[Any])
    except msgspec.DecodeError as wrong:
        failed = CommandFailed(PARSE_ERROR, f"Could not parse JSON request: {wrong}")
        raise _HttpFailed(_FAILED, failed) from None
