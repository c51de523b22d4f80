"""Who may speak with the page: nobody but whoever holds the link, and no page of another site.

A browser lets every site send requests to the loopback. So each request must name this machine as
its host (a name that somebody else's DNS points here does not), come from no foreign origin, and
begin with the secret of the link, which no other page can read. What leaves says that it may not
be framed, embedded or remembered, and that the page may load nothing from elsewhere.
"""

import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
MOST_ASKED_BYTES = 4096

LEAVING: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_REFUSED = {
    400: "this is not a request that the page makes",
    403: "another site may not speak with this node",
    404: "there is nothing here; use the whole link",
    421: "this is not the host that the link names",
}
_OWN_SITES = (None, "same-origin", "none")


class Guard:
    """Lets through what may speak with the application, below the path of its secret."""

    def __init__(self, app: "ASGIApp", secret: str, host: str = LOOPBACK_NAMES[0]) -> None:
        self._app, self._prefix = app, f"/{secret}/"
        self._names = {*LOOPBACK_NAMES, host, f"[{host}]"}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        async def send_guarded(message: "Message") -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(LEAVING)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            answer = JSONResponse({"error": _REFUSED[refusal]}, status_code=refusal)
            await answer(scope, receive, send_guarded)
            return
        path = "/" + scope["path"].removeprefix(self._prefix)
        await self._app({**scope, "path": path, "root_path": ""}, receive, send_guarded)

    def _refusal(self, scope: "Scope") -> int:
        """The status with which a request is turned away; zero if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._is_ours(host, scope["server"][1]):
            return 421
        if headers.get("origin") not in (None, f"http://{host}"):
            return 403
        if headers.get("sec-fetch-site") not in _OWN_SITES:
            return 403
        first = scope["path"][: len(self._prefix)]
        if not hmac.compare_digest(first.encode(), self._prefix.encode()):
            return 404
        return 0 if scope["method"] in ("GET", "HEAD") or _is_asked_by_page(headers) else 400

    def _is_ours(self, host: str, port: int) -> bool:
        name, colon, stated = host.rpartition(":")
        return bool(colon) and name in self._names and stated == str(port)


def _is_asked_by_page(headers: Headers) -> bool:
    """A form of another site cannot send JSON, and our page sends little of it."""
    length = headers.get("content-length", "")
    is_short = bool(re.fullmatch(r"[0-9]{1,9}", length)) and int(length) <= MOST_ASKED_BYTES
    return headers.get("content-type") == "application/json" and is_short
