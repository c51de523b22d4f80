"""The process in the background that keeps a testnet: its chain, its nodes, its control socket."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import msgspec
import trio

from htlc.errors import ChannelError
from node.chain.interface import ChainDirectoryInUse, ChainTrouble
from node.daemon.rpc import SOCKET_NAME, Commands, RpcServer
from node.daemon.rpc_parameters import CommandFailed
from node.daemon.store import Damaged, DatabaseInUse
from node.lab.daemons import DaemonFailed
from node.lab.scenario.model import Scenario
from node.lab.scenario.reading import BadScenario
from node.lab.testnet.control import Control
from node.lab.testnet.fleet import Fleet
from node.lab.testnet.grounds import (
    BitcoindFailed,
    Ground,
    NoBitcoind,
    PoorMiner,
    bitcoind_ground,
    embedded_ground,
)
from node.lab.testnet.leftovers import end_leftovers
from node.lab.testnet.members import Member, NodeHere, NodeThere
from node.lab.testnet.place import NoTestnet, Place, Setup
from node.lab.view.serving import Viewing

log = logging.getLogger("rill.testnet")

LAST_WORDS_SECONDS = 0.1
BACKENDS = {"embedded": embedded_ground, "bitcoind": bitcoind_ground}
FAILURES = (
    BadScenario,
    BitcoindFailed,
    ChainDirectoryInUse,
    ChainTrouble,
    ChannelError,
    CommandFailed,
    DaemonFailed,
    Damaged,
    DatabaseInUse,
    NoBitcoind,
    NoTestnet,
    OSError,
    PoorMiner,
)
"""How a testnet may fail to start without a mistake in this code; each says why in a sentence."""


async def keep(place: Place) -> None:
    """Bring the network up, and keep it until `down` or cancelled.

    Raises:
        one of FAILURES, alone or in the groups that nurseries make.
    """
    scenario, setup, control = place.scenario(), place.setup(), Control()
    async with trio.open_nursery() as serving:
        await serving.start(RpcServer(place.directory / SOCKET_NAME, Commands(control)).run)
        async with trio.open_nursery() as running:
            running.start_soon(_run, place, scenario, setup, control)
            await control.stopped.wait()
            # who called `down` is answered first
            await trio.sleep(LAST_WORDS_SECONDS)
            running.cancel_scope.cancel()
        # the socket goes last: when it is gone, all is
        serving.cancel_scope.cancel()


async def _run(place: Place, scenario: Scenario, setup: Setup, control: Control) -> None:
    open_ground: Callable[..., AbstractAsyncContextManager[Ground]] = BACKENDS[setup.backend]
    await end_leftovers(place)
    if setup.is_unfinished:
        place.clear()
    async with open_ground(place.chain_directory) as ground, trio.open_nursery() as nursery:
        members = members_of(place, scenario, setup, ground)
        fleet = Fleet(place, scenario, ground, members)

        def say(stage: str) -> None:
            log.info(stage)
            control.stage = stage

        try:
            await fleet.raise_all(nursery, say)
            place.keep(msgspec.structs.replace(place.setup(), is_unfinished=False))
            control.fleet = fleet
            control.on_revive = partial(fleet.revive, nursery)
            control.on_view = Viewing(control, nursery).open
            log.info("routable", extra={"nodes": len(members), "channels": len(scenario.channel)})
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await fleet.stop()
            nursery.cancel_scope.cancel()


def members_of(place: Place, scenario: Scenario, setup: Setup, ground: Ground) -> dict[str, Member]:
    """The nodes of the network, not started yet."""
    members: dict[str, Member] = {}
    for name in scenario.names:
        directory, port = place.node_directory(name), setup.ports.get(name, 0)
        if setup.has_processes:
            members[name] = NodeThere(name, directory, ground.rpc_port, port)
        else:
            members[name] = NodeHere(name, directory, ground.chain(), scenario.seed, port)
    return members
