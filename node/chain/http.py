"""HTTP/1.1 as JSON-RPC needs it: POST, bodies of known or chunked length, connections that stay open.

One class reads either end of a connection. h11 was rejected for its 25 ms of import time, a tenth
of what a node may take to start; what is left out here is what JSON-RPC never uses: trailers,
pipelining, upgrades. Everything read is bounded, and whatever is not understood ends the connection.
"""

import base64
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
import trio

log = logging.getLogger("rill.http")

MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 32 << 20
READ_BYTES = 65_536
IDLE_SECONDS = 30.0

REASONS = {
    200: "OK",
    204: "No Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Credentials(msgspec.Struct, frozen=True):
    """A user and a password, as HTTP's basic authentication wants them."""

    user: str
    password: str

    @property
    def field(self) -> str:
        """The value of the header field."""
        pair = f"{self.user}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class BadHttp(Exception):
    """What came is no HTTP, or more than we take. `status` is what to answer a request like it."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Hangup(Exception):
    """The connection ended in the middle of a message, or before one that we wait for."""

    def __init__(self) -> None:
        super().__init__("the connection was closed")


class Head(msgspec.Struct, frozen=True):
    """The first line of a message, and its header fields by their names in lower case."""

    first_line: str
    fields: dict[str, str]

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after this message."""
        is_old = self.first_line.startswith("HTTP/1.0") or self.first_line.endswith("HTTP/1.0")
        wish = self.fields.get("connection", "close" if is_old else "").lower()
        return "close" in wish


class Request(msgspec.Struct, frozen=True):
    """What a client asks."""

    method: str
    path: str
    fields: dict[str, str]
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """What a server answers."""

    status: int
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)

    def serialize(self, *, is_last: bool) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, '')}"]
        lines += [f"{name}: {value}" for name, value in self.fields if self.status != 204]
        lines += [f"Content-Length: {len(self.body)}"] if self.status != 204 else []
        lines += ["Connection: close"] if is_last else []
        return "\r\n".join((*lines, "", "")).encode("latin-1") + self.body


class Reader:
    """Reads messages from one connection, one after another."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._waiting = bytearray()

    async def head(self) -> Head:
        """The head of the next message.

        Raises:
            Hangup: the connection ended first.
            BadHttp: it is no head, or too long.
        """
        raw = await self._until(b"\r\n\r\n")
        first_line, *lines = raw.decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadHttp(400, "a header field has no name")
            fields[name.lower()] = value.strip()
        return Head(first_line, fields)

    async def body(self, head: Head) -> bytes:
        """The body that follows this head.

        Raises:
            Hangup: the connection ended first.
            BadHttp: its length is unclear, or too much.
        """
        encoding = head.fields.get("transfer-encoding")
        if encoding is not None:
            if encoding.lower() != "chunked" or "content-length" in head.fields:
                raise BadHttp(400, "the length of the body is unclear")
            return await self._chunks()
        length = head.fields.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadHttp(400, "the length of the body is no number")
        return await self._exactly(int(length), MAX_BODY_BYTES)

    async def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = (await self._until(b"\r\n")).partition(b";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                raise BadHttp(400, "the length of a chunk is no number") from None
            chunk = await self._exactly(length, MAX_BODY_BYTES - len(body))
            if await self._exactly(2, 2) != b"\r\n":
                raise BadHttp(400, "a chunk is longer than it says")
            if not length:
                return bytes(body)
            body += chunk

    async def _until(self, mark: bytes) -> bytes:
        while (end := self._waiting.find(mark)) < 0:
            if len(self._waiting) > MAX_HEAD_BYTES:
                raise BadHttp(400, "the head is too long")
            await self._receive()
        found = bytes(self._waiting[:end])
        del self._waiting[: end + len(mark)]
        return found

    async def _exactly(self, length: int, most: int) -> bytes:
        if not 0 <= length <= most:
            raise BadHttp(413, "the body is too long")
        while len(self._waiting) < length:
            await self._receive()
        found = bytes(self._waiting[:length])
        del self._waiting[:length]
        return found

    async def _receive(self) -> None:
        received = await self._stream.receive_some(READ_BYTES)
        if not received:
            raise Hangup
        self._waiting += received


async def serve_connection(stream: trio.SocketStream, answer: Callable[[Request], Awaitable[Reply]]) -> None:
    """Answer the requests of one connection until it ends, or stays silent for long."""
    reader = Reader(stream)
    async with stream:
        try:
            while await _serve_request(stream, reader, answer):
                pass
        except (Hangup, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return
        except BadHttp as bad:
            log.info("a client sent what is no request", extra={"why": str(bad)})
            refusal = Reply(bad.status, str(bad).encode(), (("Content-Type", "text/plain"),))
            with trio.move_on_after(IDLE_SECONDS), suppress(trio.BrokenResourceError):
                await stream.send_all(refusal.serialize(is_last=True))


async def _serve_request(
    stream: trio.SocketStream, reader: Reader, answer: Callable[[Request], Awaitable[Reply]]
) -> bool:
    """Answer one request; whether another may follow."""
    with trio.fail_after(IDLE_SECONDS):
        head = await reader.head()
        method, _, rest = head.first_line.partition(" ")
        path, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            raise BadHttp(400, "the first line is no request's")
        if head.fields.get("expect", "").lower() == "100-continue":
            await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.body(head)
    reply = await answer(Request(method, path, head.fields, body))
    await stream.send_all(reply.serialize(is_last=head.is_last))
    return not head.is_last
