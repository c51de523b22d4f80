"""The web server beside a node: where it listens, and that it ends."""

from functools import partial

import pytest
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from node.daemon.web import WebPortTaken, bind, serve_web


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.client.host if request.client else ''}")


APP = Starlette(routes=[Route("/", hello)])


async def fetched(port: int) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join([part async for part in stream])


async def test_it_answers_on_the_port_that_it_says_and_ends_when_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(serve_web, APP, "127.0.0.1", 0))
        answer = await fetched(port)
        nursery.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"hello 127.0.0.1")
    with pytest.raises(OSError, match=r"."):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_taken_port_is_named() -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(WebPortTaken) as refused:
            bind("127.0.0.1", port)
    assert str(port) in str(refused.value)
