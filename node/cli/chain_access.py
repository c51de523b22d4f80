"""The chain that a command's options name, once it can serve."""

import logging
from pathlib import Path

import trio

from node.chain.bitcoind import BitcoindChain, cookie_path
from node.chain.http import Credentials
from node.chain.interface import ChainUnavailable
from node.chain.rpc_client import StartingUp
from node.cli.places import ChainOptions

log = logging.getLogger("rill.chain")

STARTING_SECONDS = 1.0
PATIENCE_SECONDS, LOOK_AGAIN_SECONDS = 5.0, 0.1


async def open_chain(options: ChainOptions, poll_seconds: float | None = None) -> BitcoindChain:
    """The chain, waiting for a bitcoind that has only just been started, or is about to be.

    It is asked for blocks as often as is usual, or as is said.

    Raises:
        ChainTrouble: it cannot serve us.
    """
    chain = _chain_of(options, poll_seconds)
    give_up_at = trio.current_time() + PATIENCE_SECONDS
    while True:
        try:
            await chain.check()
        except StartingUp as starting:
            log.info("waiting for bitcoind", extra={"why": starting.why})
            await trio.sleep(STARTING_SECONDS)
        except ChainUnavailable:
            # whoever starts both at once need not know which is faster
            if trio.current_time() > give_up_at:
                raise
            await trio.sleep(LOOK_AGAIN_SECONDS)
        else:
            return chain


def _chain_of(options: ChainOptions, poll_seconds: float | None) -> BitcoindChain:
    if options.user is not None and options.password is not None:
        secret: Credentials | Path = Credentials(options.user, options.password)
    else:
        secret = cookie_path(options.directory, options.network)
    return BitcoindChain(secret, options.network, options.host, options.port, poll_seconds)
