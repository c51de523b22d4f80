"""`rill testnet up`: the network is written down, its keeper started, and waited for."""

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio
import typer
from rich.console import Console

from node.cli.logs import start_logging
from node.cli.signals import until_signal
from node.cli.testnet_calls import FAILED, USAGE, ask_up, print_status, say_failed
from node.daemon.rpc_client import NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed
from node.lab.scenario.model import DEFAULT_CAPACITY_SAT, Scenario
from node.lab.scenario.reading import BadScenario, NoScenario, load_scenario
from node.lab.scenario.shapes import SHAPES, WrongShape, shaped
from node.lab.testnet.keeper import FAILURES, keep
from node.lab.testnet.members import present
from node.lab.testnet.place import NoTestnet, Place, PlaceTaken, Setup

LOOK_SECONDS = 0.05
NODES = 5
_PROGRAM = (sys.executable, "-c", "from node.cli.main import main; main()")


class UpWish(NamedTuple):
    """What the command line said; None where it said nothing."""

    topology: str | None = None
    nodes: int | None = None
    capacity_sat: int | None = None
    seed: int | None = None
    has_processes: bool = False
    backend: str | None = None


def bring_up(directory: Path, wish: UpWish, *, as_json: bool) -> int:
    """Start the network and wait until it is routable; return the exit code."""
    place = Place(directory.absolute())
    is_new = not place.is_made
    try:
        if is_new:
            scenario = scenario_of(wish)
            backend = wish.backend or "embedded"
            place.make(scenario, Setup(wish.has_processes, backend, is_unfinished=True))
            _say_what_is_not_played(scenario, wish.topology)
        elif wish != UpWish():
            name = place.scenario().name
            raise PlaceTaken(
                f"{directory} holds the network {name} already: start it with `rill testnet up --dir "
                f"{directory}`, or forget it with `rill testnet down --remove --dir {directory}`"
            )
        place.scenario()
    except (WrongShape, BadScenario, NoScenario) as wrong:
        return say_failed(wrong, USAGE)
    except OSError as wrong:
        return say_failed(f"no network can be in {directory}: {(wrong.strerror or str(wrong)).lower()}")
    except (PlaceTaken, NoTestnet) as wrong:
        return say_failed(wrong)
    return _start(place, is_new=is_new, as_json=as_json)


def _say_what_is_not_played(scenario: Scenario, name: str | None) -> None:
    """A network that stays is its user's: what a scenario wants to happen happens elsewhere."""
    governed = [node for node in scenario.node if node.fees is not None]
    parts = {"traffic": scenario.traffic, "events": scenario.event, "fee policies": governed}
    found = ", ".join(part for part, what in parts.items() if what)
    if found:
        typer.echo(f"rill: not played here: {found}; `rill lab play {name}` does that", err=True)


def scenario_of(wish: UpWish) -> Scenario:
    """The network that was asked for.

    Raises:
        WrongShape, BadScenario, NoScenario: there is no such.
    """
    topology = wish.topology or "line"
    if topology in SHAPES:
        capacity_sat = wish.capacity_sat or DEFAULT_CAPACITY_SAT
        return shaped(topology, NODES if wish.nodes is None else wish.nodes, wish.seed or 0, capacity_sat)
    for option, given in (("--nodes", wish.nodes), ("--capacity", wish.capacity_sat)):
        if given is not None:
            raise WrongShape(f"{option} is for shapes: {topology} says itself what is in its network")
    scenario = load_scenario(topology)
    return scenario if wish.seed is None else msgspec.structs.replace(scenario, seed=wish.seed)


def _start(place: Place, *, is_new: bool, as_json: bool) -> int:
    try:
        ask_up(place, "status")
    except NodeUnreachable:
        pass
    else:
        return _revive(place, as_json=as_json)
    arguments = [*_PROGRAM, "testnet", "keep", f"--dir={place.directory}"]
    with place.log_path.open("ab") as log:
        keeper = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    with Console(stderr=True).status("starting") as shown:
        while keeper.poll() is None:
            try:
                status = ask_up(place, "status")
            except NodeUnreachable:
                status = {"ready": False, "stage": "starting"}
            if status["ready"]:
                print_status(place, status, as_json=as_json)
                return 0
            shown.update(status["stage"])
            time.sleep(LOOK_SECONDS)
    said = _last_words(place)
    if is_new and said:
        # what never was a network is in the way of a better one
        place.remove()
    return say_failed(said or f"it ended: see {place.log_path}")


def _revive(place: Place, *, as_json: bool) -> int:
    """Start what has ended of a network that is up."""
    try:
        with Console(stderr=True).status("looking for nodes that have ended"):
            revived = ask_up(place, "revive")["revived"]
            status = ask_up(place, "status")
    except (CommandFailed, NodeUnreachable) as refused:
        return say_failed(refused)
    if not revived:
        return say_failed(f"the network in {place.directory} is up already, and all of its nodes are")
    print_status(place, status, as_json=as_json)
    return 0


def _last_words(place: Place) -> str:
    """The sentence with which the keeper ended, if it was one."""
    lines = place.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    said = lines[-1] if lines else ""
    return said.removeprefix("rill: ") if said.startswith("rill: ") else ""


class _Present(logging.Filter):
    """Adds to each record which node of this process it is of."""

    def filter(self, record: logging.LogRecord) -> bool:
        if name := present.get():
            record.node = name
        return True


def keep_up(directory: Path) -> int:
    """Be the keeper, until the network is taken down or a signal comes; return the exit code."""
    start_logging("info")
    for handler in logging.getLogger("rill").handlers:
        handler.addFilter(_Present())
    try:
        trio.run(_keep, Place(directory))
    except FAILURES as failed:
        typer.echo(f"rill: {failed}", err=True)
        return FAILED
    return 0


async def _keep(place: Place) -> None:
    async with until_signal():
        await keep(place)
