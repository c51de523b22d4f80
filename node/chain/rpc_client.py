"""Calls of a bitcoind's JSON-RPC: connections that stay open, credentials, and what can go wrong.

Every failure that is not the caller's is a `ChainTrouble` that says in one sentence what its user
can do. Those that may pass by themselves are `ChainUnavailable`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import trio

from node.chain.hosts import resolvable
from node.chain.http import BadHttp, Credentials, Hangup, Head, Reader
from node.chain.interface import ChainTrouble, ChainUnavailable
from node.chain.jsonrpc import RpcError

log = logging.getLogger("rill.chain")

IN_WARMUP = -28
CALL_SECONDS = 60.0
KEPT_SECONDS = 20.0
MOST_CALLS = 4
T = TypeVar("T")


class ChainUnreachable(ChainUnavailable):
    """Nobody answers there."""

    def __init__(self, host: str, port: int, why: str) -> None:
        super().__init__(f"no bitcoind answers on {host}:{port} ({why}): is it running, with server=1?")
        self.host, self.port, self.why = host, port, why


class StartingUp(ChainUnavailable):
    """It answers, but only that it is not ready."""

    def __init__(self, why: str) -> None:
        super().__init__(f"bitcoind is starting up: {why}")
        self.why = why


class WrongCredentials(ChainTrouble):
    """It wants another password."""

    def __init__(self, host: str, port: int, source: str) -> None:
        super().__init__(f"bitcoind on {host}:{port} refuses {source}")
        self.host, self.port, self.source = host, port, source


class NoCookie(ChainUnavailable):
    """There is no cookie, so there is probably no bitcoind."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"there is no cookie at {path}: is bitcoind running, and is this its data directory?"
        )
        self.path = path


class Call(msgspec.Struct, frozen=True):
    """A request."""

    method: str
    params: tuple[Any, ...]
    id: int = 0


class RpcFailure(msgspec.Struct, frozen=True):
    """An error that came back."""

    code: int
    message: str


class Answer(msgspec.Struct, frozen=True):
    """A reply, its result not read yet."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: RpcFailure | None = None
    id: int | None = None

    def read(self, type: type[T]) -> T:
        """The result.

        Raises:
            RpcError: it is an error.
            StartingUp: bitcoind cannot answer yet.
            ValidationError: it is something else than the caller expects.
        """
        if self.error is None:
            return msgspec.json.decode(self.result, type=type)
        if self.error.code == IN_WARMUP:
            raise StartingUp(self.error.message)
        raise RpcError(self.error.code, self.error.message)


class Connection:
    """One open connection, and when it was last used."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self.reader = stream, Reader(stream)
        self.used_at = trio.current_time()

    @property
    def is_fresh(self) -> bool:
        """Whether the server has hardly closed it for its silence yet."""
        return trio.current_time() - self.used_at < KEPT_SECONDS

    async def exchange(self, request: bytes) -> tuple[Head, bytes]:
        await self.stream.send_all(request)
        head = await self.reader.head()
        body = b"" if " 204" in head.first_line[:13] else await self.reader.body(head)
        self.used_at = trio.current_time()
        return head, body


class RpcClient:
    """Makes calls, by many tasks at once."""

    def __init__(self, host: str, port: int, secret: Credentials | Path) -> None:
        """`secret` is a user and a password, or the path of the cookie."""
        self.host, self.port = host, port
        self._secret = secret
        self._field = ""
        self._idle: list[Connection] = []
        # more would only wait in a queue of bitcoind's, and may fill it
        self._limit = trio.CapacityLimiter(MOST_CALLS)

    async def call(self, method: str, *params: object, type: type[T]) -> T:
        """Call a method; its result.

        Raises:
            RpcError: bitcoind refuses.
            ChainTrouble: bitcoind cannot be asked.
        """
        request = msgspec.json.encode(Call(method, params))
        async with self._limit:
            with _in_time(self, CALL_SECONDS):
                raw = await self._post(request)
        return self._decoded(raw, Answer).read(type)

    async def wait(self, method: str, *params: object, type: type[T]) -> T:
        """As `call`, for a method that answers only when something happens."""
        raw = await self._post(msgspec.json.encode(Call(method, params)))
        return self._decoded(raw, Answer).read(type)

    async def batch(self, *calls: tuple[str, tuple[object, ...]]) -> list[Answer]:
        """Several calls in one request; their answers in the same order, to be read one by one.

        Raises:
            ChainTrouble: bitcoind cannot be asked.
        """
        request = msgspec.json.encode([Call(method, params, at) for at, (method, params) in enumerate(calls)])
        async with self._limit:
            with _in_time(self, CALL_SECONDS):
                raw = await self._post(request)
        answers = {answer.id: answer for answer in self._decoded(raw, list[Answer])}
        if answers.keys() != set(range(len(calls))):
            raise ChainUnreachable(self.host, self.port, "it answered only a part of what was asked")
        return [answers[at] for at in range(len(calls))]

    def _decoded(self, raw: bytes, type: type[T]) -> T:
        try:
            return msgspec.json.decode(raw, type=type)
        except msgspec.DecodeError:
            raise ChainUnreachable(self.host, self.port, "what answers is no bitcoind") from None

    async def _post(self, body: bytes) -> bytes:
        """The body that comes back; a cookie that was written anew meanwhile is read anew."""
        if not self._field:
            self._field = self._read_secret()
        head, answer = await self._exchange(body)
        status = head.first_line.partition(" ")[2][:3]
        if status == "401" and self._has_changed():
            head, answer = await self._exchange(body)
            status = head.first_line.partition(" ")[2][:3]
        if status in ("401", "403"):
            source = f"the cookie in {self._secret}" if isinstance(self._secret, Path) else "this password"
            raise WrongCredentials(self.host, self.port, source)
        if status == "503":
            raise ChainUnreachable(self.host, self.port, "it has too much to do")
        return answer

    def _read_secret(self) -> str:
        if isinstance(self._secret, Credentials):
            return self._secret.field
        try:
            user, _, password = self._secret.read_text().strip().partition(":")
        except OSError:
            raise NoCookie(self._secret) from None
        return Credentials(user, password).field

    def _has_changed(self) -> bool:
        before, self._field = self._field, self._read_secret()
        return self._field != before

    async def _exchange(self, body: bytes) -> tuple[Head, bytes]:
        lines = (
            "POST / HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Authorization: {self._field}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        request = "\r\n".join((*lines, "", "")).encode() + body
        while (kept := self._kept()) is not None:
            try:
                return await self._exchange_on(kept, request)
            except (Hangup, trio.BrokenResourceError):
                continue
        try:
            connection = Connection(await trio.open_tcp_stream(resolvable(self.host), self.port))
            return await self._exchange_on(connection, request)
        except OSError as error:
            raise ChainUnreachable(self.host, self.port, _reason(error)) from None
        except (Hangup, BadHttp, trio.BrokenResourceError) as error:
            raise ChainUnreachable(self.host, self.port, str(error) or "the connection broke") from None

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh:
                return connection
            connection.stream.socket.close()
        return None

    async def _exchange_on(self, connection: Connection, request: bytes) -> tuple[Head, bytes]:
        is_kept = False
        try:
            head, body = await connection.exchange(request)
            is_kept = not head.is_last
        finally:
            if is_kept:
                self._idle.append(connection)
            else:
                connection.stream.socket.close()
        return head, body


def _reason(error: OSError) -> str:
    """What the system says of the innermost failure, when several addresses were tried."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    known = cause if isinstance(cause, OSError) else error
    return (known.strerror or str(known)).lower()


@contextmanager
def _in_time(client: RpcClient, seconds: float) -> Iterator[None]:
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise ChainUnreachable(client.host, client.port, f"no answer in {seconds:.0f} s") from None
