"""`rill testnet up`: the network is written down, its keeper started, and waited for."""

import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import trio
import typer
from rich.console import Console

from node.cli.logs import start_logging
from node.cli.signals import until_signal
from node.cli.testnet_calls import FAILED, USAGE, ask_up, print_status, say_failed
from node.daemon.rpc_client import NodeUnreachable
from node.lab.scenario.model import Scenario
from node.lab.scenario.reading import BadScenario, NoScenario, load_scenario
from node.lab.scenario.shapes import SHAPES, WrongShape, shaped
from node.lab.testnet.keeper import FAILURES, keep
from node.lab.testnet.members import present
from node.lab.testnet.place import NoTestnet, Place, PlaceTaken, Setup

LOOK_SECONDS = 0.05
_PROGRAM = (sys.executable, "-c", "from node.cli.main import main; main()")


class UpWish(NamedTuple):
    """What the command line said."""

    topology: str | None
    nodes: int
    capacity_sat: int
    seed: int
    has_processes: bool
    backend: str


def bring_up(directory: Path, wish: UpWish, *, as_json: bool) -> int:
    """Start the network and wait until it is routable; return the exit code."""
    place = Place(directory.absolute())
    try:
        if not place.is_made:
            scenario = scenario_of(wish)
            place.make(scenario, Setup(has_processes=wish.has_processes, backend=wish.backend))
        elif wish.topology is not None:
            name = place.scenario().name
            raise PlaceTaken(
                f"{directory} holds the network {name} already: start it with `rill testnet up --dir "
                f"{directory}`, or forget it with `rill testnet down --remove --dir {directory}`"
            )
        place.scenario()
    except (WrongShape, BadScenario, NoScenario) as wrong:
        return say_failed(wrong, USAGE)
    except (PlaceTaken, NoTestnet, OSError) as wrong:
        return say_failed(wrong)
    return _start(place, as_json=as_json)


def scenario_of(wish: UpWish) -> Scenario:
    """The network that was asked for.

    Raises:
        WrongShape, BadScenario, NoScenario: there is no such.
    """
    topology = wish.topology or "line"
    if topology in SHAPES:
        return shaped(topology, wish.nodes, wish.seed, wish.capacity_sat)
    return load_scenario(topology)


def _start(place: Place, *, as_json: bool) -> int:
    try:
        ask_up(place, "status")
    except NodeUnreachable:
        pass
    else:
        return say_failed(f"the network in {place.directory} is up already")
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
    return say_failed(_last_words(place))


def _last_words(place: Place) -> str:
    """Why the keeper ended: the sentence it ended with, or where to look."""
    lines = place.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    said = lines[-1] if lines else ""
    return said.removeprefix("rill: ") if said.startswith("rill: ") else f"it ended: see {place.log_path}"


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
