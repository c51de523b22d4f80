"""Serving the page of a testnet: on the loopback alone, to whoever has the link."""

import secrets
from importlib.resources import files
from typing import TYPE_CHECKING

import trio

from node.daemon.rpc_parameters import CommandFailed
from node.daemon.web import WebPortTaken, serve_web
from node.lab.testnet.control import Control, overview

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

HOST = "127.0.0.1"
SECRET_BYTES = 16
PORT_TAKEN = -4
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
PAGE = {"": "view.html", "view.css": "view.css", "view.js": "view.js", "icon.svg": "icon.svg"}


class Viewing:
    """The page of one network, served from when it is first asked for."""

    def __init__(self, control: Control, nursery: trio.Nursery) -> None:
        self._control, self._nursery = control, nursery
        self._secret, self._url = secrets.token_urlsafe(SECRET_BYTES), ""
        self._port = 0
        self._opening = trio.Lock()

    async def open(self, port: int) -> str:
        """The link to the page; the port counts when it is served for the first time.

        Raises:
            CommandFailed: the port cannot be had, or the page is at another one already.
        """
        async with self._opening:
            if self._url and port not in (0, self._port):
                raise CommandFailed(PORT_TAKEN, f"the page is served at {self._url} already")
            if not self._url:
                try:
                    taken = await self._nursery.start(serve_web, self._app(), HOST, port)
                except WebPortTaken as refused:
                    raise CommandFailed(PORT_TAKEN, str(refused)) from None
                self._port, self._url = taken, f"http://{HOST}:{taken}/{self._secret}/"
        return self._url

    def _app(self) -> object:
        from starlette.applications import Starlette
        from starlette.routing import Route

        from node.stream.guard import Guard

        routes = [Route("/state", self._state), Route("/{name:path}", self._page)]
        return Guard(Starlette(routes=routes), self._secret, HOST)

    async def _state(self, _: "Request") -> "JSONResponse":
        """What the page shows, as it is now."""
        from starlette.responses import JSONResponse

        assert self._control.fleet is not None, "the page is served of a network that is up"
        shown = await overview(self._control.fleet)
        return JSONResponse({**shown, "payments": list(self._control.paid)})

    async def _page(self, request: "Request") -> "Response":
        from starlette.responses import Response

        name = PAGE.get(request.path_params["name"])
        if name is None:
            return Response("there is nothing here", status_code=404, media_type="text/plain")
        text = (files("node.lab.view") / name).read_text(encoding="utf-8")
        return Response(text, media_type=KINDS[name.rpartition(".")[2]])
