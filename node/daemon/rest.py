"""The commands over HTTP, as Core Lightning's clnrest serves them: POST /v1/METHOD with a rune.

Only a rune lets anyone in, to the figures at /metrics too, which count as a command of the name
`getmetrics`. There are no cookies, so nothing that a browser carries along means anything here.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from node.daemon.rpc import UNKNOWN_COMMAND, Commands
from node.daemon.rpc_parameters import CommandFailed

METRICS = "getmetrics"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_BODY_BYTES = 4 << 20
NOT_AUTHORIZED = 1501
PARSE_ERROR = -32700
_BEARER = "bearer "


def rest_app(commands: Commands, metrics: Callable[[], str]) -> Any:
    """The ASGI application."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def call(request: Request) -> Response:
        return await guarded(request, request.path_params["method"], carried_out)

    async def carried_out(method: str, params: Any) -> Response:
        result = msgspec.json.encode(await commands.call(method, params))
        return Response(result, 201, media_type="application/json")

    async def show_metrics(request: Request) -> Response:
        return await guarded(request, METRICS, counted)

    async def counted(_: str, __: Any) -> Response:
        return Response(metrics(), 200, media_type=METRICS_TYPE)

    async def guarded(request: Request, method: str, act: Callable[[str, Any], Any]) -> Response:
        """Do it if the rune of the request allows it."""
        rune = _rune_in(request.headers)
        if not rune:
            return failure(403, CommandFailed(NOT_AUTHORIZED, "Not authorized: Missing rune"))
        try:
            params = _params(await body_of(request))
        except CommandFailed as unreadable:
            return failure(400, unreadable)
        try:
            await commands.call("checkrune", {"rune": rune, "method": method, "params": params})
        except CommandFailed as refused:
            return failure(401, refused)
        try:
            response: Response = await act(method, params)
        except CommandFailed as failed:
            return failure(404 if failed.code == UNKNOWN_COMMAND else 500, failed)
        return response

    async def body_of(request: Request) -> bytes:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BODY_BYTES:
                raise CommandFailed(PARSE_ERROR, f"the body is longer than {MOST_BODY_BYTES} bytes")
        return body

    def failure(status: int, failed: CommandFailed) -> Response:
        told = {"code": failed.code, "message": failed.message}
        told |= {} if failed.details is None else {"data": failed.details}
        return Response(msgspec.json.encode(told), status, media_type="application/json")

    routes = [
        Route("/v1/{method}", call, methods=["POST"]),
        Route("/metrics", show_metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes)


def _rune_in(headers: Any) -> str:
    """The rune of a request: in a field of its own, or where other programs put such things."""
    authorization: str = headers.get("authorization", "")
    bearer = authorization[len(_BEARER) :] if authorization.lower().startswith(_BEARER) else ""
    rune: str = headers.get("rune", bearer)
    return rune.strip()


def _params(body: bytes) -> dict[str, Any] | list[Any]:
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body, type=dict[str, Any] | list[Any])
    except msgspec.DecodeError as wrong:
        raise CommandFailed(PARSE_ERROR, f"the body is no JSON object: {wrong}") from None
