"""`rill demo`: from the command line to the plan, from signals to a clean end, from account to print."""

import logging
import signal
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import msgspec
import trio
import typer

from node.cli.screen import Screen, print_account
from node.lab.account import Account
from node.lab.demo import FAILURES, play
from node.lab.plan import BadPlan, FileMissing, Plan, PortTaken
from wire.units import Msat

FAILED, USAGE = 1, 2


class Interrupted(Exception):
    """A signal ended the demo before its end."""

    def __init__(self, number: int, has_channels: bool) -> None:
        self.exit_code = 128 + number
        what = "the channels are left as they are, none was closed" if has_channels else "no channel was open"
        super().__init__(f"interrupted by {signal.Signals(number).name}: {what}, and the local chain is gone")


def run_demo(wish: dict[str, Any], *, as_json: bool) -> int:
    """Carry out the demo; return the exit code."""
    logging.getLogger("rill").addHandler(logging.NullHandler())
    with ExitStack() as kept, Screen() as screen:
        try:
            plan = plan_of(wish, kept).checked()
            account = _run(plan, screen)
        except Interrupted as interrupted:
            return _end(screen, interrupted, interrupted.exit_code)
        except PortTaken as taken:
            return _end(screen, taken, FAILED)
        except BadPlan as bad:
            return _end(screen, bad, USAGE)
        except FAILURES as failure:
            return _end(screen, failure, FAILED)
    if as_json:
        typer.echo(msgspec.json.encode(account).decode())
    else:
        print_account(account, plan)
    return 0 if account.conserved else FAILED


def plan_of(wish: dict[str, Any], kept: ExitStack) -> Plan:
    """The plan of these arguments; the bundled film stays a file as long as `kept` is open.

    Raises:
        FileMissing: the film that ships with the package was not shipped.
    """
    film = wish["film"]
    if film is None:
        film = kept.enter_context(as_file(files("node.stream.film") / "rill.mp4"))
        if not film.exists():
            raise FileMissing(film)
    out = wish["out"] or Path(f"rill-demo-{film.name}")
    terms = {**wish, "film": film, "out": out, "price_msat": Msat(wish["price_msat"])}
    return Plan(name=film.name, **terms)


def _run(plan: Plan, screen: Screen) -> Account:
    """Play the demo; whatever ends it comes alone, not in the groups that nurseries make."""
    try:
        return trio.run(_play, plan, screen)
    except ExceptionGroup as group:
        raise first_of(group) from group


def first_of(group: ExceptionGroup[Exception]) -> Exception:
    """The first exception of a group that is none itself."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, ExceptionGroup) else first


async def _play(plan: Plan, screen: Screen) -> Account:
    """Play the demo until its end or a signal.

    Raises:
        Interrupted: by SIGINT or SIGTERM.
        ExceptionGroup: as `play`.
    """
    account: Account | None = None
    caught: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(_await_signal, caught, nursery.cancel_scope)
        account = await play(plan, screen)
        nursery.cancel_scope.cancel()
    if account is None:
        raise Interrupted(caught[0], screen.has_channels)
    return account


async def _await_signal(
    caught: list[int], scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            caught.append(number)
            scope.cancel()
            return


def _end(watcher: Screen, reason: Exception, code: int) -> int:
    watcher.stop()
    typer.echo(f"rill: {reason}", err=True)
    return code
