"""The embedded chain for other processes: bitcoind's JSON-RPC over HTTP, for whoever has the password.

A client authenticates with the cookie that each start writes anew, readable by its owner alone, or
with a user and a password of one's own, as with bitcoind.
"""

import hmac
import logging
import secrets
from functools import partial
from pathlib import Path

import trio

from node.chain.embedded import EmbeddedChain
from node.chain.http import Credentials, Reply, Request, serve_connection
from node.chain.interface import ChainPortTaken
from node.chain.served_methods import ServedMethods

log = logging.getLogger("rill.chain")

COOKIE_USER = "__cookie__"
DEFAULT_PORT = 18443
HOST = "127.0.0.1"
WRONG_PASSWORD_SECONDS = 0.25
LAST_WORDS_SECONDS = 0.1
_TEXT = (("Content-Type", "text/plain"),)


class ServedChain:
    """An embedded chain, and what serves it. Start `run` in a nursery."""

    def __init__(
        self,
        chain: EmbeddedChain,
        cookie_path: Path | None = None,
        credentials: Credentials | None = None,
        host: str = HOST,
    ) -> None:
        self.chain, self.host, self.port = chain, host, 0
        self.methods = ServedMethods(chain)
        self.cookie_path = cookie_path
        self._cookie = Credentials(COOKIE_USER, secrets.token_hex(32)) if cookie_path is not None else None
        self._allowed = [known for known in (self._cookie, credentials) if known is not None]

    async def run(self, port: int = 0, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop` is called or this is cancelled; started once it listens.

        Raises:
            ChainPortTaken: it cannot listen.
        """
        try:
            listeners = await trio.open_tcp_listeners(port, host=self.host)
        except OSError as error:
            raise ChainPortTaken(self.host, port, error.strerror or str(error)) from None
        self.port = listeners[0].socket.getsockname()[1]
        serve = partial(serve_connection, answer=self._answer)
        try:
            self._write_cookie()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.serve_listeners, serve, listeners)
                task_status.started()
                await self.methods.stopped.wait()
                # who called `stop` is answered first
                nursery.cancel_scope.deadline = trio.current_time() + LAST_WORDS_SECONDS
        finally:
            if self.cookie_path is not None:
                self.cookie_path.unlink(missing_ok=True)

    def _write_cookie(self) -> None:
        if self.cookie_path is None or self._cookie is None:
            return
        self.cookie_path.parent.mkdir(parents=True, exist_ok=True)
        self.cookie_path.unlink(missing_ok=True)
        self.cookie_path.touch(mode=0o600)
        self.cookie_path.write_text(f"{self._cookie.user}:{self._cookie.password}")

    async def _answer(self, request: Request) -> Reply:
        if request.method != "POST":
            return Reply(405, b"JSONRPC server handles only POST requests", _TEXT)
        given = request.fields.get("authorization", "").encode()
        if not any(hmac.compare_digest(given, known.field.encode()) for known in self._allowed):
            log.warning("a client of the chain gave a wrong password")
            await trio.sleep(WRONG_PASSWORD_SECONDS)
            return Reply(401, b"", (("WWW-Authenticate", 'Basic realm="jsonrpc"'), *_TEXT))
        status, body = await self.methods.table.answer(request.body)
        return Reply(status, body)
