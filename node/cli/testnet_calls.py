"""The commands of `rill testnet` that ask a network which is up, or look into its directory."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import msgspec
import trio
import typer
from rich.console import Console
from rich.table import Table

from node.cli.client_call import Call, Shape, call_node
from node.daemon.rpc import SOCKET_NAME
from node.daemon.rpc_client import NodeClient, NodeUnreachable
from node.daemon.rpc_parameters import CommandFailed
from node.lab.scenario.reading import BadScenario
from node.lab.testnet.place import NETWORK, OPEN, BadArchive, NoTestnet, Place, PlaceTaken

FAILED, USAGE = 1, 2
LOOK_SECONDS = 0.02
DOWN_SECONDS = 60.0
BAR_CELLS = 20


def ask_up(place: Place, method: str, *parameters: Any) -> Any:
    """One command of the network itself.

    Raises:
        NodeUnreachable: it is down.
        CommandFailed: it refuses.
    """

    async def call() -> Any:
        return await NodeClient(place.directory).call(method, *parameters)

    return trio.run(call)


def say_failed(why: object, code: int = FAILED) -> int:
    """One sentence on stderr; the exit code."""
    typer.echo(f"rill: {why}", err=True)
    return code


def print_json(shown: object) -> None:
    """One JSON object on one line."""
    typer.echo(msgspec.json.encode(shown).decode())


def ask(directory: Path, method: str, *parameters: Any) -> Any | int:
    """The result of a command, or after a sentence on stderr the exit code."""
    place = Place(directory)
    try:
        return ask_up(place, method, *parameters)
    except NodeUnreachable:
        if not place.is_made:
            return say_failed(NoTestnet(directory))
        return say_failed(f"the network is down: `rill testnet up --dir {directory}` starts it")
    except CommandFailed as refused:
        return say_failed(refused)


# --- what is there


def show_status(directory: Path, *, as_json: bool) -> int:
    """Print the network; a network that is down is no failure."""
    place = Place(directory)
    try:
        status = ask_up(place, "status")
    except NodeUnreachable:
        return _show_down(place, as_json=as_json)
    if status["ready"]:
        print_status(place, status, as_json=as_json)
    elif as_json:
        print_json({"up": False, **status})
    else:
        typer.echo(f"starting: {status['stage']}")
    return 0


def _show_down(place: Place, *, as_json: bool) -> int:
    try:
        scenario = place.scenario()
    except (NoTestnet, BadScenario) as none:
        return say_failed(none)
    if as_json:
        print_json({"up": False, "ready": False, "name": scenario.name, "nodes": scenario.names})
    else:
        typer.echo(f"{scenario.name} is down: {len(scenario.node)} nodes, {len(scenario.channel)} channels")
    return 0


def print_status(place: Place, status: dict[str, Any], *, as_json: bool) -> None:
    """The network as a table, or as JSON."""
    if as_json:
        print_json({"up": True, **status})
        return
    console = Console()
    console.print(
        f"{status['name']}: {len(status['nodes'])} nodes, {len(status['channels'])} channels, "
        f"height {status['height']}, in {place.directory}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "id", "in channels, sat", "fees earned, msat"):
        table.add_column(heading, justify="right" if "," in heading else "left")
    for node in status["nodes"]:
        if node["up"]:
            earned = f"{node['fees_earned_msat']:,}"
            table.add_row(node["name"], node["id"][:16] + "…", f"{node['balance_msat'] // 1000:,}", earned)
        else:
            table.add_row(node["name"], "down", "", "")
    console.print(table)
    for channel in status["channels"]:
        if "balances_msat" in channel:
            console.print(_line_of(channel), highlight=False, soft_wrap=True)


def _line_of(channel: dict[str, Any]) -> str:
    (a, b), (left_msat, right_msat) = channel["nodes"], channel["balances_msat"]
    b = b if len(b) < 40 else b[:16] + "…"
    state = "" if channel["state"] == OPEN else f"  {channel['state']}"
    cells = round(BAR_CELLS * left_msat / max(1, left_msat + right_msat))
    bar = "━" * cells + "╌" * (BAR_CELLS - cells)
    return f"{a:>12} {left_msat // 1000:>12,} {bar} {right_msat // 1000:<12,} {b}{state}"


# --- what can be done with it


def take_down(directory: Path, *, remove: bool, as_json: bool) -> int:
    """Stop the network and wait until it has ended; one that is down already is no failure."""
    place = Place(directory)
    was_up = True
    try:
        ask_up(place, "down")
    except NodeUnreachable:
        from node.lab.testnet.leftovers import end_leftovers

        was_up = False
        try:
            trio.run(end_leftovers, place)
        except (NoTestnet, BadScenario) as none:
            return say_failed(none)
    if was_up and not trio.run(_ended, place):
        return say_failed(f"the network does not end: see {place.log_path}")
    if remove:
        place.remove()
    if as_json:
        print_json({"was_up": was_up, "removed": remove})
    else:
        typer.echo(("down" if was_up else "was down already") + (", and removed" if remove else ""))
    return 0


async def _ended(place: Place) -> bool:
    """Whether the keeper is gone: its socket is the last thing that it takes away."""
    with trio.move_on_after(DOWN_SECONDS):
        while NodeClient(place.directory).path.exists():  # noqa: ASYNC110 - there is no event between processes
            await trio.sleep(LOOK_SECONDS)
        return True
    return False


def make_payment(directory: Path, payer: str, payee: str, amount: str, *, as_json: bool) -> int:
    """Pay, and print what it cost."""
    paid = ask(directory, "pay", payer, payee, amount)
    if isinstance(paid, int):
        return paid
    if as_json:
        print_json(paid)
    else:
        typer.echo(
            f"{payer} paid {payee} {paid['amount_msat']:,} msat, and {paid['fee_msat']:,} msat in fees, "
            f"in {paid['seconds']} s"
        )
    return 0


def mine_blocks(directory: Path, count: int, *, as_json: bool) -> int:
    """Mine, and print the height."""
    mined = ask(directory, "mine", count)
    if isinstance(mined, int):
        return mined
    if as_json:
        print_json(mined)
    else:
        typer.echo(f"height {mined['height']}")
    return 0


def fund_node(directory: Path, node: str, amount_sat: int, *, as_json: bool) -> int:
    """Fund, and print where the coins are."""
    funded = ask(directory, "fund", node, amount_sat)
    if isinstance(funded, int):
        return funded
    if as_json:
        print_json(funded)
    else:
        typer.echo(f"{node} has {amount_sat:,} sat more, at {funded['address']}")
    return 0


def view_network(directory: Path, port: int, *, is_opened: bool, as_json: bool) -> int:
    """Print the link to the page, and open it where there is a screen."""
    viewed = ask(directory, "view", port)
    if isinstance(viewed, int):
        return viewed
    if as_json:
        print_json(viewed)
        return 0
    typer.echo(viewed["url"])
    if is_opened:
        typer.launch(viewed["url"])
    return 0


def execute_on(directory: Path, node: str, method: str, parameters: list[str], *, as_json: bool) -> int:
    """One command of one node, over its own socket."""
    place = Place(directory)
    try:
        names = place.scenario().names
    except (NoTestnet, BadScenario) as none:
        return say_failed(none)
    if node not in names:
        return say_failed(f"there is no node called {node}", USAGE)
    path = place.node_directory(node) / NETWORK / SOCKET_NAME
    return call_node(path, Call(method, tuple(parameters)), Shape.JSON if as_json else Shape.TABLES)


def show_logs(directory: Path, node: str | None, count: int, *, as_json: bool) -> int:
    """The last lines of the network's log, of one node or of all."""
    found = _log_of(directory, node)
    if isinstance(found, int):
        return found
    log, is_meant = found
    with log:
        last = deque((line.rstrip("\n") for line in log if is_meant(line)), maxlen=count)
    if as_json:
        print_json({"lines": list(last)})
    else:
        for line in last:
            typer.echo(line)
    return 0


def follow_logs(directory: Path, node: str | None, count: int, *, as_json: bool) -> int:
    """The last lines and all that come, each an object of its own if as JSON; until interrupted."""
    found = _log_of(directory, node)
    if isinstance(found, int):
        return found
    log, is_meant = found
    with log:
        last = deque((line for line in log if is_meant(line)), maxlen=count)
        while True:
            while last:
                line = last.popleft().rstrip("\n")
                print_json({"line": line}) if as_json else typer.echo(line)
            if fresh := log.readline():
                last.extend([fresh] if is_meant(fresh) else [])
            else:
                time.sleep(LOOK_SECONDS)


def _log_of(directory: Path, node: str | None) -> tuple[TextIO, Callable[[str], bool]] | int:
    """An open log, and which of its lines are meant; or after a sentence on stderr the exit code."""
    place = Place(directory)
    try:
        names, setup = place.scenario().names, place.setup()
    except (NoTestnet, BadScenario) as none:
        return say_failed(none)
    if node is not None and node not in names:
        return say_failed(f"there is no node called {node}", USAGE)
    is_own = node is not None and setup.has_processes
    path = place.node_directory(str(node)).with_suffix(".log") if is_own else place.log_path
    mark = f"node={node}"
    try:
        log = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return say_failed(f"nothing was said yet: there is no {path}")
    return log, lambda line: node is None or is_own or mark in line.split()


def export_network(directory: Path, file: Path, *, as_json: bool) -> int:
    """Write the archive; the network must be down."""
    place = Place(directory)
    try:
        ask_up(place, "status")
    except NodeUnreachable:
        pass
    else:
        return say_failed(f"the network in {directory} is up: `rill testnet down --dir {directory}` first")
    try:
        place.export(file)
    except (NoTestnet, OSError) as failed:
        return say_failed(failed)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        typer.echo(f"{file}: {file.stat().st_size:,} bytes")
    return 0


def import_network(directory: Path, file: Path, *, as_json: bool) -> int:
    """Unpack an archive."""
    place = Place(directory)
    try:
        place.import_from(file)
        scenario = place.scenario()
    except (PlaceTaken, BadArchive, BadScenario, OSError) as failed:
        return say_failed(failed)
    if as_json:
        print_json({"directory": str(directory), "name": scenario.name, "nodes": scenario.names})
    else:
        typer.echo(f"{scenario.name} is in {directory}: `rill testnet up --dir {directory}` starts it")
    return 0
