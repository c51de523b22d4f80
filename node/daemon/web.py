"""Serve a web application beside a node: hypercorn under trio, on one socket of ours.

Everything of Rill that speaks HTTP to people or programs is served through here, so each listens on the
loopback unless its user says otherwise, and none holds up the node's end. The libraries are imported when
the first of them is asked for.
"""

import logging
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import trio

if TYPE_CHECKING:
    from hypercorn.config import Config

QUIET_SECONDS = 0.5
"""How long an answer that is on its way may take when the node stops."""


MOST_PORT = 65_535


class WebPortTaken(Exception):
    """The address to serve at cannot be had."""

    def __init__(self, host: str, port: int, why: str) -> None:
        self.host, self.port, self.why = host, port, why
        super().__init__(f"cannot serve at {host}:{port}: {why}")


class Tls(msgspec.Struct, frozen=True):
    """What a server shows its clients, and the key to it: two files in PEM."""

    certificate: Path
    key: Path


class BadCertificates(Exception):
    """The certificates that are there cannot be used, or none can be made."""

    def __init__(self, directory: Path, why: str) -> None:
        self.directory, self.why = directory, why
        super().__init__(f"the certificates in {directory} cannot be used: {why}")


def bind(host: str, port: int) -> socket.socket:
    """A socket to listen on; port 0 lets the system choose.

    Raises:
        WebPortTaken: the system refuses.
    """
    if not 0 <= port <= MOST_PORT:
        raise WebPortTaken(host, port, "there is no such port")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        raise WebPortTaken(host, port, error.strerror or str(error)) from None
    bound.setblocking(False)
    return bound


async def serve_web(
    app: Any,
    host: str,
    port: int,
    tls: Tls | None = None,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until cancelled; started with the port once it listens.

    Raises:
        WebPortTaken: it cannot listen there.
    """
    from hypercorn.trio import serve

    bound = bind(host, port)
    taken = bound.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, app, _config(bound.detach(), tls), mode="asgi"))
        task_status.started(taken)


def _config(listening: int, tls: Tls | None) -> "Config":
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listening}"]
    if tls is not None:
        config.certfile, config.keyfile = str(tls.certificate), str(tls.key)
    config.graceful_timeout = config.shutdown_timeout = QUIET_SECONDS
    config.include_server_header = False
    config.keep_alive_timeout = 60.0
    config.loglevel = "WARNING"
    config.errorlog = logging.getLogger("rill.web")
    return config
