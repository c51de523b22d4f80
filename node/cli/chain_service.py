"""What `rill chain` runs: the chain, its server, and the signals that end both."""

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
import typer

from node.chain.bitcoind import cookie_path
from node.chain.embedded import EmbeddedChain
from node.chain.http import Credentials
from node.chain.interface import ChainDirectoryInUse, ChainPortTaken
from node.chain.served import ServedChain
from node.cli.signals import until_signal

FAILED = 1


def serve_chain(port: int, datadir: Path | None, credentials: tuple[str, str] | None) -> int:
    """Serve until a signal or `stop`; return the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    with ExitStack() as kept:
        directory = datadir or Path(kept.enter_context(TemporaryDirectory(prefix="rill-chain-")))
        cookie = cookie_path(directory, EmbeddedChain.network)
        try:
            chain = kept.enter_context(EmbeddedChain(cookie.parent))
            access = None if credentials is None else Credentials(*credentials)
            trio.run(_serve, ServedChain(chain, cookie, access), port)
        except (ChainDirectoryInUse, ChainPortTaken) as refused:
            typer.echo(f"rill: {refused}", err=True)
            return FAILED
    return 0


async def _serve(served: ServedChain, port: int) -> None:
    async with until_signal() as nursery:
        await nursery.start(served.run, port)
        typer.echo(f"regtest at height {served.chain.regtest.height}, served on {served.host}:{served.port}")
        typer.echo(f"cookie: {served.cookie_path}")
        await served.methods.stopped.wait()
